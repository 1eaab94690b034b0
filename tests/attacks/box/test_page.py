"""The list of attacks for readers is complete, and its number is right."""

from __future__ import annotations

from collections import Counter

from . import page


def test_every_attack_has_a_name_of_its_own_and_something_that_stops_it() -> None:
    attacks = [attack for module in page.modules() for attack in page.attacks_of(module)]
    assert [name for name, times in Counter(a.name for a in attacks).items() if times > 1] == []
    assert all(attack.stopped_by for attack in attacks)


def test_page_lists_every_attack_and_counts_them() -> None:
    text = page.PAGE.read_text()
    assert page.sections() in text
    assert f"{page.count()} attacks" in text


def test_every_test_of_the_suite_names_its_attack() -> None:
    tests = [
        test
        for module in page.modules()
        for name, test in vars(module).items()
        if name.startswith("test_")
    ]
    assert tests
    assert [test.__name__ for test in tests if not getattr(test, "attacks", ())] == []
