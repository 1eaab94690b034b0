"""The only writer to GitHub: comments, branches and pull requests."""
