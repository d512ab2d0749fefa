"""The local stack: the engine and Airflow, started and stopped by our own launcher (docs/adr/0002)."""

from pipeline.stack.control import down, status, up
from pipeline.stack.status import StackStatus

__all__ = ["StackStatus", "down", "status", "up"]
