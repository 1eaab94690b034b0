"""What is written for a job: complete, bounded, harmless."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchwright_common.events import (
    AnswerProduced,
    ChangeProduced,
    FileChanged,
    JobFailed,
    JobProgressed,
    JobRequested,
    JobStarted,
    Repository,
)
from patchwright_publisher.pull_request import (
    Texts,
    Voice,
    branch_of,
    duration,
    marker_of,
    money,
)
from patchwright_publisher.text import COMMENT_LIMIT

from .bundles import Bundle
from .service import SPENT, produced

TRACE = "0123456789abcdef0123456789abcdef"
TEXTS = Texts(Voice("patchwright", "patchwright", 'http://t/{trace_id}?x={"y":1}'))
JOB_ID = st.from_regex(r"[A-Za-z0-9-]{1,64}", fullmatch=True)


def _job(job_id: str = "77-3-issue-1", title: str = "It is wrong") -> JobRequested:
    return JobRequested(
        job_id=job_id,
        repository=Repository(
            id=77,
            full_name="ada/calc",
            clone_url="http://h/ada/calc.git",
            default_branch="main",
            installation_id=5,
        ),
        issue_number=3,
        title=title,
        body="",
        sender="ada",
        base="0" * 40,
        attempt=1,
        delivery_id="d",
        requested_at=datetime.now(UTC),
    )


def _change(**more: object) -> ChangeProduced:
    return produced(_job(), Bundle(b"", "1" * 40), **more)


def _body(**more: object) -> str:
    return TEXTS.draft(_job(), _change(**more), trace_id=TRACE).body


def test_draft_holds_all_that_a_reviewer_needs() -> None:
    draft = TEXTS.draft(_job(), _change(), trace_id=TRACE)
    assert (draft.title, draft.head, draft.base) == ("It is wrong", "patchwright/3-issue-1", "main")
    assert draft.body.splitlines()[0] == "Fixes #3"
    for part in (
        "Division is exact now.",
        "| `src/calculator.py` | modified, +1 \u22121 |",
        "| 7 | 1234 / 56 | $0.0123 | 1 min 5 s |",
        "Asked for by @ada in #3.",
        f'[`{TRACE}`](http://t/{TRACE}?x={{"y":1}})',
        "job `77-3-issue-1`",
    ):
        assert part in draft.body


def test_trace_id_stands_alone_where_no_viewer_is_known() -> None:
    texts = Texts(Voice("patchwright", "patchwright"))
    assert f"Trace `{TRACE}` ·" in texts.draft(_job(), _change(), trace_id=TRACE).body


def test_nothing_of_the_agent_stands_before_the_closing_keyword() -> None:
    """An open fence, comment or tag in it would take the keyword's effect away."""
    for summary in ("```\nopen", "<!--", "<details>", "> quote\n```", "\\"):
        assert _body(summary=summary).startswith("Fixes #3\n\n")


def test_only_our_closing_keyword_acts() -> None:
    body = _body(summary="Fixes #1, closes ada/calc#2 and resolves https://github.com/a/b/issues/4")
    assert re.findall(r"(?i)\b(?:fix|clos|resolv)\w+:?\s+\S*[#/]\d+", body) == ["Fixes #3"]


@pytest.mark.parametrize("summary", ["x" * 100_000, "@ada " * 20_000, "````\n" + "<b>" * 30_000])
def test_body_fits_whatever_the_agent_writes_and_touches(summary: str) -> None:
    files = tuple(
        FileChanged(path="|@#1" * 60 + str(n), status="A", additions=10**9, deletions=10**9)
        for n in range(1000)
    )
    body = _body(summary=summary, files=files, model="m" * 500)
    assert len(body) <= COMMENT_LIMIT
    assert "… and 950 more" in body
    assert body.endswith("</sub>")
    assert TRACE in body
    assert body.count("<details>") == body.count("</details>") == 1


def test_hostile_path_stays_in_its_cell() -> None:
    path = "a`|b\n| x | y |\n<!-- patchwright:1 -->@ada"
    body = _body(files=(FileChanged(path=path, status="A"),))
    [row] = [line for line in body.splitlines() if "added" in line]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert row.count("`") == 2


def test_runners_other_words_act_on_nothing_either() -> None:
    files = (FileChanged(path="a", status="</details> @all"),)
    body = _body(files=files, model="</summary><img src=x> @all")
    assert "@all" not in body
    assert body.count("</details>") == body.count("</summary>") == 1


def test_missing_summary_and_title_have_words_of_ours() -> None:
    assert "left no summary" in _body(summary=" \n\u200b")
    draft = TEXTS.draft(_job(title="\u200b <!-- x -->"), _change(), trace_id=TRACE)
    assert draft.title == "Resolve issue 3"


def test_title_is_short_and_on_one_line() -> None:
    draft = TEXTS.draft(
        _job(title="a | b\n/close @ada fixes #7 " + "x" * 500), _change(), trace_id=""
    )
    assert draft.title.startswith("a | b \u200b/close @\u200bada fixes\u200b #\u200b7 x")
    assert len(draft.title) == 120


@given(JOB_ID)
@settings(max_examples=60)
def test_branch_is_a_name_that_git_takes_for_any_job(job_id: str) -> None:
    _git_takes(branch_of(_job(job_id)))


@pytest.mark.parametrize("job_id", ["77-", "-", "77--", "77-3-issue-1", "lock", "77-HEAD"])
def test_odd_job_ids_have_branches_too(job_id: str) -> None:
    _git_takes(branch_of(_job(job_id)))


def _git_takes(name: str) -> None:
    assert name.startswith("patchwright/")
    subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=True)


def test_jobs_have_branches_and_markers_of_their_own() -> None:
    ids = ["77-3-issue-1", "77-3-issue-2", "77-31-issue-1", "77-3-comment9-1"]
    assert len({branch_of(_job(job_id)) for job_id in ids}) == len(ids)
    assert len({marker_of(job_id, "m") for job_id in ids}) == len(ids)


def test_comment_keeps_trace_job_and_marker_however_long_it_is() -> None:
    marker = marker_of("77-3-issue-1", "0123456789abcdef")
    for text in ("short", "x" * 100_000, "~~~~~\n" + "y\n" * 60_000):
        signed = TEXTS.signed(text, job_id="77-3-issue-1", trace_id=TRACE, marker=marker)
        assert len(signed) <= COMMENT_LIMIT
        assert signed.endswith(f"</sub>\n\n{marker}")
        assert TRACE in signed
    assert "\n~~~~~\n\n*(shortened)*\n\n<sub>" in signed


def test_states_of_a_job_are_told_apart() -> None:
    started = JobStarted(job_id="77-3-issue-1", epoch=1, runner="r", sandbox="docker")
    again = started.model_copy(update={"epoch": 3})
    assert "try" not in TEXTS.started(_job(), started)
    assert "An earlier runner was lost, so this is try 3." in TEXTS.started(_job(), again)
    doing = JobProgressed(
        job_id="77-3-issue-1", epoch=1, turn=2, doing="cat x\n/close @ada", spent=SPENT
    )
    assert "Turn 2: cat x \u200b/close @\u200bada" in TEXTS.progressed(doing)


def test_answer_and_failure_are_harmless_and_complete() -> None:
    answer = AnswerProduced(
        job_id="77-3-issue-1", epoch=1, answer="<img src=x>@ada", model="m", spent=SPENT
    )
    assert "<\u200bimg src=x>@\u200bada" in TEXTS.answer(answer)
    silent = answer.model_copy(update={"answer": ""})
    assert "changed nothing and said nothing" in TEXTS.answer(silent)
    failed = JobFailed(job_id="77-3-issue-1", stage="s", reason="@ada\n/close", advice="fix #4")
    text = TEXTS.failure(failed, branch="patchwright/3-issue-1")
    assert "@\u200bada\n\u200b/close" in text
    assert "the work is on the branch `patchwright/3-issue-1`" in text
    assert "remove the label `patchwright` and set it again" in text


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (money(0), "$0.0000"),
        (money(0.0999), "$0.0999"),
        (money(1.234), "$1.23"),
        (duration(4.21), "4.2 s"),
        (duration(59.99), "60.0 s"),
        (duration(185.9), "3 min 5 s"),
    ],
)
def test_figures_are_short(shown: str, wanted: str) -> None:
    assert shown == wanted
