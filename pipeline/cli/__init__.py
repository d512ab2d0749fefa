"""`graft`, the command line: one module a noun. Each command imports what it needs when it runs."""

from pipeline.cli.app import main

__all__ = ["main"]
