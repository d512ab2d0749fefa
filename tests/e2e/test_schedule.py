"""What nobody starts by hand, on the real stack: a cron that fires, a question nobody answers, a backfill."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from pipeline.errors import StackError
from tests.e2e.conftest import ClassifierDag, Stack, wait_until

NAME = "timely"
CLASSIFIER = {
    "name": NAME,
    "dataset": {"source": {"type": "sample", "classes": ["brick", "grass"]}},
    "model": {"head": {"type": "logistic"}},
    "gate": {"min_accuracy": 0.5},
    "deploy": {"require_approval": True, "approval_hours": 5 / 3600, "on_timeout": "approve"},
    "schedule": "* * * * *",
}


class Timely(ClassifierDag):
    """The classifier of these tests, whose DAG is due every minute."""

    def ended(self, run_type: str, count: int) -> list[dict[str, Any]]:
        """Return the runs of a type, oldest first, once so many have ended."""
        path = f"dags/{NAME}/dagRuns?run_type={run_type}&order_by=run_after"
        runs = [run for run in self.call("GET", path)["dag_runs"] if run["state"] in ("success", "failed")]
        return runs if len(runs) >= count else []

    def backfill(self, date: datetime) -> dict[str, Any]:
        """Run again what was due at one moment, and return that run when its backfill is over."""
        moment = date.isoformat()
        body = {"dag_id": NAME, "from_date": moment, "to_date": moment, "reprocess_behavior": "completed"}

        def create() -> dict[str, Any] | None:
            try:
                made: dict[str, Any] = self.call("POST", "backfills", body)
            except StackError as error:
                if not any(
                    text in str(error) for text in ("Database is locked", "already a running backfill")
                ):
                    raise
                return None  # SQLite is written to, or Airflow has not noticed the end of the one before
            return made

        made = wait_until(create, seconds=60, what="backfill", pause=1)

        def ended() -> list[dict[str, Any]]:
            runs = self.ended("backfill", 1)
            return [run for run in runs if datetime.fromisoformat(run["logical_date"]) == date]

        [run] = wait_until(ended, seconds=200, what="end of the backfill's run")
        # Airflow takes its time to see that it is over; where it has seen it already, there is a conflict.
        self.stack.airflow()._call("PUT", f"/api/v2/backfills/{made['id']}/cancel", conflict_ok=True)
        return run


@pytest.fixture(scope="module")
def timely(stack: Stack) -> Iterator[Timely]:
    timely = Timely(stack, CLASSIFIER)
    airflow = stack.airflow()
    wait_until(lambda: airflow.last_parsed(NAME), seconds=120, what="DAG")
    timely.call("PATCH", f"dags/{NAME}", {"is_paused": False})
    yield timely
    timely.call("PATCH", f"dags/{NAME}", {"is_paused": True})


@pytest.fixture(scope="module")
def scheduled(timely: Timely) -> list[dict[str, Any]]:
    """The first two runs by schedule; the first trains."""
    runs: list[dict[str, Any]] = wait_until(
        lambda: timely.ended("scheduled", 2), seconds=400, what="end of two runs by schedule", pause=1
    )
    return runs


def test_a_cron_starts_a_run_which_deploys_when_nobody_has_answered_in_time(
    timely: Timely, scheduled: list[dict[str, Any]]
) -> None:
    first = scheduled[0]
    assert first["state"] == "success"
    assert timely.states(first["dag_run_id"])["promote"] == {"success"}
    events = timely.stack.graft_json("history", NAME)["events"]
    assert [event["event"] for event in events] == ["approved", "promoted"]
    assert events[0]["by"] == "timeout"


def test_the_next_one_finds_nothing_new(timely: Timely, scheduled: list[dict[str, Any]]) -> None:
    second = scheduled[1]
    assert second["state"] == "success"
    assert timely.states(second["dag_run_id"])["train"] == {"skipped"}
    assert timely.note(second["dag_run_id"]).startswith("**Nothing new; nothing was trained.**")


def test_a_backfill_by_rest_takes_the_dataset_of_its_date(
    timely: Timely, scheduled: list[dict[str, Any]]
) -> None:
    made = scheduled[0]["end_date"]  # after its dataset version, which the next date may come before
    later = wait_until(
        lambda: [run for run in timely.ended("scheduled", 1) if run["logical_date"] > made],
        seconds=300,
        what="end of a run by schedule that was due after the first had ended",
        pause=1,
    )
    date = datetime.fromisoformat(later[0]["logical_date"])
    before_there_was_one = timely.backfill(date - timedelta(days=365))
    assert before_there_was_one["state"] == "failed"
    assert timely.states(before_there_was_one["dag_run_id"])["fetch"] == {"failed"}
    again = timely.backfill(date)
    assert again["state"] == "success"
    assert timely.note(again["dag_run_id"]).startswith("**Nothing new; nothing was trained.**")
