"""The one file that Airflow's plugin loader runs; the package beside it is imported by its users."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class GraftPlugin(AirflowPlugin):
    """Makes Graft known to Airflow."""

    name = "graft"
