"""What a team's stack gives to a machine that joins: its servers, and the settings of its parts."""

from __future__ import annotations

from pipeline.config import Settings
from pipeline.engine.control import token_file
from pipeline.stack.environment import SECOND_ENGINE
from pipeline.stack.profile import POSTGRES, REDIS
from pipeline.stack.services import Services
from pipeline.stack.state import StackState
from pipeline.storage import parse_buckets
from pipeline.types import JsonDict

TAKEN_OVER = (
    *("project", "bucket", "buckets", "keep_versions", "keep_days", "demo_per_minute"),
    *("fetch_allow", "fetch_contact", "fetch_pool"),
)


def offer_settings(settings: Settings, state: StackState, services: Services) -> JsonDict:
    """Return what a stack's gateway offers: its servers, and the settings of a worker without passwords."""
    own = {name: state.ports[name] for name in (POSTGRES, REDIS, SECOND_ENGINE) if name in state.ports}
    values = {name: getattr(settings, name) for name in TAKEN_OVER}
    buckets = ",".join(f"{name}={place}" for name, place in parse_buckets(settings.buckets).items())
    files = services.database_password_file, services.broker_password_file, token_file(settings.home)
    return {
        "targets": {"engine": state.engine_port, "airflow": state.airflow_port, **own},
        "password_files": dict(
            zip(
                ("database_password", "broker_password", "engine_tokens"),
                (str(file) if file else "" for file in files),
                strict=True,
            )
        ),
        "settings": values
        | {
            "buckets": buckets,
            "engine_port": state.engine_port,
            "airflow_port": state.airflow_port,
            "ports": own,
            "airflow_database": services.airflow_database,
            "engine_database": services.engine_database,
            "broker": services.broker,
            "num_dag_directories": len(settings.dag_directories),
        },
    }
