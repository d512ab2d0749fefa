"""Graft: serverless transfer learning. This package knows no Airflow."""

__version__ = "0.1.0"
