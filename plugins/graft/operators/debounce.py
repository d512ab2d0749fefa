"""Step 0 of runs by event: wait until the burst is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from graft.operators.base import GraftOperator
from graft.params import classifier_of_run
from graft.run_request import RunType, run_type

if TYPE_CHECKING:
    from airflow.sdk import Context


class DebounceOperator(GraftOperator):
    """Let a run that an event of new pictures started wait a little before it looks at the source.

    Events that come while it waits, or while it runs, are folded by Airflow into one further run; that one
    finds nothing new and ends. So a burst costs one training. Runs by hand do not wait.

    Args:
        classifier: The YAML's content; `retrain.debounce_seconds` says how long.
        arguments: Those of `GraftOperator`.
    """

    def __init__(self, *, classifier: Mapping[str, Any], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.classifier = classifier

    def perform(self, context: Context) -> None:
        """Defer until the time is over: no slot is held."""
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        seconds = classifier_of_run(self.classifier, context).retrain.debounce_seconds
        if run_type(context) is not RunType.ASSET or not seconds:
            return
        self.log.info("waiting %g s for further events", seconds)
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        self.defer(trigger=DateTimeTrigger(moment=moment), method_name="execute_complete")

    def execute_complete(self, context: Context, event: Any = None) -> None:
        """Go on."""
