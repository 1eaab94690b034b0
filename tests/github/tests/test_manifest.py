"""The App manifest flow, from the form to the credentials and the installation."""

from __future__ import annotations

import html
import json
import re
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from githubkit_schemas.latest import models
from pydantic import TypeAdapter

from standin_github.client import StandinGitHub
from standin_github.manifest import CODE_LIFETIME, Codes, Conversion, ManifestError, parse
from standin_github.scene import Scene

Json = dict[str, Any]


def manifest(**changes: Any) -> Json:
    whole: Json = {
        "name": f"Patchwright {time.monotonic_ns() % 10**9}",
        "url": "https://example.org",
        "hook_attributes": {"url": "https://example.org/hook"},
        "redirect_url": "http://127.0.0.1:9/callback?kept=1",
        "setup_url": "http://127.0.0.1:9/installed",
        "public": False,
        "default_permissions": {"issues": "write", "contents": "write"},
        "default_events": ["issues", "issue_comment"],
    }
    return {k: v for k, v in (whole | changes).items() if v is not None}


async def create(
    github: StandinGitHub,
    http: httpx.AsyncClient,
    wanted: Json,
    *,
    person: str,
    organization: str = "",
    **changes: str,
) -> httpx.Response:
    """What a person's browser does: post the manifest, then the page's own form."""
    prefix = f"/organizations/{organization}" if organization else ""
    page = await http.post(
        f"{github.base_url}{prefix}/settings/apps/new?state=s1",
        data={"manifest": json.dumps(wanted)},
    )
    assert page.status_code == 200, page.text
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    form = {name: html.unescape(value) for name, value in hidden.items()}
    form |= {"name": wanted["name"], "person": person} | changes
    action = re.search(r'action="([^"]+)"', page.text)
    assert action is not None
    return await http.post(action[1], data=form)


async def conversion(
    github: StandinGitHub, http: httpx.AsyncClient, created: httpx.Response
) -> httpx.Response:
    query = parse_qs(urlsplit(created.headers["location"]).query)
    return await http.post(f"{github.api_url}/app-manifests/{query['code'][0]}/conversions")


async def test_code_becomes_working_credentials_once(
    scene: Scene, http: httpx.AsyncClient, receiver: Any
) -> None:
    github = scene.github
    wanted = manifest(hook_attributes={"url": receiver.url})
    created = await create(github, http, wanted, person=scene.person.login)
    assert created.status_code == 302
    query = parse_qs(urlsplit(created.headers["location"]).query)
    assert (query["state"], query["kept"]) == (["s1"], ["1"])
    answered = await conversion(github, http, created)
    assert answered.status_code == 201
    app = answered.json()
    TypeAdapter(models.AppManifestsCodeConversionsPostResponse201).validate_python(app)
    assert app["owner"]["login"] == scene.person.login
    assert app["permissions"] == {"metadata": "read", "issues": "write", "contents": "write"}
    assert app["events"] == ["issues", "issue_comment"]
    claims = {"iat": int(time.time()) - 5, "exp": int(time.time()) + 60, "iss": app["client_id"]}
    own = await github.api("GET", "/app", token=jwt.encode(claims, app["pem"], "RS256"))
    assert own["slug"] == app["slug"]
    await github.settled()
    [ping] = receiver.named("ping")
    assert ping.headers["X-Hub-Signature-256"]
    again = await conversion(github, http, created)
    assert again.status_code == 404


async def test_organizations_app_belongs_to_the_organization(
    scene: Scene, http: httpx.AsyncClient
) -> None:
    created = await create(
        scene.github, http, manifest(), person=scene.person.login, organization=scene.owner
    )
    app = (await conversion(scene.github, http, created)).json()
    assert app["owner"]["login"] == scene.owner
    unknown = await http.post(
        f"{scene.github.base_url}/organizations/no-such-org/settings/apps/new",
        data={"manifest": json.dumps(manifest())},
    )
    assert unknown.status_code == 404


async def test_taken_name_is_told_and_another_one_works(
    scene: Scene, http: httpx.AsyncClient
) -> None:
    wanted = manifest()
    person = scene.person.login
    assert (await create(scene.github, http, wanted, person=person)).status_code == 302
    refused = await create(scene.github, http, wanted, person=person)
    assert refused.status_code == 422
    assert "Name has already been taken" in refused.text
    other = await create(scene.github, http, wanted, person=person, name=f"{wanted['name']}b")
    assert other.status_code == 302


async def test_private_app_is_installed_by_its_owner_and_leads_back(
    scene: Scene, http: httpx.AsyncClient, receiver: Any
) -> None:
    github, login = scene.github, scene.person.login
    own = await github.create_repository(f"{login}/own", {"README.md": "x"})
    wanted = manifest(hook_attributes={"url": receiver.url})
    created = await create(github, http, wanted, person=login)
    app = (await conversion(github, http, created)).json()
    page = await http.get(f"{app['html_url']}/installations/new")
    assert f"{login}/own" in page.text
    assert scene.name not in page.text
    foreign = await http.post(
        f"{app['html_url']}/installations/new", data={"repository": str(scene.repository.id)}
    )
    assert foreign.status_code == 422
    done = await http.post(f"{app['html_url']}/installations/new", data={"repository": str(own.id)})
    back = urlsplit(done.headers["location"])
    assert back.path == "/installed"
    assert parse_qs(back.query)["setup_action"] == ["install"]
    await github.settled()
    [told] = receiver.named("installation")
    payload = json.loads(told.body)
    assert payload["action"] == "created"
    assert [str(payload["installation"]["id"])] == parse_qs(back.query)["installation_id"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": None}, '"url" wasn\'t supplied'),
        ({"redirect_url": None}, '"redirect_url" wasn\'t supplied'),
        ({"redirect_url": "javascript:alert(1)"}, "redirect_url must be a valid URL"),
        ({"setup_url": "nowhere"}, "setup_url must be a valid URL"),
        ({"hook_attributes": {"active": True}}, "hook_attributes.url"),
        ({"hook_attributes": {"url": "ftp://x"}}, "Hook url must be a valid URL"),
        ({"default_permissions": {"everything": "write"}}, "everything"),
        ({"default_permissions": {"issues": "own"}}, "no access level"),
        ({"default_events": ["pull_request"]}, "Default events unsupported: pull_request"),
        ({"default_events": ["installation"]}, "Default events unsupported: installation"),
    ],
)
async def test_wrong_manifest_is_refused_with_its_reason(
    github: StandinGitHub, http: httpx.AsyncClient, changes: Json, problem: str
) -> None:
    raw = json.dumps(manifest(**changes))
    with pytest.raises(ManifestError, match=re.escape(problem)):
        parse(raw)
    page = await http.post(f"{github.base_url}/settings/apps/new", data={"manifest": raw})
    assert page.status_code == 422
    assert problem in html.unescape(page.text)


def test_code_lives_an_hour() -> None:
    codes, made = Codes(), 1000.0
    early, late = (codes.issue(Conversion(1, "k", "s", "c", made)) for _ in range(2))
    assert codes.take(early, made + CODE_LIFETIME - 1) is not None
    assert codes.take(late, made + CODE_LIFETIME + 1) is None
