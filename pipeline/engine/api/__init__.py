"""The HTTP face of an engine: routes, tokens, quotas, limits."""
