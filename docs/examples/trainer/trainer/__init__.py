"""The trainer of the example DAGs."""
