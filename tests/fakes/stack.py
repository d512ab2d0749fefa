"""A running stack's status, made up."""

from __future__ import annotations

from pipeline.stack import StackStatus
from pipeline.stack.status import AirflowAddress, EngineAddress, Overall, ProcessState, ProcessStatus


def stack_status(
    *,
    engine_url: str = "http://127.0.0.1:1",
    airflow_url: str = "http://127.0.0.1:2",
    password: str = "shown",
    engine_state: ProcessState = ProcessState.RUNNING,
) -> StackStatus:
    return StackStatus(
        state=Overall.RUNNING if engine_state is ProcessState.RUNNING else Overall.DEGRADED,
        engine=EngineAddress(url=engine_url, project="local", token="hidden"),
        airflow=AirflowAddress(url=airflow_url, username="admin", password=password, pages="/graft/"),
        processes=(ProcessStatus(name="engine", pid=1, state=engine_state),),
    )
