"""What it means for the job that a run of Claude Code is over.

The gateway's word counts before the program's: the program calls a run a success in which the
model could not be reached or no edit was allowed.
"""

from __future__ import annotations

from patchwright_common.errors import Permanent, Retry
from patchwright_runner.agent.faults import PASSING_STATUS
from patchwright_runner.agent.hidden_text import one_line
from patchwright_runner.agent.narration import Ending, Narration
from patchwright_runner.agent.protocol import CutOff
from patchwright_runner.sandbox.protocol import Result

QUOTED_CHARACTERS = 300
BY_SIGNAL = 128
"""Exit codes above it: a signal ended the program, as the kernel does when memory runs out."""
NOT_STARTED = frozenset({126, 127})


def check_run(
    narration: Narration, result: Result, *, fault: Permanent | Retry | None, stray: str
) -> None:
    """Raises Permanent or Retry unless the model came to an end of its own accord.

    `fault` is what the model's server answered last instead of a reply, `stray` what the program
    printed besides its messages.
    """
    ending = narration.ending
    if ending is None:
        raise fault or _died(result, stray)
    if ending.failed:
        raise _declined(narration) or fault or _stopped(ending)
    if narration.never_allowed:
        tools = ", ".join(narration.never_allowed)
        raise Permanent(
            f"Claude Code was not allowed to use its tools ({tools}).",
            advice="Operators: this version of Claude Code may need other settings.",
        )


def _declined(narration: Narration) -> Permanent | None:
    if narration.refusal is None:
        return None
    category = f" (category: {narration.refusal})" if narration.refusal else ""
    return Permanent(
        f"The model declined to work on this issue{category}.",
        advice="Put the issue in other words, or choose another model.",
    )


def _stopped(ending: Ending) -> Permanent | Retry:
    said = one_line(ending.text, QUOTED_CHARACTERS) or ending.kind
    status = ending.status
    if status is not None and (status in PASSING_STATUS or status >= 500):
        return Retry(f"Claude Code gave up after the model's server answered {status}")
    return Permanent(
        "Claude Code stopped before it was done.",
        details=said,
        advice="Ask for a smaller part of the work, or choose another agent or model.",
    )


def _died(result: Result, stray: str) -> Permanent | Retry:
    said = one_line(stray, QUOTED_CHARACTERS)
    code = result.exit_code
    if code in NOT_STARTED:
        return Permanent(
            "Claude Code could not be started in the sandbox.",
            details=said,
            advice="Operators: PATCHWRIGHT_CLAUDE_CODE names the program, a file for this system.",
        )
    if code is not None and code > BY_SIGNAL:
        return CutOff(f"Claude Code was killed by signal {code - BY_SIGNAL}.")
    return Permanent(
        f"Claude Code ended without a result (exit code {code}).",
        details=said,
        advice="Try again, or choose another agent.",
    )
