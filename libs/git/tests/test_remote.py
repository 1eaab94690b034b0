"""What git's words about a remote mean for the job."""

from __future__ import annotations

import pytest

from patchwright_common.errors import Permanent, Retry
from patchwright_git.command import GitFailed
from patchwright_git.remote import TokenRefusedError, explained

_ACCESS = "fatal: unable to access 'http://h/o/r.git/': "


@pytest.mark.parametrize(
    "said",
    [
        _ACCESS + "Could not resolve host: h",
        _ACCESS + "Failed to connect to h port 80: Connection refused",
        _ACCESS + "Operation too slow. Less than 1000 bytes/sec transferred the last 30 seconds",
        _ACCESS + "Empty reply from server",
        _ACCESS + "The requested URL returned error: 500",
        _ACCESS + "The requested URL returned error: 503",
        _ACCESS + "The requested URL returned error: 429",
        _ACCESS + "The requested URL returned error: 302",
        "error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502",
        "error: RPC failed; curl 56 Recv failure: Connection reset by peer\nfatal: early EOF",
        "fatal: the remote end hung up unexpectedly",
        "remote: Invalid username or token.\nfatal: Authentication failed for 'http://h/o/r.git/'",
        "fatal: could not read Username for 'http://h': terminal prompts disabled",
        "words that no git has said before",
    ],
)
def test_what_time_may_cure_is_a_retry(said: str) -> None:
    meaning = explained(GitFailed("fetch", 128, said))
    assert isinstance(meaning, Retry)
    assert meaning.reason.endswith(said.rpartition("\n")[2])
    refused = "Authentication failed" in said or "could not read" in said
    assert isinstance(meaning, TokenRefusedError) == refused


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("remote: Repository not found.\nfatal: repository 'x' not found", "was not found"),
        (_ACCESS + "The requested URL returned error: 404", "was not found"),
        (_ACCESS + "The requested URL returned error: 301", "has moved"),
        (
            f"remote: It was archived.\n{_ACCESS}The requested URL returned error: 403",
            "was denied. It was archived.",
        ),
        ("fatal: remote error: upload-pack: not our ref 0123", "does not exist"),
        ("fatal: couldn't find remote ref 0123", "does not exist"),
        ("error: object 01: hasDotgit: contains '.git'\nfatal: fsck error in pack", "refuses"),
    ],
)
def test_what_the_server_said_for_good_is_permanent(said: str, reason: str) -> None:
    meaning = explained(GitFailed("fetch", 128, said))
    assert isinstance(meaning, Permanent)
    assert reason in meaning.reason


def test_long_and_many_words_are_cut_to_one_line() -> None:
    meaning = explained(GitFailed("push", 1, "a\nb\r\tc" + "x" * 5000), "Pushing")
    assert meaning.reason.startswith("Pushing failed: b cx")
    assert len(meaning.reason) < 400
