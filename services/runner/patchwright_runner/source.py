"""Where a job's code comes from: the mirror, brought up to the base with the job's token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from patchwright_common.credentials import TokenRequest
from patchwright_common.errors import Permanent
from patchwright_common.events import JobRequested
from patchwright_git.remote import TokenRefusedError
from patchwright_github.address import lies_on
from patchwright_runner.workshop import Workshop

Done = TypeVar("Done")


async def mirrored(shop: Workshop, job: JobRequested) -> Path:
    """The mirror, with the job's base in it. Raises `Permanent` and `Retry`."""
    repository = job.repository
    if not lies_on(repository.clone_url, shop.github):
        raise Permanent(
            "The repository lies on another host than the GitHub that Patchwright works for.",
            advice="Operators: PATCHWRIGHT_GITHUB_API_URL says which one that is.",
        )

    async def fetch(token: SecretStr) -> Path:
        return await shop.mirror.fetch(
            repository.id, repository.clone_url, token.get_secret_value(), sha=job.base
        )

    return await with_token(shop, job, fetch)


async def with_token(
    shop: Workshop, job: JobRequested, do: Callable[[SecretStr], Awaitable[Done]]
) -> Done:
    """Let `do` have the job's token, and another one when that is refused."""
    request = TokenRequest(
        installation_id=job.repository.installation_id,
        repository_id=job.repository.id,
        job_id=job.job_id,
    )
    token = await shop.vault.token(request)
    try:
        return await do(token)
    except TokenRefusedError:
        return await do(await shop.vault.token(request, refused=token))
