"""Brings a model that passed its gate into service, and keeps the record of it."""
