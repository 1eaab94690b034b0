"""The only holder of long-lived credentials; mints short-lived tokens."""
