"""Graft's pages in Airflow: who may see and do what, the routes, and how they look."""

PREFIX = "/graft"  # where Airflow mounts them
