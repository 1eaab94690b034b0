"""Fixtures and settings of every suite."""

from hypothesis import settings

# Machines are noisy: a time limit for one example would fail for somebody else's load.
settings.register_profile("patchwright", deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("patchwright")

pytest_plugins = ["harness.fixtures"]
