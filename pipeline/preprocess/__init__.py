"""From fetched bytes to a dataset version, and from a version to packed pixels."""
