"""One frozen network that serves every version with the same backbone; a version is a head."""
