"""The REST API, one noun a module."""
