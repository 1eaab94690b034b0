"""Whatever an operator's browser sends to the pages: an answer, and never their own failure."""

from __future__ import annotations

import random

import pytest

from harness.fuzz import TEXTS, strange

from .conftest import WANTED, Pages

FIELDS = [*WANTED, "code", "key", "app_id", "private_key", "webhook_secret", "state"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("inside", [False, True], ids=["a stranger", "the operator"])
async def test_strange_request_has_an_answer(pages: Pages, seed: int, inside: bool) -> None:
    client = pages.visitor.client
    if inside:
        await pages.visitor.enter(pages.door.new_link())
    for asked in strange(pages.app, seed, 150):
        answer = await client.request(
            asked.method, asked.url, headers=asked.headers, content=asked.body
        )
        assert answer.status_code < 500, asked


@pytest.mark.parametrize("path", ["/app", "/app/existing", "/app/again", "/model", "/finish"])
async def test_form_that_is_filled_in_strangely_has_an_answer(pages: Pages, path: str) -> None:
    await pages.visitor.enter(pages.door.new_link())
    chance = random.Random(path)  # noqa: S311 - not for secrets
    for _ in range(60):
        await pages.visitor.get("/app")
        fields = {name: chance.choice(TEXTS) for name in chance.sample(FIELDS, 4)}
        encodable = {name: text.encode(errors="replace").decode() for name, text in fields.items()}
        answer = await pages.visitor.post(path, **encodable)
        assert answer.status_code < 500, fields
        assert answer.status_code != 403, "the form's own token was not taken"
