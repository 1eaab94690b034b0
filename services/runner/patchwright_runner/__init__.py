"""Lets an agent work on a clone in a sandbox and collects the change."""
