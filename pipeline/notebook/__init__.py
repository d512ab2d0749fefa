"""Graft in a notebook: `%load_ext pipeline.notebook`. It needs an ML Engine endpoint, no Airflow."""

from __future__ import annotations

from typing import Any

from pipeline.notebook.connection import Connection, connect
from pipeline.notebook.job import NotebookJob

__all__ = ["Connection", "NotebookJob", "connect", "load_ipython_extension"]


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics."""
    from pipeline.notebook.magics import MLMagics

    ipython.register_magics(MLMagics(ipython))
