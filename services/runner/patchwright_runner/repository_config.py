"""`.github/patchwright.yml`, always read from the base commit, which is the default branch's.

Everything has a default. What is unknown or makes no sense is answered on the issue, with its
line: a misspelled `verify` that nobody notices would be worse than none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from patchwright_common.errors import Permanent
from patchwright_git.command import GitFailed
from patchwright_runner.agent.hidden_text import one_line
from patchwright_runner.agent.protocol import Budget
from patchwright_runner.base_files import find
from patchwright_runner.config_text import Document, TextError, parse
from patchwright_runner.egress import Allowlist
from patchwright_runner.settings import Kind

PATH = ".github/patchwright.yml"
MOST_BYTES = 64 * 1024
_SHOWN = 5
_ADVICE = "Mend it on the default branch, then ask again."


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _allowed(value: tuple[str, ...]) -> tuple[str, ...]:
    Allowlist.parse(value)
    return value


Command = Annotated[str, Field(min_length=1, max_length=4000)]
Commands = Annotated[tuple[Command, ...], BeforeValidator(_listed), Field(max_length=20)]
Hosts = Annotated[
    tuple[str, ...], BeforeValidator(_listed), Field(max_length=100), AfterValidator(_allowed)
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class EgressConfig(_Part):
    """Which hosts may be reached, as far as the operator allows them too."""

    setup: Hosts = ("registries",)
    agent: Hosts = ()


class BudgetConfig(_Part):
    """Less than the operator's budget; more has no effect."""

    turns: Annotated[int, Field(ge=1)] | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None
    dollars: Annotated[float, Field(gt=0)] | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None

    def within(self, most: Budget) -> Budget:
        """The smaller one of each."""
        return Budget(
            turns=min(self.turns or most.turns, most.turns),
            tokens=min(self.tokens or most.tokens, most.tokens),
            dollars=min(self.dollars or most.dollars, most.dollars),
            seconds=min((self.minutes or most.seconds) * 60, most.seconds),
        )


class RepositoryConfig(_Part):
    """What a repository asks for."""

    agent: Kind | None = None
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/@-]{1,100}$")] | None = None
    setup: Commands = ()
    verify: Commands = ()
    verify_rounds: Annotated[int, Field(ge=0, le=5)] = 2
    egress: EgressConfig = EgressConfig()
    budget: BudgetConfig = BudgetConfig()
    submodules: bool = False
    lfs: bool = False


async def repository_config(mirror: Path, base: str) -> RepositoryConfig:
    """The base commit's. Raises Permanent with a sentence for a maintainer."""
    found = (await find(mirror, base, PATH)).get(PATH)
    if found is None:
        return RepositoryConfig()
    if not found.is_plain:
        raise _unusable("it is a link or a folder, not a file")
    try:
        if await found.size() > MOST_BYTES:
            raise _unusable(f"it is larger than {MOST_BYTES // 1024} KiB")
        return read(await found.content())
    except GitFailed:
        raise _unusable("it could not be read") from None


def read(data: bytes) -> RepositoryConfig:
    """The file's meaning. Raises Permanent."""
    try:
        document = parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _unusable("it is not UTF-8") from None
    except TextError as error:
        raise _unusable(f"line {error.line}: {one_line(str(error), 200)}") from None
    try:
        # As from JSON: strict about kinds, but a list may stand for a tuple.
        data = {} if document.data is None else document.data
        return RepositoryConfig.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        faults = [_fault(document, one) for one in error.errors(include_url=False)]
        raise _unusable("\n- ".join(["", *faults[:_SHOWN]])) from None
    except (TypeError, ValueError):
        raise _unusable("it holds a key that is no text, or a number without end") from None


def _fault(document: Document, error: Any) -> str:
    place = tuple(error["loc"])
    name = ".".join(str(step) for step in place)
    if error["type"] == "extra_forbidden":
        problem = f"is not known; known are {', '.join(_known(place[:-1]))}"
    else:
        problem = f"is wrong: {error['msg'].removeprefix('Value error, ')}"
    return f"line {document.line(place)}: `{one_line(name, 60)}` {one_line(problem, 300)}"


def _known(place: tuple[str | int, ...]) -> list[str]:
    parts: dict[object, type[BaseModel]] = {"egress": EgressConfig, "budget": BudgetConfig}
    return sorted((parts[place[0]] if place else RepositoryConfig).model_fields)


def _unusable(why: str) -> Permanent:
    return Permanent(f"`{PATH}` cannot be used: {why}", advice=_ADVICE)
