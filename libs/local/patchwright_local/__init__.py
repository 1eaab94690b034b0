"""The local stack: its supervisor and the commands behind just."""
