"""Connections to what runs outside Airflow."""
