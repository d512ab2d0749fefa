"""What Airflow asks an installed package that calls itself a provider: here, the form of our connection type.

Airflow finds this by the entry point `apache_airflow_provider` of pyproject.toml. Nothing imports Airflow
here: the hook is only named, and Airflow imports it from `plugins/` when somebody presses Test.
"""

from __future__ import annotations

from pipeline import __version__
from pipeline.types import JsonDict


def get_provider_info() -> JsonDict:
    """Return the provider's name and its connection type `ml_engine`."""
    return {
        "package-name": "graft",
        "name": "Graft",
        "description": "ML Engine v1 carried on: operators, and the connection they use.",
        "versions": [__version__],
        "connection-types": [
            {
                "connection-type": "ml_engine",
                "hook-class-name": "graft.hooks.ml_engine.MLEngineHook",
                "hook-name": "ML Engine",
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "schema", "port"],
                    "relabeling": {"host": "Endpoint", "password": "Bearer token"},
                    "placeholders": {"host": "http://127.0.0.1:8000"},
                },
                "conn-fields": {
                    "project": {
                        "label": "Project",
                        "description": "The project in resource names; `local` unless given.",
                        "schema": {"type": ["string", "null"], "default": "local"},
                    },
                    "others": {
                        "label": "Other engines",
                        "description": "Addresses of further engines on the same database, with commas "
                        "between them; asked when the first does not answer.",
                        "schema": {"type": ["string", "null"]},
                    },
                },
            }
        ],
    }
