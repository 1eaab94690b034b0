"""Pull requests between branches of one repository."""

from __future__ import annotations

from starlette.responses import Response

from standin_github import events
from standin_github.access import METADATA, READ_PULLS, WRITE_PULLS, on_issue
from standin_github.diff import changed_files, commits_between, merge_base
from standin_github.errors import ApiError, invalid, not_found, refused
from standin_github.records import Issue, Pull, Repository
from standin_github.refs import measure
from standin_github.rest.call import Call, answer, route
from standin_github.rest.fields import required, text, title
from standin_github.rest.issues import apply_changes, new_issue
from standin_github.views.pulls import pull as pull_view
from standin_github.views.pulls import pull_simple
from standin_github.views.repository import commit as commit_view
from standin_github.views.repository import file_change


async def open_pull(call: Call) -> Response:
    repository = call.repository(WRITE_PULLS)
    body = await call.json()
    heading, content = title(body, "PullRequest"), text(body, "PullRequest")
    head = _branch(call, repository, required(body, "head", "PullRequest"))
    base = required(body, "base", "PullRequest")
    async with call.hub.ref_locks[repository.id]:
        ends = await _ends(call, repository, head, base)
        _require_unique(call, repository, head, base)
        issue = new_issue(call, repository, heading, content)
        pull = Pull(call.state.new_id(), issue.id, head, ends[0], base, ends[1])
        issue.is_pull, pull.draft = True, bool(body.get("draft", False))
        call.state.pulls[pull.id] = pull
        await measure(call.hub, issue, pull)
    events.pull_changed(call.hub, issue, pull, call.actor(), "opened")
    return answer(pull_view(call.state, call.urls, issue, pull), 201)


def _branch(call: Call, repository: Repository, head: str) -> str:
    """`branch` or `owner:branch`; there are no forks here, so any other owner has no branches."""
    owner, colon, branch = head.partition(":")
    if not colon:
        return head
    if owner.lower() != call.state.accounts[repository.owner_id].login.lower():
        raise invalid("PullRequest", "head")
    return branch


async def _ends(call: Call, repository: Repository, head: str, base: str) -> tuple[str, str]:
    git = call.hub.git
    refs = await git.refs(repository.id)
    head_sha, base_sha = refs.get(f"refs/heads/{head}"), refs.get(f"refs/heads/{base}")
    if head_sha is None:
        raise invalid("PullRequest", "head")
    if base_sha is None:
        raise invalid("PullRequest", "base")
    if await merge_base(git, repository.id, base_sha, head_sha) is None:
        raise refused("PullRequest", f"The {head} branch has no history in common with {base}")
    if await git.is_ancestor(repository.id, head_sha, base_sha):
        raise refused("PullRequest", f"No commits between {base} and {head}")
    return head_sha, base_sha


def _require_unique(call: Call, repository: Repository, head: str, base: str) -> None:
    """Nothing is awaited between this check and the new row, so two requests cannot both pass."""
    for issue, pull in call.state.pulls_of(repository):
        if issue.state == "open" and (pull.head_ref, pull.base_ref) == (head, base):
            owner = call.state.accounts[repository.owner_id].login
            raise refused("PullRequest", f"A pull request already exists for {owner}:{head}.")


def _pull(call: Call, repository: Repository) -> tuple[Issue, Pull]:
    issue = call.issue(repository)
    if not issue.is_pull:
        raise not_found()
    return issue, call.state.pull_of(issue)


async def get_pull(call: Call) -> Response:
    issue, pull = _pull(call, call.repository(READ_PULLS))
    return answer(pull_view(call.state, call.urls, issue, pull))


async def list_pulls(call: Call) -> Response:
    """Newest first; `head` is `owner:branch`, any other form is ignored, as on GitHub."""
    repository = call.repository(READ_PULLS)
    state, base = call.query("state", "open"), call.query("base")
    owner = call.state.accounts[repository.owner_id].login.lower()
    rows = [(i, p) for i, p in call.state.pulls_of(repository) if state in {"all", i.state}]
    head_owner, colon, head = call.query("head").partition(":")
    if colon:
        rows = [x for x in rows if head_owner.lower() == owner and x[1].head_ref == head]
    if base:
        rows = [x for x in rows if x[1].base_ref == base]
    rows.sort(key=lambda x: x[0].number, reverse=call.query("direction", "desc") == "desc")
    page, headers = call.page(rows)
    return answer([pull_simple(call.state, call.urls, i, p) for i, p in page], headers=headers)


async def change_pull(call: Call) -> Response:
    repository = call.repository(METADATA)
    issue, pull = _pull(call, repository)
    own = call.actor().id == issue.author_id
    call.require(repository, on_issue(issue, "write", "read" if own else "write"))
    body = await call.json()
    if issue.state == "closed" and body.get("state") == "open":
        await _reopened_head(call, repository, pull)
    apply_changes(call, issue, body, "PullRequest")
    return answer(pull_view(call.state, call.urls, issue, pull))


async def _reopened_head(call: Call, repository: Repository, pull: Pull) -> None:
    refs = await call.hub.git.refs(repository.id)
    sha = refs.get(f"refs/heads/{pull.head_ref}")
    if sha is None:
        raise refused(
            "PullRequest",
            f"state cannot be changed. The {pull.head_ref} branch has been deleted.",
            "state",
        )
    pull.head_sha = sha


async def list_files(call: Call) -> Response:
    repository = call.repository(READ_PULLS)
    _, pull = _pull(call, repository)
    changes = await changed_files(call.hub.git, repository.id, pull.base_sha, pull.head_sha)
    page, headers = call.page(changes)
    rows = [file_change(call.state, call.urls, repository, pull.head_sha, f) for f in page]
    return answer(rows, headers=headers)


async def list_commits(call: Call) -> Response:
    repository = call.repository(READ_PULLS)
    _, pull = _pull(call, repository)
    commits = await commits_between(call.hub.git, repository.id, pull.base_sha, pull.head_sha)
    page, headers = call.page(commits)
    rows = [commit_view(call.state, call.urls, repository, c) for c in page]
    return answer(rows, headers=headers)


async def request_reviewers(call: Call) -> Response:
    repository = call.repository(WRITE_PULLS)
    issue, pull = _pull(call, repository)
    accounts = [call.state.account(n) for n in (await call.json()).get("reviewers") or []]
    known = [account.id for account in accounts if account is not None]
    if len(known) < len(accounts) or issue.author_id in known:
        raise ApiError(422, "Reviews may only be requested from collaborators.")
    pull.reviewer_ids = list(dict.fromkeys([*pull.reviewer_ids, *known]))
    return answer(pull_simple(call.state, call.urls, issue, pull), 201)


PULL = "/repos/{owner}/{repo}/pulls/{number}"
ROUTES = [
    route("POST", "/repos/{owner}/{repo}/pulls", open_pull),
    route("GET", "/repos/{owner}/{repo}/pulls", list_pulls),
    route("GET", PULL, get_pull),
    route("PATCH", PULL, change_pull),
    route("GET", f"{PULL}/files", list_files),
    route("GET", f"{PULL}/commits", list_commits),
    route("POST", f"{PULL}/requested_reviewers", request_reviewers),
]
