from __future__ import annotations

import tests.airflow_environment  # noqa: F401  before any import of Airflow
from tests.unit.plugins.conftest import engine, storage  # noqa: F401
