"""Compares models by cross-validation on training pictures: options, their jobs, figures, the choice."""
