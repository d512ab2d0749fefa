"""What Airflow is told of Graft: by the entry point `airflow.plugins`, or by `graft_plugin.py` beside it."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from graft import preload
from graft.ui.mount import EXTERNAL_VIEWS, FASTAPI_APPS


class GraftPlugin(AirflowPlugin):
    """Makes Graft and its pages known to Airflow."""

    name = "graft"
    fastapi_apps = FASTAPI_APPS
    external_views = EXTERNAL_VIEWS
    listeners = [preload]
