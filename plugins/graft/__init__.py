"""Graft for Airflow: operators, hooks, triggers, and the DAG of a classifier."""
