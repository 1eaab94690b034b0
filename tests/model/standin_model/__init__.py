"""A Messages API that plays a scripted conversation, for development and tests."""
