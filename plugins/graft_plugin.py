"""The one file that Airflow's plugin loader runs; the package beside it is imported by its users."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin
from graft.ui.mount import EXTERNAL_VIEWS, FASTAPI_APPS


class GraftPlugin(AirflowPlugin):
    """Makes Graft and its pages known to Airflow."""

    name = "graft"
    fastapi_apps = FASTAPI_APPS
    external_views = EXTERNAL_VIEWS
