"""A small trace store and viewer: OTLP in, a list and a waterfall out."""
