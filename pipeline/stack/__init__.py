"""The local stack: the engine and Airflow, started and stopped by our own launcher (docs/adr/0002)."""

from pipeline.stack.control import down, up
from pipeline.stack.description import status
from pipeline.stack.status import StackStatus

__all__ = ["StackStatus", "down", "status", "up"]
