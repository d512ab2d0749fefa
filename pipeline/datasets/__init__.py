"""Where pictures come from: sources, the fetch index, and the manifest of a dataset version."""
