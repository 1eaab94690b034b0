"""What the door should say, and when."""

from __future__ import annotations

import unittest

from greeting import greet


class GreetingTest(unittest.TestCase):
    def test_full_name_becomes_first_name(self) -> None:
        self.assertEqual(greet("ada lovelace", hour=9), "Good morning, Ada!")

    def test_the_hour_chooses_the_salutation(self) -> None:
        self.assertEqual(greet("Grace", hour=11), "Good morning, Grace!")
        self.assertEqual(greet("Grace", hour=12), "Good afternoon, Grace!")
        self.assertEqual(greet("Grace", hour=18), "Good evening, Grace!")

    def test_badge_without_a_name_greets_a_friend(self) -> None:
        self.assertEqual(greet("", hour=9), "Good morning, friend!")


if __name__ == "__main__":
    unittest.main()
