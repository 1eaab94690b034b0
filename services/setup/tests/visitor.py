"""A browser without a screen: cookies, redirects, and the forms of the page that it is on."""

from __future__ import annotations

import html
import re
from typing import Self
from urllib.parse import urlsplit

import httpx

ORIGIN = "http://127.0.0.1:8083"


class Visitor:
    """`page` is the last answer after all redirects within the site."""

    def __init__(self, client: httpx.AsyncClient, origin: str = ORIGIN) -> None:
        self.client = client
        self.origin = origin
        self.page: httpx.Response | None = None

    @classmethod
    def of(cls, app: object, origin: str = ORIGIN) -> Self:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]
        return cls(httpx.AsyncClient(transport=transport, base_url=origin), origin)

    async def get(self, path: str) -> httpx.Response:
        self.page = await self._followed(await self.client.get(path))
        return self.page

    async def post(
        self, path: str, headers: dict[str, str] | None = None, **fields: str
    ) -> httpx.Response:
        """With the token of the page it is on, unless another one is given."""
        data = self.hidden() | fields
        sent = {"Origin": self.origin} | (headers or {})
        answer = await self.client.post(path, data=data, headers=sent)
        self.page = await self._followed(answer)
        return self.page

    async def enter(self, token: str) -> httpx.Response:
        await self.get(f"/start?token={token}")
        return await self.post("/start")

    def hidden(self) -> dict[str, str]:
        """The hidden fields of the page's first form."""
        text = self.page.text if self.page else ""
        form = re.search(r"<form.*?</form>", text, re.DOTALL)
        pairs = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form[0] if form else "")
        return {name: html.unescape(value) for name, value in pairs}

    def state(self) -> str:
        """What the review's form gives to GitHub."""
        text = self.page.text if self.page else ""
        found = re.search(r"settings/apps/new\?state=([^\"]+)", text)
        assert found, text
        return found[1]

    async def _followed(self, answer: httpx.Response) -> httpx.Response:
        while answer.is_redirect:
            assert not urlsplit(answer.headers["location"]).netloc
            answer = await self.client.get(answer.headers["location"])
        return answer
