"""Routes of the pages. They show everything to everybody: this GitHub is for one machine."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from standin_github.clock import iso
from standin_github.diff import FileChange, changed_files, commit_at, commits_between
from standin_github.git import Git, GitError
from standin_github.hub import Hub
from standin_github.pages import installing, markdown, registration
from standin_github.pages.visit import Context, Visit
from standin_github.records import Issue, Repository
from standin_github.rest.contents import entry_at, folder

TEMPLATES = Path(__file__).with_name("templates")
README = ("README.md", "README", "readme.md")


Page = Callable[[Visit], Awaitable[Response]]


def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"markdown": markdown.render, "iso": iso, "ago": ago}
    return made


def ago(moment: float) -> str:
    """Roughly how long since."""
    seconds = max(0, int(time.time() - moment))
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _shared(hub: Hub, repository: Repository, tab: str) -> Context:
    """What the head of every repository page needs."""
    rows = [i for i in hub.state.issues.values() if i.repository_id == repository.id]
    full_name = hub.state.full_name(repository)
    return {
        "repository": repository,
        "full_name": full_name,
        "page": hub.urls.html(f"/{full_name}"),
        "tab": tab,
        "open_issues": sum(i.state == "open" and not i.is_pull for i in rows),
        "open_pulls": sum(i.state == "open" and i.is_pull for i in rows),
    }


async def home(visit: Visit) -> Response:
    rows = sorted(visit.hub.state.repositories.values(), key=lambda r: -r.pushed_at)
    return visit.render("home.html", repositories=rows)


async def repository_page(visit: Visit) -> Response:
    repository = visit.repository()
    if repository is None:
        return visit.missing()
    ref = repository.default_branch
    sha = await visit.hub.git.resolve(repository.id, ref)
    entries = [] if sha is None else await folder(visit.hub.git, repository.id, sha, "")
    entries.sort(key=lambda e: (e.kind != "dir", e.path))
    names = [e.path for e in entries]
    readme = next((name for name in README if name in names), None)
    text = None
    if sha is not None and readme is not None:
        text = await visit.hub.git.text(repository.id, "show", f"{sha}:{readme}")
    commit = None if sha is None else await commit_at(visit.hub.git, repository.id, sha)
    shared = _shared(visit.hub, repository, "code")
    return visit.render("repository.html", entries=entries, readme=text, commit=commit, **shared)


async def file_page(visit: Visit) -> Response:
    """A file, or a folder's list; the ref is one part of the path."""
    repository = visit.repository()
    sha = None
    if repository is not None:
        sha = await visit.hub.git.resolve(repository.id, visit.path["ref"])
    if repository is None or sha is None:
        return visit.missing()
    path = visit.path["path"].strip("/")
    entry = await entry_at(visit.hub.git, repository.id, sha, path)
    if entry is None:
        return visit.missing()
    shared = _shared(visit.hub, repository, "code") | {"path": path, "ref": visit.path["ref"]}
    if entry.kind == "dir":
        entries = await folder(visit.hub.git, repository.id, sha, path)
        return visit.render("folder.html", entries=entries, **shared)
    content = await visit.hub.git.run(repository.id, "cat-file", "blob", entry.sha)
    lines = content.decode(errors="replace").splitlines()
    return visit.render("file.html", lines=lines, **shared)


async def issues_page(visit: Visit) -> Response:
    return _list(visit, "issues")


async def pulls_page(visit: Visit) -> Response:
    return _list(visit, "pulls")


def _list(visit: Visit, tab: str) -> Response:
    repository = visit.repository()
    if repository is None:
        return visit.missing()
    rows = [i for i in visit.hub.state.issues.values() if i.repository_id == repository.id]
    rows = [i for i in reversed(rows) if i.is_pull == (tab == "pulls")]
    return visit.render("list.html", rows=rows, **_shared(visit.hub, repository, tab))


async def issue_page(visit: Visit) -> Response:
    """Either address leads to the right one of the two kinds."""
    repository = visit.repository()
    number = visit.path["number"]
    issue = None if repository is None else visit.hub.state.issue(repository, number)
    if repository is None or issue is None:
        return visit.missing()
    shown_as_pull = visit.request.url.path.split("/")[3] == "pull"
    shared = _shared(visit.hub, repository, "pulls" if issue.is_pull else "issues")
    if shown_as_pull != issue.is_pull:
        kind = "pull" if issue.is_pull else "issues"
        return RedirectResponse(f"{shared['page']}/{kind}/{number}")
    if not issue.is_pull:
        return visit.render("issue.html", issue=issue, **shared)
    return visit.render("pull.html", **shared, **await _pull_context(visit.hub, repository, issue))


async def _pull_context(hub: Hub, repository: Repository, issue: Issue) -> Context:
    pull = hub.state.pull_of(issue)
    checks = [c for c in hub.state.check_runs.values() if c.repository_id == repository.id]
    return {
        "issue": issue,
        "pull": pull,
        "files": await _files(hub.git, repository.id, pull.base_sha, pull.head_sha),
        "commits": await commits_between(hub.git, repository.id, pull.base_sha, pull.head_sha),
        "checks": [c for c in checks if c.head_sha == pull.head_sha],
    }


async def _files(git: Git, repository_id: int, base: str, head: str) -> list[FileChange]:
    try:
        return await changed_files(git, repository_id, base, head)
    except GitError:
        return []


async def pull_part(visit: Visit) -> Response:
    """GitHub's tabs are parts of one page here."""
    path, _, part = visit.request.url.path.rpartition("/")
    return RedirectResponse(f"{visit.hub.urls.base}{path}#{part}")


async def pull_diff(visit: Visit) -> Response:
    repository = visit.repository()
    number = visit.path["number"]
    issue = None if repository is None else visit.hub.state.issue(repository, number)
    if repository is None or issue is None or not issue.is_pull:
        return visit.missing()
    pull = visit.hub.state.pull_of(issue)
    diff = await visit.hub.git.run(repository.id, "diff", f"{pull.base_sha}...{pull.head_sha}")
    return PlainTextResponse(diff.decode(errors="replace"))


async def stylesheet(visit: Visit) -> Response:
    return Response((TEMPLATES / "style.css").read_text(), media_type="text/css")


async def avatar(visit: Visit) -> Response:
    """An initial on a colour that the login decides."""
    login = visit.path["login"].removesuffix(".svg")
    digest = hashlib.sha256(login.encode()).digest()
    letter = next((c for c in login if c.isalnum()), "·").upper()
    svg = visit.templates.get_template("avatar.svg").render(
        hue=digest[0] * 360 // 256, letter=letter
    )
    return Response(svg, media_type="image/svg+xml")


def _route(path: str, page: Page, method: str = "GET") -> Route:
    async def endpoint(request: Request) -> Response:
        return await page(Visit(request.app.state.hub, request.app.state.templates, request))

    return Route(path, endpoint, methods=[method])


REPOSITORY = "/{owner}/{repo}"
ROUTES = [
    _route("/", home),
    _route("/_assets/style.css", stylesheet),
    _route("/avatars/{login}", avatar),
    *(
        _route(f"{prefix}/settings/apps{path}", page, method)
        for prefix in ("", "/organizations/{org}")
        for path, page, method in (
            ("/new", registration.explain, "GET"),
            ("/new", registration.new_app, "POST"),
            ("/manifests", registration.create, "POST"),
        )
    ),
    # The cloud's address of an App, and that of a GitHub Enterprise Server.
    *(
        _route(f"/{apps}/{{slug}}{path}", page, method)
        for apps in ("apps", "github-apps")
        for path, page, method in (
            ("", installing.app_page, "GET"),
            ("/installations/new", installing.choose, "GET"),
            ("/installations/new", installing.install, "POST"),
        )
    ),
    _route(REPOSITORY, repository_page),
    _route(f"{REPOSITORY}/issues", issues_page),
    _route(f"{REPOSITORY}/pulls", pulls_page),
    _route(f"{REPOSITORY}/issues/{{number:int}}", issue_page),
    _route(f"{REPOSITORY}/pull/{{number:int}}", issue_page),
    _route(f"{REPOSITORY}/pull/{{number:int}}.diff", pull_diff),
    _route(f"{REPOSITORY}/pull/{{number:int}}/files", pull_part),
    _route(f"{REPOSITORY}/pull/{{number:int}}/commits", pull_part),
    _route(f"{REPOSITORY}/pull/{{number:int}}/checks", pull_part),
    _route(f"{REPOSITORY}/blob/{{ref}}/{{path:path}}", file_page),
    _route(f"{REPOSITORY}/tree/{{ref}}/{{path:path}}", file_page),
]
