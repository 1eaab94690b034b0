"""Every token has a price, whichever model it belongs to."""

from __future__ import annotations

import pytest

from patchwright_runner.agent import Usage
from patchwright_runner.agent.prices import PRICES, priced

MILLION_OF_EACH = Usage(1_000_000, 1_000_000, 1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("model", "dollars"),
    [
        ("claude-opus-5-5", 4 + 20 + 0.2 + 5),
        ("claude-sonnet-5-5", 2 + 10 + 0.1 + 2.5),
        ("claude-haiku-4-5-20251001", 1 + 5 + 0.1 + 1.25),
    ],
)
def test_each_kind_of_token_has_its_price(model: str, dollars: float) -> None:
    assert priced(model, MILLION_OF_EACH).dollars == pytest.approx(dollars)


def test_unknown_model_costs_as_much_as_the_dearest() -> None:
    dearest = max(priced(model, MILLION_OF_EACH).dollars for model in PRICES)

    assert priced("claude-from-the-future", MILLION_OF_EACH).dollars == dearest > 100


def test_long_prompt_costs_more_where_the_list_says_so() -> None:
    short = priced("claude-haiku-5-5", Usage(input_tokens=100_000))
    long = priced("claude-haiku-5-5", Usage(input_tokens=1, cache_read_tokens=100_000))

    assert short.dollars == pytest.approx(0.01)
    assert long.dollars == pytest.approx((0.5 + 100_000 * 0.05) / 1_000_000)


def test_usage_adds_up() -> None:
    total = Usage(1, 2, 3, 4, 0.5) + Usage(10, 20, 30, 40, 0.25)

    assert total == Usage(11, 22, 33, 44, 0.75)
    assert total.tokens == 110
