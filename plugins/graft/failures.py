"""The one place where an error of the library becomes Airflow's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from pipeline.errors import PipelineError


@contextmanager
def airflow_failures() -> Iterator[None]:
    """Let transient errors through, so that Airflow tries again, and end the task at once for all others.

    Raises:
        AirflowFailException: for an error that another try would only repeat.
    """
    try:
        yield
    except PipelineError as error:
        if error.transient:
            raise
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
