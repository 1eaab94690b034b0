"""`just chaos`: kills and pauses everything while issues come in, then counts what came out."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from .broken import command
from .crew import Nodes, Sandbox, crew
from .plan import Plan, make_plan
from .run import Ended, Run

PATIENCE = 240.0
"""Seconds to settle in, and then PATIENCE_EACH for each issue."""
PATIENCE_EACH = 3.0
SECONDS_EACH = 0.8

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Chosen:
    """On the command line."""

    plan: Plan
    nodes: Nodes
    sandbox: Sandbox
    redeliver: bool
    broken: str


@app.command()
def chaos(
    *,
    issues: Annotated[int, typer.Option(min=1, help="How many are opened.")] = 1000,
    seed: Annotated[int | None, typer.Option(help="The same one repeats the schedule.")] = None,
    seconds: Annotated[
        float, typer.Option(min=0, help="How long it goes on; 0: by the number of issues.")
    ] = 0,
    nodes: Annotated[Nodes, typer.Option(help="Servers of NATS.")] = "3",
    sandbox: Annotated[Sandbox, typer.Option(help="Where jobs run.")] = "bubblewrap",
    redeliver: Annotated[
        bool, typer.Option(help="Send again what ingest did not take, instead of leaving it to it.")
    ] = False,
    broken: Annotated[
        str, typer.Option(help="Start publishers that lack a protection, by its name in broken.py.")
    ] = "",
    keep: Annotated[bool, typer.Option(help="Keep the stack's folder, with its logs.")] = False,
) -> None:
    """Open issues while services, runners and NATS are killed and paused; then count."""
    number = secrets.randbelow(1_000_000) if seed is None else seed
    length = seconds or max(30.0, issues * SECONDS_EACH)
    plan = make_plan(number, issues, length, nodes)
    console = Console(soft_wrap=True)
    console.print(
        f"seed [bold]{number}[/]: {issues} issues and {len(plan.strikes)} strikes in "
        f"{length:.0f} s, {nodes} NATS server(s), plan {plan.digest}",
        highlight=False,
    )
    root = Path(tempfile.mkdtemp(prefix="pw-chaos-"))
    try:
        good = asyncio.run(_run(Chosen(plan, nodes, sandbox, redeliver, broken), root, console))
    finally:
        if keep:
            console.print(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    raise typer.Exit(0 if good else 1)


async def _run(chosen: Chosen, root: Path, console: Console) -> bool:
    plan = chosen.plan
    instead = {"publisher": command(chosen.broken)} if chosen.broken else {}
    async with crew(root, chosen.sandbox, chosen.nodes, instead) as hands:
        patience = PATIENCE + PATIENCE_EACH * len(plan.requests)
        run = Run(plan, hands, patience=patience, redeliver=chosen.redeliver)
        watching = asyncio.create_task(_show(run, plan, console))
        try:
            ended = await run.run()
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
    console.print(_summary(run, plan, ended))
    for line in ended.complaints:
        console.print(f"[red]wrong:[/] {line}", highlight=False)
    for line in ended.tally.gave_up:
        console.print(f"gave up, and said so: {line}", highlight=False)
    console.print("[green]exactly one result each[/]" if ended.good else "[red]not good[/]")
    return ended.good


async def _show(run: Run, plan: Plan, console: Console) -> None:
    """Live in a terminal; elsewhere a line now and then."""
    began = time.monotonic()
    if not console.is_terminal:
        while True:
            console.print(_line(run, plan, time.monotonic() - began), highlight=False)
            await asyncio.sleep(15)
    with Live(console=console, refresh_per_second=2) as live:
        while True:
            live.update(_line(run, plan, time.monotonic() - began))
            await asyncio.sleep(0.5)


def _line(run: Run, plan: Plan, seconds: float) -> str:
    at, struck = run.progress, sum(run.striker.done.values())
    waiting = sum(left.pending + left.unacknowledged for left in at.waiting.values())
    return (
        f"{seconds:6.0f} s  {at.phase:9} opened {at.opened}/{len(plan.requests)}  "
        f"finished {at.finished}  waiting {waiting}  sent again {at.redelivered}  "
        f"struck {struck}/{len(plan.strikes)}  {run.striker.last}"
    )


def _summary(run: Run, plan: Plan, ended: Ended) -> Table:
    table = Table(title=f"seed {plan.seed}, {ended.seconds:.0f} s", show_header=False)
    kinds: Counter[str] = Counter(request.asks for request in plan.requests)
    table.add_row("issues", str(len(plan.requests)), f"asked for {_listed(kinds)}")
    results: Counter[str] = Counter(ended.tally.kinds)
    table.add_row("one result", str(results.total()), _listed(results))
    table.add_row("lost, double or wrong", str(len(ended.tally.wrong)), "")
    table.add_row("gave up, and said so", str(len(ended.tally.gave_up)), "")
    table.add_row("left behind", str(len(ended.left)), "")
    network = run.network
    table.add_row(
        "webhooks",
        str(run.progress.redelivered),
        f"sent again; {network.held} held, {network.doubled} doubled, {network.lost} answers lost",
    )
    table.add_row("GitHub's answers lost", str(run.progress.lost), "what they told was done")
    for how in ("kill", "pause"):
        by_target = Counter({t: n for (t, h), n in run.striker.done.items() if h == how})
        table.add_row(f"{how}s", str(by_target.total()), _listed(by_target))
    table.add_row("was down anyway", str(run.striker.skipped), "")
    return table


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counted.items()))


if __name__ == "__main__":
    app()
