"""`.github/patchwright.yml`: what it may say, and what is said about what it may not."""

from __future__ import annotations

import pytest

from harness.repositories import Repository, git
from patchwright_common.errors import Permanent
from patchwright_runner.agent.protocol import Budget
from patchwright_runner.repository_config import (
    PATH,
    BudgetConfig,
    RepositoryConfig,
    read,
    repository_config,
)

FULL = """\
agent: claude-code
model: claude-opus-5-5
setup: npm ci
verify:
  - npm run lint
  - npm test
verify_rounds: 1
egress:
  setup: [npm, "*.example.com"]
  agent: []
budget:
  turns: 20
  dollars: 2.5
  minutes: 10
"""


def test_full_file_is_understood() -> None:
    config = read(FULL.encode())
    assert config.agent == "claude-code"
    assert config.setup == ("npm ci",)
    assert config.verify == ("npm run lint", "npm test")
    assert config.egress.setup == ("npm", "*.example.com")
    assert config.budget == BudgetConfig(turns=20, dollars=2.5, minutes=10)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "{}", "\ufeffverify_rounds: 2"])
def test_file_that_says_nothing_has_the_defaults(text: str) -> None:
    assert read(text.encode()) == RepositoryConfig()


@pytest.mark.parametrize(
    "text",
    ["2024-01-01: x\n", "!!binary aGk=: x\n", f"budget: {{turns: 0x{'f' * 5000}}}\n"],
    ids=["a date as a key", "bytes as a key", "a number of 5,000 digits"],
)
def test_what_cannot_be_json_is_refused(text: str) -> None:
    with pytest.raises(Permanent, match="cannot be used"):
        read(text.encode())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("setup: x\nverfy: y\n", "line 2: `verfy` is not known; known are agent, budget"),
        ("egress:\n  agents: []\n", "line 2: `egress.agents` is not known; known are agent, setup"),
        ("setup: x\n\nverify_rounds: 50\n", "line 3: `verify_rounds` is wrong"),
        ("verify_rounds: '2'\n", "line 1: `verify_rounds` is wrong"),
        ("agent: gpt\n", "line 1: `agent` is wrong"),
        ("verify:\n  - ok\n  - 7\n", "line 3: `verify.1` is wrong"),
        ("egress:\n  setup:\n  - 10.0.0.1\n", "line 2: `egress.setup` is wrong: `10.0.0.1`"),
        ("budget:\n  dollars: -1\n", "line 2: `budget.dollars` is wrong"),
        ("model: 'x; rm -rf /'\n", "line 1: `model` is wrong"),
        ("- a list\n", "line 1: "),
        ("just words\n", "line 1: "),
        ("a: b: c\n", "line 1: mapping values are not allowed"),
        ("setup: x\nsetup: y\n", "line 2: `setup` is there twice"),
        ("a: &a [x]\nb: *a\n", "line 2: anchors"),
        ("setup: !!python/object/apply:os.system ['id']\n", "line 1: "),
        ("[" * 50, "line 1: this is nested too deep"),
        ("[" * 60_000, "line 1: "),
        ("setup: 2026-01-01\nverify: {a: b}\n", "line 2: `verify` is wrong"),
        ("budget: {dollars: .nan}\n", "line 1: "),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(Permanent) as refused:
        read(text.encode())
    assert said in refused.value.reason
    assert PATH in refused.value.reason
    assert "default branch" in refused.value.advice


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(Permanent, match="not UTF-8"):
        read(b"\xff\xfe")


def test_budget_can_only_be_lowered() -> None:
    most = Budget(turns=50, tokens=1000, dollars=5, seconds=600)
    asked = BudgetConfig(turns=500, tokens=10, minutes=60)
    assert asked.within(most) == Budget(turns=50, tokens=10, dollars=5, seconds=600)
    assert BudgetConfig().within(most) == most
    assert BudgetConfig(minutes=1).within(most).seconds == 60


async def test_base_commit_decides(repository: Repository) -> None:
    (repository.path / ".github").mkdir()
    later = repository.commit(PATH, "verify: make test\n")
    assert await repository_config(repository.bare, repository.base) == RepositoryConfig()
    assert (await repository_config(repository.bare, later)).verify == ("make test",)


async def test_link_in_its_place_is_refused(repository: Repository) -> None:
    (repository.path / ".github").mkdir()
    (repository.path / PATH).symlink_to("/etc/passwd")
    git(repository.path, "add", "--all")
    base = repository.commit("other", "x")
    with pytest.raises(Permanent, match="a link"):
        await repository_config(repository.bare, base)


async def test_file_that_is_too_large_is_refused(repository: Repository) -> None:
    (repository.path / ".github").mkdir()
    base = repository.commit(PATH, "# x\n" * 20_000)
    with pytest.raises(Permanent, match="larger than"):
        await repository_config(repository.bare, base)
