"""What a token may do, by who asks. Which identity may ask for what is in `requests.py`.

An installation token is scoped to one repository and to the permissions that the
asker's purpose needs, in GitHub's names
(https://docs.github.com/rest/authentication/permissions-required-for-github-apps).
"""

from __future__ import annotations

TOKEN_PERMISSIONS: dict[str, dict[str, str]] = {
    # Reads the thread, the branch's head and who the sender is.
    "triage": {"contents": "read", "issues": "read", "metadata": "read"},
    # Fetches the mirror. It can never write to GitHub.
    "runner": {"contents": "read", "metadata": "read"},
    # The only writer. No `workflows`: a change of a workflow file cannot be pushed.
    "publisher": {
        "checks": "write",
        "contents": "write",
        "issues": "write",
        "metadata": "read",
        "pull_requests": "write",
    },
}
