"""Calls ML Engine: one protocol, and the v1 REST API behind it."""
