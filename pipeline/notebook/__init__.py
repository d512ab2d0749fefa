"""Graft in a notebook: `%load_ext pipeline.notebook`. It needs an ML Engine endpoint, no Airflow."""

from __future__ import annotations

from typing import Any

from pipeline.notebook.connection import Connection, connect
from pipeline.notebook.job import NotebookJob
from pipeline.notebook.pipeline import dataset, evaluation, explain, graft_run, versions

__all__ = [
    "Connection",
    "NotebookJob",
    "connect",
    "dataset",
    "evaluation",
    "explain",
    "graft_run",
    "load_ipython_extension",
    "versions",
]


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics."""
    import os

    from pipeline.notebook.magics import MLMagics

    # Read when a cell imports TensorFlow: as in a job, and without its banners.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    ipython.register_magics(MLMagics(ipython))
