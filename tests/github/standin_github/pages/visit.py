"""One look at a page: what its endpoint gets, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import Response

from standin_github.hub import Hub
from standin_github.pages import patch, thread
from standin_github.records import Repository

Context = dict[str, Any]
POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'"


@dataclass(frozen=True, slots=True)
class Visit:
    """One look at a page."""

    hub: Hub
    templates: Environment
    request: Request

    @property
    def path(self) -> Context:
        return self.request.path_params

    def repository(self) -> Repository | None:
        return self.hub.state.repository(self.path["owner"], self.path["repo"])

    def render(self, name: str, status: int = 200, **context: Any) -> Response:
        state, base = self.hub.state, self.hub.urls.base
        shared = {"state": state, "thread": thread, "patch": patch, "base": base}
        html = self.templates.get_template(name).render(shared | context)
        headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        return Response(html, status, headers, media_type="text/html; charset=utf-8")

    def missing(self) -> Response:
        return self.render("missing.html", 404)
