"""A GitHub that behaves, for development and tests: REST, git over HTTP, webhooks and pages."""
