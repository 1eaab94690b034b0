"""Credentials: what the stand-in must refuse, because the real one does."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from standin_github.client import StandinGitHub
from standin_github.scene import Scene, make_scene


async def refusal(github: StandinGitHub, path: str, token: str, **more: Any) -> tuple[int, str]:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        await github.api(more.get("method", "GET"), path, more.get("body"), token=token)
    answer = caught.value.response
    return answer.status_code, answer.json()["message"]


async def test_app_jwt_names_its_app(scene: Scene) -> None:
    answer = await scene.github.api("GET", "/app", token=scene.app_jwt())
    assert answer["slug"] == scene.app.slug


async def test_client_id_is_accepted_as_issuer(scene: Scene) -> None:
    token = scene.app_jwt(iss=scene.app.client_id)
    assert (await scene.github.api("GET", "/app", token=token))["id"] == scene.app.id


@pytest.mark.parametrize(
    ("claims", "status", "words"),
    [
        ({"exp": -10}, 401, "must be a numeric value representing the future time"),
        ({"exp": 660}, 401, "is too far in the future"),
        ({"exp": None}, 401, "Missing 'expiration time' claim"),
        ({"iat": 120}, 401, "'Issued at' claim ('iat')"),
        ({"iat": None}, 401, "'Issued at' claim ('iat')"),
        ({"iss": "1"}, 404, "Integration not found"),
    ],
)
async def test_app_jwt_with_a_wrong_claim_is_refused(
    scene: Scene, claims: dict[str, Any], status: int, words: str
) -> None:
    now = int(time.time())
    moved: dict[str, Any] = {k: now + v if isinstance(v, int) else v for k, v in claims.items()}
    got = await refusal(scene.github, "/app", scene.app_jwt(**moved))
    assert got[0] == status
    assert words in got[1]


async def test_app_jwt_signed_with_another_key_is_refused(scene: Scene) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = stranger.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    got = await refusal(scene.github, "/app", scene.app_jwt(key=pem))
    assert got == (401, "A JSON web token could not be decoded")


async def test_app_jwt_without_a_signature_is_refused(scene: Scene) -> None:
    claims = jwt.decode(scene.app_jwt(), options={"verify_signature": False})
    got = await refusal(scene.github, "/app", jwt.encode(claims, "", algorithm="none"))
    assert got == (401, "A JSON web token could not be decoded")


async def test_app_jwt_signed_by_hmac_is_refused(scene: Scene) -> None:
    claims = jwt.decode(scene.app_jwt(), options={"verify_signature": False})
    token = jwt.encode(claims, "a secret of the attacker's own choice!", algorithm="HS256")
    assert (await refusal(scene.github, "/app", token))[0] == 401


async def test_rotated_keys_work_side_by_side(scene: Scene) -> None:
    second = await scene.github.add_key(scene.app.id)
    for token in (scene.app_jwt(), scene.app_jwt(key=second)):
        assert (await scene.github.api("GET", "/app", token=token))["id"] == scene.app.id


async def test_token_is_scoped_to_the_repositories_asked_for(scene: Scene) -> None:
    other = await scene.github.create_repository(f"{scene.owner}/other", private=True)
    await scene.github.install(scene.app.id, [other.full_name])
    token = await scene.token(repositories=["calculator"])
    listed = await scene.github.api("GET", "/installation/repositories", token=token)
    assert [r["full_name"] for r in listed["repositories"]] == [scene.name]
    got = await refusal(scene.github, f"/repos/{other.full_name}", token)
    assert got == (404, "Not Found")


async def test_token_has_no_more_than_the_permissions_asked_for(scene: Scene) -> None:
    token = await scene.token(permissions={"contents": "read"})
    await scene.github.api("GET", f"/repos/{scene.name}/branches/main", token=token)
    path = f"/repos/{scene.name}/issues"
    got = await refusal(scene.github, path, token, method="POST", body={"title": "x"})
    assert got == (403, "Resource not accessible by integration")
    sha = {"ref": "refs/heads/x", "sha": "0" * 40}
    path = f"/repos/{scene.name}/git/refs"
    got = await refusal(scene.github, path, token, method="POST", body=sha)
    assert got == (403, "Resource not accessible by integration")


@pytest.mark.parametrize(
    "body",
    [
        {"permissions": {"administration": "write"}},
        {"permissions": {"contents": "admin"}},
        {"repositories": ["somebody-elses"]},
        {"repository_ids": [1]},
    ],
)
async def test_token_beyond_the_installation_is_refused(scene: Scene, body: Any) -> None:
    path = f"/app/installations/{scene.installation_id}/access_tokens"
    got = await refusal(scene.github, path, scene.app_jwt(), method="POST", body=body)
    assert got[0] == 422


async def test_app_cannot_mint_tokens_of_another_apps_installation(scene: Scene) -> None:
    other = await make_scene(scene.github)
    path = f"/app/installations/{other.installation_id}/access_tokens"
    assert (await refusal(scene.github, path, scene.app_jwt(), method="POST"))[0] == 404


async def test_expired_token_is_refused(scene: Scene) -> None:
    await scene.github.change_settings(token_lifetime=0.2)
    token = await scene.token()
    await scene.github.change_settings(token_lifetime=3600)
    await asyncio.sleep(0.25)
    got = await refusal(scene.github, f"/repos/{scene.name}", token)
    assert got == (401, "Bad credentials")


async def test_revoked_token_is_refused(scene: Scene) -> None:
    token = await scene.token()
    await scene.github.api("DELETE", "/installation/token", token=token)
    got = await refusal(scene.github, f"/repos/{scene.name}", token)
    assert got == (401, "Bad credentials")


async def test_installation_token_cannot_act_as_the_app(scene: Scene) -> None:
    got = await refusal(scene.github, "/app", await scene.token())
    assert got == (401, "A JSON web token could not be decoded")


async def test_private_repository_is_hidden_from_strangers(scene: Scene) -> None:
    stranger = await scene.github.create_user("stranger")
    got = await refusal(scene.github, f"/repos/{scene.name}", stranger.token)
    assert got == (404, "Not Found")


async def test_reader_may_open_an_issue_but_not_label_it(scene: Scene) -> None:
    reader = await scene.github.create_user(f"reader-{scene.owner}")
    await scene.github.set_collaborator(scene.name, reader.login, "read")
    issue = await scene.github.open_issue(
        scene.name, "Title", token=reader.token, labels=["patchwright"]
    )
    assert issue["labels"] == []
    path = f"/repos/{scene.name}/issues/{issue['number']}/labels"
    body = {"labels": ["patchwright"]}
    got = await refusal(scene.github, path, reader.token, method="POST", body=body)
    assert got[0] == 403


async def test_permission_of_a_person_has_the_role_and_the_old_level(scene: Scene) -> None:
    triager = await scene.github.create_user(f"triager-{scene.owner}")
    await scene.github.set_collaborator(scene.name, triager.login, "triage")
    path = f"/repos/{scene.name}/collaborators/{triager.login}/permission"
    answer = await scene.github.api("GET", path, token=await scene.token())
    assert (answer["permission"], answer["role_name"]) == ("read", "triage")


async def test_anonymous_reads_public_repositories_only(
    github: StandinGitHub, http: httpx.AsyncClient
) -> None:
    public = await make_scene(github, private=False)
    hidden = await make_scene(github)
    address = f"{github.api_url}/repos"
    assert (await http.get(f"{address}/{public.name}")).status_code == 200
    assert (await http.get(f"{address}/{hidden.name}")).status_code == 404
    written = await http.post(f"{address}/{public.name}/issues", json={"title": "x"})
    assert written.status_code == 401


async def test_admin_api_tells_which_field_is_wrong(github: StandinGitHub) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="no_such_field"):
        await github.admin("POST", "/users", {"login": "x", "no_such_field": 1})
