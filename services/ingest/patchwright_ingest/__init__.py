"""Takes in GitHub's webhooks and decides which of them are jobs."""
