"""List prices of models, in US dollars for a million tokens.

Source: https://platform.claude.com/docs/en/about-claude/pricing, read for October 2026. Cache
writes are the five-minute kind, the only one that we ask for. Nobody is billed by this table: it
feeds the budget and the figure in the pull request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from patchwright_runner.agent.protocol import Usage

MILLION = 1_000_000
DATED = re.compile(r"-\d{8}$")
"""Model names with a date, such as `claude-haiku-4-5-20251001`, cost what the plain name costs."""


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars for a million tokens of each kind."""

    input: float
    output: float
    cache_write: float
    cache_read: float


PRICES: Mapping[str, Price] = {
    "claude-fable-5-1": Price(10, 50, 12.5, 0.25),
    "claude-mythos-5-1": Price(10, 50, 12.5, 0.25),
    "claude-fable-5": Price(10, 50, 12.5, 1),
    "claude-mythos-5": Price(10, 50, 12.5, 1),
    "claude-opus-5-5": Price(4, 20, 5, 0.2),
    "claude-opus-5": Price(5, 25, 6.25, 0.5),
    "claude-opus-4-8": Price(5, 25, 6.25, 0.5),
    "claude-opus-4-7": Price(5, 25, 6.25, 0.5),
    "claude-opus-4-6": Price(5, 25, 6.25, 0.5),
    "claude-opus-4-5": Price(5, 25, 6.25, 0.5),
    "claude-opus-4-1": Price(15, 75, 18.75, 1.5),
    "claude-sonnet-5-5": Price(2, 10, 2.5, 0.1),
    "claude-sonnet-5": Price(2, 10, 2.5, 0.2),
    "claude-sonnet-4-6": Price(3, 15, 3.75, 0.3),
    "claude-sonnet-4-5": Price(3, 15, 3.75, 0.3),
    "claude-haiku-5-5": Price(0.1, 0.5, 0.125, 0.01),
    "claude-haiku-4-5": Price(1, 5, 1.25, 0.1),
}
LONG_PROMPT = 100_000
"""Tokens of prompt, the cached ones included, above which the prices below hold."""
LONG_PROMPT_PRICES: Mapping[str, Price] = {"claude-haiku-5-5": Price(0.5, 2.5, 0.625, 0.05)}

DEAREST = max(PRICES.values(), key=lambda price: price.output)
"""What an unknown model is taken to cost: a budget must not be blind to it."""


def priced(model: str, usage: Usage) -> Usage:
    """`usage` of one request with its dollars filled in."""
    price = _price(model, usage)
    dollars = (
        usage.input_tokens * price.input
        + usage.output_tokens * price.output
        + usage.cache_write_tokens * price.cache_write
        + usage.cache_read_tokens * price.cache_read
    ) / MILLION
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        dollars,
    )


def _price(model: str, usage: Usage) -> Price:
    name = DATED.sub("", model)
    prompt = usage.tokens - usage.output_tokens
    if prompt > LONG_PROMPT and name in LONG_PROMPT_PRICES:
        return LONG_PROMPT_PRICES[name]
    return PRICES.get(name, DEAREST)
