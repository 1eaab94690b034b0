"""The pages: they show what a person needs and never run what somebody wrote."""

from __future__ import annotations

import httpx
import pytest

from standin_github.pages.markdown import render
from standin_github.pages.patch import numbered
from standin_github.scene import Scene


async def page(http: httpx.AsyncClient, scene: Scene, path: str) -> str:
    answer = await http.get(f"{scene.github.base_url}/{scene.name}{path}", follow_redirects=True)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    return answer.text


async def test_issue_page_shows_thread_labels_and_linked_pull_request(
    scene: Scene, http: httpx.AsyncClient
) -> None:
    github, token = scene.github, scene.person.token
    await github.open_issue(scene.name, "Wrong <result>", "It is *wrong*", token=token)
    await github.label(scene.name, 1, "patchwright", token=token)
    await github.comment(scene.name, 1, "Working on it", token=await scene.token())
    await github.commit(scene.name, {"x": "x"}, login=scene.person.login, branch="fix")
    body = {"title": "The fix", "head": "fix", "base": "main", "body": "Fixes #1"}
    await github.api("POST", f"/repos/{scene.name}/pulls", body, token=token)
    html = await page(http, scene, "/issues/1")
    for expected in (
        "Wrong &lt;result&gt;",
        "<em>wrong</em>",
        "Working on it",
        ">patchwright</span>",
        "The fix",
        f"/{scene.name}/pull/2",
    ):
        assert expected in html


async def test_pull_request_page_shows_diff_commits_and_checks(
    scene: Scene, http: httpx.AsyncClient
) -> None:
    github, token = scene.github, await scene.token()
    changed = {"src/calculator.py": "def divide(a, b):\n    return a / b\n"}
    sha = await github.commit(
        scene.name, changed, login=scene.person.login, branch="fix", message="Divide truly"
    )
    body = {"title": "The fix", "head": "fix", "base": "main"}
    await github.api("POST", f"/repos/{scene.name}/pulls", body, token=token)
    check = {"name": "verify", "head_sha": sha, "conclusion": "success", "status": "completed"}
    await github.api("POST", f"/repos/{scene.name}/check-runs", check, token=token)
    html = await page(http, scene, "/pull/1")
    for expected in ("return a // b", "return a / b", "Divide truly", "verify", 'class="added"'):
        assert expected in html
    assert await page(http, scene, "/pull/1/files") == html
    assert (
        "+    return a / b" in (await http.get(f"{github.base_url}/{scene.name}/pull/1.diff")).text
    )


async def test_issue_address_of_a_pull_request_leads_to_it(
    scene: Scene, http: httpx.AsyncClient
) -> None:
    await scene.github.commit(scene.name, {"x": "x"}, login=scene.person.login, branch="fix")
    body = {"title": "The fix", "head": "fix", "base": "main"}
    path = f"/repos/{scene.name}/pulls"
    await scene.github.api("POST", path, body, token=scene.person.token)
    assert "Files changed" in await page(http, scene, "/issues/1")


async def test_other_pages_of_a_repository_answer(scene: Scene, http: httpx.AsyncClient) -> None:
    assert "calculator.py" in await page(http, scene, "/tree/main/src")
    assert "return a // b" in await page(http, scene, "/blob/main/src/calculator.py")
    assert "README" in await page(http, scene, "")
    assert "Nothing here yet" in await page(http, scene, "/pulls")
    missing = await http.get(f"{scene.github.base_url}/{scene.name}/issues/99")
    assert missing.status_code == 404
    picture = await http.get(f"{scene.github.base_url}/avatars/%3Cscript%3E.svg")
    assert "<script>" not in picture.text


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "text <img src=x onerror=alert(1)>",
        "<details ontoggle=alert(1) open>x</details>",
        "[x](javascript:alert(1))",
        "![x](javascript:alert(1))",
        "<!-- --><svg onload=alert(1)>",
        "<!-- <b> --!><script>alert(1)</script>",
        '<a href="javascript:alert(1)">x</a>',
        '[x](https://e.org/"onmouseover=alert(1))',
        'https://e.org/"onmouseover=alert(1)',
        "<summary\nonclick=alert(1)>",
    ],
)
def test_markdown_carries_no_script(attack: str) -> None:
    html = str(render(attack, "http://x/o/r"))
    for live in ("<script", "<img", "<svg", '"javascript:', "<details on", "<summary\n", '"on'):
        assert live not in html


def test_markdown_folds_details_and_hides_comments() -> None:
    text = "<!-- secret -->\n<details>\n<summary>More</summary>\n\n- [x] *done*\n\n</details>"
    html = str(render(text, "http://x/o/r"))
    assert "secret" not in html
    assert "<details>" in html
    assert "<summary>More</summary>" in html
    assert '<input type="checkbox" disabled checked> <em>done</em>' in html


def test_markdown_links_issues_but_not_inside_links() -> None:
    html = str(render("see #12 and [#13](https://e.org/)", "http://x/o/r"))
    assert '<a href="http://x/o/r/issues/12">#12</a>' in html
    assert '<a href="https://e.org/">#13</a>' in html


def test_patch_lines_are_numbered_on_both_sides() -> None:
    lines = numbered("@@ -3,2 +3,2 @@ def f():\n a\n-b\n+c\n\\ No newline at end of file")
    assert [(x.kind, x.old, x.new) for x in lines] == [
        ("hunk", None, None),
        ("context", 3, 3),
        ("deleted", 4, None),
        ("added", None, 4),
        ("note", None, None),
    ]
