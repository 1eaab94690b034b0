"""The pages on which a person looks at repositories, issues and pull requests."""
