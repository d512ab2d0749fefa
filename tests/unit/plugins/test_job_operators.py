"""What an operator over jobs promises whatever happens to its task."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowTaskTimeout, TaskDeferred

from pipeline.ml_engine.jobs import job_id_of
from tests.fakes.ml_engine import FakeMLEngine

KEY = ("m", "manual__1", "task", -1)


@pytest.fixture
def make_operator(engine: FakeMLEngine) -> Callable[..., Any]:
    from graft.operators.jobs import MLEngineJobOperator, instance_key

    class Work(MLEngineJobOperator):
        def submit(self, context: Any) -> Any:
            self.set_job_labels(context)
            return [self.submit_once(instance_key(context), lambda job_id: {"jobId": job_id})]

        def complete(self, context: Any, jobs: Any) -> Any:
            return [job["jobId"] for job in jobs]

    return lambda **options: Work(task_id="task", poll_seconds=0.01, **options)


def deferral(operator: Any, context: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute(context)
    return caught.value


def ended(*job_ids: str) -> dict[str, Any]:
    return {"status": "ended", "job_ids": list(job_ids), "states": {}}


class TestLateCancel:
    """A person clears the task: its next try adopts the job, and then the old try's trigger cancels it."""

    def test_of_an_adopted_job_starts_the_next_attempt(
        self, engine: FakeMLEngine, make_operator: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        deferral(make_operator(), make_context())
        second = deferral(make_operator(), make_context())
        assert second.kwargs is not None
        assert second.kwargs["adopted"] == [job_id_of(*KEY)]
        engine.end(job_id_of(*KEY), "CANCELLED", "cancelled by a client")
        third = deferral_of_complete(make_operator(), make_context(), second.kwargs)
        assert third.trigger.job_ids == [job_id_of(*KEY, attempt=1)]
        assert len(engine.jobs) == 2

    def test_of_a_job_of_its_own_fails_the_task(
        self, engine: FakeMLEngine, make_operator: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        first = deferral(make_operator(), make_context())
        assert first.kwargs is not None
        engine.end(job_id_of(*KEY), "CANCELLED", "cancelled by a client")
        with pytest.raises(AirflowFailException, match="cancelled by a client"):
            make_operator().execute_complete(make_context(), ended(job_id_of(*KEY)), **first.kwargs)
        assert len(engine.jobs) == 1

    def test_that_comes_much_later_is_somebodys_will(
        self, engine: FakeMLEngine, make_operator: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        deferral(make_operator(), make_context())
        engine.end(job_id_of(*KEY), "CANCELLED", "cancelled by a client")
        late = {"adopted": [job_id_of(*KEY)], "adopted_at": 0.0}
        with pytest.raises(AirflowFailException, match="cancelled by a client"):
            make_operator().execute_complete(make_context(), ended(job_id_of(*KEY)), **late)


@pytest.mark.parametrize(
    ("try_number", "max_tries", "cleared"),
    [(1, 2, False), (3, 2, False), (2, 3, True), (3, 3, False), (4, 5, True), (5, 5, False)],
)
def test_only_the_first_try_after_a_person_cleared_the_task_does_its_work_again(
    make_operator: Callable[..., Any],
    make_context: Callable[..., Any],
    try_number: int,
    max_tries: int,
    cleared: bool,
) -> None:
    from graft.operators.jobs import was_cleared

    context = make_context()
    context["ti"].try_number, context["ti"].max_tries = try_number, max_tries
    assert was_cleared(context, make_operator(retries=2)) is cleared


def deferral_of_complete(operator: Any, context: Any, kwargs: dict[str, Any]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        operator.execute_complete(context, ended(*kwargs["adopted"]), **kwargs)
    return caught.value


class TestExecutionTimeout:
    def test_is_the_triggers_deadline_where_it_comes_first(
        self, make_operator: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        operator = make_operator(execution_timeout=timedelta(seconds=30))
        found = deferral(operator, make_context())
        assert found.kwargs is not None
        assert found.trigger.deadline - found.kwargs["adopted_at"] == pytest.approx(30)

    def test_that_airflow_raises_while_waiting_cancels_the_job_and_is_final(
        self,
        engine: FakeMLEngine,
        make_operator: Callable[..., Any],
        make_context: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def interrupt(self: object, **options: Any) -> Any:
            raise AirflowTaskTimeout

        monkeypatch.setattr("pipeline.ml_engine.watch.JobWatcher.wait", interrupt)
        operator = make_operator(deferrable=False, execution_timeout=timedelta(seconds=30))
        with pytest.raises(AirflowFailException, match="JobTimeout: .* within 30 s"):
            operator.execute(make_context())
        assert engine.cancelled == [job_id_of(*KEY)]

    def test_without_a_deferral_the_deadline_cancels_too(
        self, engine: FakeMLEngine, make_operator: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        with pytest.raises(AirflowFailException, match="JobTimeout"):
            make_operator(deferrable=False, deadline_seconds=0.02).execute(make_context())
        assert engine.cancelled == [job_id_of(*KEY)]


class TestOwnership:
    def test_labels_tell_the_sweep_whose_job_it_is(
        self, engine: FakeMLEngine, make_operator: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        from graft.ownership import DAG, TASK, digest

        deferral(make_operator(), make_context())
        labels = engine.jobs[job_id_of(*KEY)]["labels"]
        assert labels[TASK] == digest(*KEY)
        assert labels[DAG] == digest("m")

    def test_kill_leaves_the_job_alone_where_the_dag_says_so(
        self, engine: FakeMLEngine, make_operator: Callable[..., Any], make_context: Callable[..., Any]
    ) -> None:
        operator = make_operator(cancel_on_kill=False)
        assert deferral(operator, make_context()).trigger.cancel_on_kill is False
        operator.on_kill()
        assert engine.cancelled == []
