"""The report of a run: one HTML file that needs nothing else, for whoever has to trust the model."""
