"""The main job, watched: an issue is filed, and each step shows with how long it took."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from patchwright_common.flow import PW_EVENTS, PW_GITHUB
from patchwright_ingest.trigger import LABEL
from patchwright_local import state
from patchwright_local.connection import connected
from patchwright_local.demo_app import REPOSITORY
from patchwright_local.processes import StartError
from patchwright_local.show import visible

TITLE = "Greeting crashes on an empty name"
BODY = """\
A badge without a name makes the door crash:

```
>>> greet("", hour=9)
IndexError: list index out of range
```

The README promises `Good morning, friend!`.
"""
TIME_LIMIT = 180.0
"""Seconds until the demo gives up waiting for the result."""


@dataclass(frozen=True)
class Step:
    """A line of the story; `detail` is dim."""

    text: str
    detail: str = ""


def story(subject: str, body: bytes) -> Step | None:
    """What an event means to somebody who watches, or None for what is not worth a line."""
    if subject.startswith("pw.github."):
        _, _, event, action, _ = subject.split(".")
        return Step("webhook verified and stored", f"{event} {action}")
    tell = _STORY.get(".".join(subject.split(".")[2:4]))
    return tell(json.loads(body)) if tell else None


_STORY: dict[str, Callable[[dict[str, Any]], Step]] = {
    "job.requested": lambda event: Step("triage made it a job", event["job_id"]),
    "job.readied": lambda _event: Step("first in its issue's queue"),
    "job.started": lambda event: Step("sandbox up, repository checked out", event["sandbox"]),
    "job.progressed": lambda event: Step(f"turn {event['turn']}", event["doing"]),
    "change.produced": lambda event: Step("change collected", _diffstat(event["files"])),
    "answer.produced": lambda _event: Step("answer written"),
    "job.failed": lambda event: Step("failed", event["reason"]),
    "job.finished": lambda event: Step(event["result"].replace("_", " "), event["url"]),
}


def _diffstat(files: list[dict[str, Any]]) -> str:
    return ", ".join(f"{f['path']} (+{f['additions']}/-{f['deletions']})" for f in files)


class Demo:
    """One run against a stack that is up."""

    def __init__(self, stack: state.Stack, token: str, console: Console) -> None:
        self._stack = stack
        self._console = console
        self._api = httpx.AsyncClient(
            base_url=f"{stack.github_url}/api/v3/repos/{REPOSITORY}/",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            trust_env=False,
        )

    async def run(self) -> bool:
        """Whether the pull request is there and its branch holds the change."""
        async with self._api, self._events() as events:
            self._announce()
            began = time.monotonic()
            issue = await self._file_issue()
            self._line(Step("issue filed", issue["html_url"]), time.monotonic() - began)
            try:
                async with asyncio.timeout(TIME_LIMIT):
                    finished = await self._watch(events, issue["number"])
            except TimeoutError:
                raise StartError(
                    f"No result after {TIME_LIMIT:.0f} s: `just logs` shows why."
                ) from None
            self._console.print(f"  [bold]{time.monotonic() - began:.1f} s[/] in all\n")
            return await self._show_result(finished)

    async def _watch(self, events: AsyncIterator[tuple[str, bytes]], issue: int) -> dict[str, Any]:
        """Show each step of the issue's job as it comes; the last one."""
        last = time.monotonic()
        async for subject, body in events:
            if subject.startswith("pw.evt.") and f"-{issue}-" not in subject:
                continue
            step = story(subject, body)
            if step is None:
                continue
            now = time.monotonic()
            self._line(step, now - last)
            last = now
            if subject.startswith("pw.evt.job.finished."):
                finished: dict[str, Any] = json.loads(body)
                return finished
        return {}

    def _announce(self) -> None:
        self._console.print(f"\n[bold]An issue becomes a pull request[/]  {self._stack.sandbox}\n")
        if self._stack.scripted:
            self._console.print(
                "  [yellow]The model is scripted:[/] it plays a fixed conversation and thinks\n"
                "  nothing, and GitHub is a stand-in. The rest is real: NATS, git over HTTP,\n"
                "  the sandbox, the tests that it runs. With Claude: [bold]just down[/], then set\n"
                "  ANTHROPIC_API_KEY. A real repository: README, “Use it for real”.\n",
                soft_wrap=True,
            )

    async def _file_issue(self) -> dict[str, Any]:
        response = await self._api.post(
            "issues", json={"title": TITLE, "body": BODY, "labels": [LABEL]}
        )
        response.raise_for_status()
        issue: dict[str, Any] = response.json()
        return issue

    def _line(self, step: Step, seconds: float) -> None:
        mark = "[red]✗[/]" if step.text == "failed" else "[green]✓[/]"
        detail = f"  [dim]{escape(visible(step.detail))}[/]" if step.detail else ""
        self._console.print(
            f"  {mark} {_duration(seconds):>8}  {escape(step.text)}{detail}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip

    async def _show_result(self, finished: dict[str, Any]) -> bool:
        if finished.get("result") != "pull_request":
            self._console.print(f"[red]No pull request:[/] {finished.get('url')}")
            return False
        number = finished["url"].rsplit("/", 1)[1]
        pull = (await self._api.get(f"pulls/{number}")).raise_for_status().json()
        files = (await self._api.get(f"pulls/{number}/files")).raise_for_status().json()
        for file in files:
            self._show_diff(file)
        holds = bool(files) and await self._branch_holds(files, pull)
        trace = await self._trace_id(finished["job_id"])
        self._console.print(f"\n  Pull request  [link]{pull['html_url']}[/link]")
        self._console.print(f"  Trace         [link]{self._stack.trace_url}/trace/{trace}[/link]")
        self._console.print(
            "\n  The stack keeps running: [bold]just logs[/] shows what it does, "
            "[bold]just down[/] stops it.\n"
        )
        if not holds:
            self._console.print("[red]The pull request's branch does not hold the change.[/]")
        return holds

    def _show_diff(self, file: dict[str, Any]) -> None:
        name = file["filename"]
        styles = {"+": "green", "-": "red", "@": "cyan"}
        for line in (f"--- a/{name}", f"+++ b/{name}", *file.get("patch", "").splitlines()):
            self._console.print(Text(visible(line), styles.get(line[:1], "")), soft_wrap=True)

    async def _branch_holds(self, files: list[dict[str, Any]], pull: dict[str, Any]) -> bool:
        """Each changed file differs between the two branches, as the contents API reads them."""
        for file in files:
            contents = []
            for ref in (pull["base"]["ref"], pull["head"]["ref"]):
                answer = await self._api.get(f"contents/{file['filename']}", params={"ref": ref})
                found = answer.json() if answer.is_success else {"content": ""}
                contents.append(base64.b64decode(found["content"]))
            if contents[0] == contents[1]:
                return False
        return bool(pull["state"] == "open")

    async def _trace_id(self, job_id: str) -> str:
        async with connected(self._stack.nats_url, self._stack.nkey()) as client:
            subject = f"pw.evt.job.finished.{job_id}"
            message = await client.jetstream().get_last_msg(PW_EVENTS.name, subject)
            return str((message.headers or {}).get("traceparent", "--")).split("-")[1]

    @asynccontextmanager
    async def _events(self) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """What is stored from now on, deliveries and events, as it comes."""
        found: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

        async def note(message: Msg) -> None:
            await found.put((message.subject, message.data))

        async def stream() -> AsyncIterator[tuple[str, bytes]]:
            while True:
                yield await found.get()

        async with connected(self._stack.nats_url, self._stack.nkey()) as client:
            js = client.jetstream()
            for name, subject in ((PW_GITHUB.name, "pw.github.issues.labeled.*"),
                                  (PW_EVENTS.name, "pw.evt.>")):  # fmt: skip
                await js.subscribe(
                    subject,
                    stream=name,
                    cb=note,
                    ordered_consumer=True,
                    deliver_policy=DeliverPolicy.NEW,
                )
            yield stream()


def person_token(folder: state.Folder, stack: state.Stack) -> str:
    """The demo person's token. Raises `StartError` where there is no demo."""
    if not stack.github_url:
        raise StartError(
            "A stack for your own GitHub runs here: `just down` stops it, then `just demo`."
        )
    made = json.loads((folder.root / "demo.json").read_text())
    return str(made["person_token"])


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
