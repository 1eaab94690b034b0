"""Set-up in a browser: the GitHub App, its installation, the model's key."""
