"""Fields of a request's body, refused in GitHub's words."""

from __future__ import annotations

from typing import Any

from standin_github.errors import invalid, refused
from standin_github.rest.call import BODY_MAX

Json = dict[str, Any]
TITLE_MAX = 256


def title(body: Json, resource: str) -> str:
    value = body.get("title")
    if value is None:
        raise invalid(resource, "title", "missing_field")
    if not isinstance(value, str | int) or not str(value).strip():
        raise invalid(resource, "title", "missing_field")
    if len(str(value)) > TITLE_MAX:
        raise refused(resource, f"title is too long (maximum is {TITLE_MAX} characters)", "title")
    return str(value)


def text(body: Json, resource: str) -> str | None:
    """The `body` field: optional, at most 65,536 characters."""
    value = body.get("body")
    if value is None:
        return None
    if not isinstance(value, str):
        raise invalid(resource, "body")
    if len(value) > BODY_MAX:
        raise refused(resource, f"body is too long (maximum is {BODY_MAX} characters)", "body")
    return value


def required_text(body: Json, resource: str) -> str:
    value = text(body, resource)
    if value is None or not value.strip():
        raise refused(resource, "body can't be blank", "body")
    return value


def required(body: Json, name: str, resource: str) -> str:
    value = body.get(name)
    if value is None:
        raise invalid(resource, name, "missing_field")
    if not isinstance(value, str):
        raise invalid(resource, name)
    return value


def names(value: Any, resource: str, field: str) -> list[str]:
    """A list of names, or of objects that have one."""
    if not isinstance(value, list):
        raise invalid(resource, field)
    found = [x.get("name") if isinstance(x, dict) else x for x in value]
    if not all(isinstance(x, str) and x for x in found):
        raise invalid(resource, field)
    return [str(x) for x in found]
