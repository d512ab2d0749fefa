"""The executor of a team's stack that other machines join: as many tasks at once as all workers have slots.

Airflow reads `[core] parallelism` once. With too many tasks in Celery's queue, those that wait for long would
be taken for lost; with too few, machines that join later would have nothing to do.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from airflow.providers.celery.executors.celery_executor import CeleryExecutor

from pipeline.config import Settings


class TeamExecutor(CeleryExecutor):  # type: ignore[misc]  # of the extra `team`
    """Celery, with a parallelism that follows the machines: the gateway writes the number of slots."""

    @property
    def parallelism(self) -> int:
        """How many tasks may run at once; at least one, which waits for a machine."""
        return max(1, min(self._most, read_slots()))

    @parallelism.setter
    def parallelism(self, most: int) -> None:
        self._most = most


def read_slots() -> int:
    """Return the number of slots of all machines, 0 before the gateway has counted them."""
    home = os.environ.get("GRAFT_HOME")
    path = (Path(home) if home else Settings().home) / "servers" / "machines.json"
    try:
        return int(json.loads(path.read_bytes())["slots"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
