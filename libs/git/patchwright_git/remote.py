"""What it means that git could not talk to a remote: the only place that reads its words."""

from __future__ import annotations

import re

from patchwright_common.errors import Permanent, Retry
from patchwright_git.command import GitFailed

LINE_LIMIT = 300
"""Characters of git's last line that an error quotes."""
_STATUS = re.compile(r"returned error: (\d{3})|HTTP (\d{3})")


_UNAUTHORIZED = re.compile(r"authentication failed|could not read (user|pass)", re.IGNORECASE)


class TokenRefusedError(Retry):
    """The server did not accept the token: it expired or was revoked meanwhile."""


def explained(error: GitFailed, doing: str = "Fetching the repository") -> Retry | Permanent:
    """`Permanent` for what the server said for good, with a sentence for the maintainer.

    Everything else is a `Retry`: a network that is away has too many voices to list them,
    and a token that is refused (401) may be followed by a better one.
    """
    said = error.said.strip()
    status = _STATUS.search(said)
    code = int(status[1] or status[2]) if status else 0
    if code in (301, 308):
        return Permanent(
            "The repository has moved since this was asked.",
            advice="Ask again, so that Patchwright learns its new name.",
        )
    if code == 404 or "not found" in said.lower():
        return Permanent(
            "The repository was not found, or Patchwright has no access to it.",
            advice="Check that the App is installed on this repository.",
        )
    if code == 403:
        return Permanent(
            f"Access to the repository was denied. {_remote_words(said)}".strip(),
            advice="Check that the App is not suspended and has access to the contents.",
        )
    if "fsck" in said.lower() or "error in object" in said.lower():
        return Permanent(f"The repository holds objects that git refuses: {last_line(said)}")
    if "not our ref" in said or "couldn't find remote ref" in said:
        return Permanent("The base commit does not exist in the repository any more.")
    refused = code == 401 or _UNAUTHORIZED.search(said)
    kind = TokenRefusedError if refused else Retry
    return kind(f"{doing} failed: {last_line(said)}")


def _remote_words(said: str) -> str:
    """What the server had to say: that the repository is archived, for one."""
    lines = (line for line in said.splitlines() if line.startswith("remote: "))
    return " ".join(" ".join(lines).replace("remote: ", "").split())[:LINE_LIMIT]


def last_line(said: str) -> str:
    """Git's conclusion, on one line that may be shown."""
    return " ".join(said.strip().rpartition("\n")[2].split())[:LINE_LIMIT]
