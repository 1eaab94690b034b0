"""GitHub's REST API with our errors: what triage and publisher share."""
