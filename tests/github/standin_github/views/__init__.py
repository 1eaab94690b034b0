"""Rows as the JSON that GitHub answers; the same shapes fill webhook payloads."""
