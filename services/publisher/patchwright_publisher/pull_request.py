"""What is written to GitHub for a job: names, titles, texts. Pure; idempotent by the job's id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jinja2

from patchwright_common.events import (
    AnswerProduced,
    ChangeProduced,
    JobCancelled,
    JobFailed,
    JobProgressed,
    JobRequested,
    JobStarted,
)
from patchwright_publisher.check_run import TITLE_LIMIT as CHECK_TITLE_LIMIT
from patchwright_publisher.check_run import CheckRun, conclusion_of, title_of
from patchwright_publisher.text import COMMENT_LIMIT, cell, harmless, one_line, shortened

TITLE_LIMIT = 120
"""Characters; GitHub takes 256, lists show about this many."""
STATUS = {"A": "added", "M": "modified", "D": "deleted", "T": "type changed"}


@dataclass(frozen=True)
class Draft:
    """A pull request to open."""

    title: str
    body: str
    head: str
    base: str


@dataclass(frozen=True)
class Voice:
    """How the App presents itself. `trace_url` holds `{trace_id}`, or is empty."""

    app: str
    label: str
    trace_url: str = ""


def branch_of(job: JobRequested) -> str:
    """The job's one branch: `patchwright/<issue>-<trigger>-<attempt>`."""
    return "patchwright/" + (job.job_id.removeprefix(f"{job.repository.id}-") or job.job_id)


def marker_of(job_id: str, mark: str) -> str:
    """The invisible line by which the publisher knows its comment again.

    `mark` is an HMAC that only the vault can make, so no text can claim to be ours.
    """
    return f"<!-- patchwright:{job_id}:{mark} -->"


class Texts:
    """Renders the templates. Agent-written parts are made harmless on the way in."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("patchwright_publisher"),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            autoescape=False,  # noqa: S701  Markdown: `harmless` does what escaping cannot
        )
        self._templates.filters |= {
            "money": money,
            "duration": duration,
            "cell": lambda path: cell(path, limit=200),
            "status": lambda letter: STATUS.get(letter, "changed"),
        }

    def requested(self) -> str:
        """The acknowledgement."""
        return self._render("status", state="requested", app=self._voice.app)

    def started(self, job: JobRequested, event: JobStarted) -> str:
        """A runner is at it."""
        return self._render(
            "status",
            state="started",
            base=job.base,
            sandbox=one_line(event.sandbox, limit=40),
            epoch=event.epoch,
            app=self._voice.app,
        )

    def progressed(self, event: JobProgressed) -> str:
        """What the last turn did."""
        doing = one_line(event.doing, limit=200)
        return self._render(
            "status",
            state="progressed",
            turn=event.turn,
            doing=doing,
            spent=event.spent,
            app=self._voice.app,
        )

    def opened(self, event: ChangeProduced, url: str) -> str:
        """The comment beside a pull request."""
        summary = harmless(event.summary, limit=5_000)
        return self._render(
            "pull_request_opened",
            url=url,
            number=url.rpartition("/")[2],
            summary=summary,
            spent=event.spent,
        )

    def answer(self, event: AnswerProduced) -> str:
        """The agent's answer."""
        return self._render("answer", answer=harmless(event.answer), spent=event.spent)

    def failure(self, event: JobFailed, *, branch: str) -> str:
        """What happened, what was not harmed, what to do next. `branch`: where work waits."""
        return self._render(
            "failure",
            reason=harmless(event.reason, limit=2_000),
            advice=harmless(event.advice, limit=2_000),
            branch=branch,
            label=self._voice.label,
            app=self._voice.app,
        )

    def cancelled(self, event: JobCancelled) -> str:
        """Who stopped it, what was not harmed, what to do next."""
        return self._render(
            "cancelled",
            by=cell(event.by, limit=60),
            cause=event.cause,
            label=self._voice.label,
            app=self._voice.app,
        )

    def draft(self, job: JobRequested, event: ChangeProduced, *, trace_id: str) -> Draft:
        """The pull request; its title is the issue's, which a person wrote."""
        body = self._render(
            "pull_request",
            summary=harmless(event.summary),
            issue=job.issue_number,
            files=event.files,
            model=one_line(event.model, limit=60),
            spent=event.spent,
            sender=job.sender,
            verification=event.verification,
        )
        footer = self._footer(job.job_id, trace_id)
        return Draft(
            title=one_line(job.title, limit=TITLE_LIMIT) or f"Resolve issue {job.issue_number}",
            body=_joined(body, footer),
            head=branch_of(job),
            base=job.repository.default_branch,
        )

    def check_run(self, job: JobRequested, event: ChangeProduced, *, trace_id: str) -> CheckRun:
        """How the change was verified, on the commit that was verified."""
        title = f"{title_of(event.verification)} · {money(event.spent.dollars)}"
        return CheckRun(
            job_id=job.job_id,
            commit=event.commit,
            conclusion=conclusion_of(event.verification),
            title=one_line(title, limit=CHECK_TITLE_LIMIT),
            summary=_joined(
                self._render("check_run", verification=event.verification, spent=event.spent),
                self._footer(job.job_id, trace_id),
            ),
            details_url=self._trace_url(trace_id),
        )

    def signed(self, text: str, *, job_id: str, trace_id: str, marker: str) -> str:
        """`text` with the trace, the job and the marker under it, within GitHub's limit."""
        return _joined(text, self._footer(job_id, trace_id), marker)

    def _footer(self, job_id: str, trace_id: str) -> str:
        url = self._trace_url(trace_id)
        return self._render("footer", trace_id=trace_id, trace_url=url, job_id=job_id)

    def _trace_url(self, trace_id: str) -> str:
        # Not `format`: a trace viewer's address may hold other braces.
        return self._voice.trace_url.replace("{trace_id}", trace_id)

    def _render(self, name: str, **values: Any) -> str:
        return self._templates.get_template(f"{name}.md.j2").render(**values).strip()


def _joined(text: str, *below: str) -> str:
    """`text`, cut where it must be, so that what stands below it has room."""
    end = "".join(f"\n\n{part}" for part in below)
    return shortened(text, COMMENT_LIMIT - len(end)) + end


def money(dollars: float) -> str:
    """`$0.0123` below ten cents, else `$1.23`."""
    return f"${dollars:.4f}" if dollars < 0.1 else f"${dollars:.2f}"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 5 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
