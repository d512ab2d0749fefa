"""A run on the pages: started, watched, waited for, cancelled, and what needs somebody."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from graft.ownership import DAG, RUN, TASK, digest

from pipeline.ml_engine.protocol import label_value
from pipeline.pages.progress import describe_progress, read_epochs
from pipeline.pages.run_status import RunStatus
from pipeline.pages.schedule import BrokenFile, Question, Run, Task
from pipeline.report.build import write_report
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.pages import DATASET_VERSION, WORKSPACE
from tests.fakes.report import CLASSIFIER, ReportWorld

NOW = datetime.now(UTC)
RUN_ID = "manual__2026-11-27T01:00:00+00:00"
HOSTILE = '"><script>alert(1)</script>'
PAGE = f"/runs/{NAME}/{RUN_ID}"


def task(step: str, state: str, begin: float = 0, end: float | None = None, **fields: Any) -> Task:
    """A task that began so many seconds ago."""
    return Task(
        step=step,
        state=state,
        started=NOW - timedelta(seconds=begin) if begin else None,
        ended=None if end is None else NOW - timedelta(seconds=end),
        **fields,
    )


@pytest.fixture
def watched(pages: Pages) -> Pages:
    """A run that trains; an earlier one took ten seconds for each step."""
    pages.watched[RUN_ID] = Run(run_id=RUN_ID, state="running", started=NOW)
    pages.watched["earlier"] = Run(run_id="earlier", state="success")
    pages.tasks[RUN_ID] = [
        task("train", "deferred", 4, tries=2),
        task("fetch", "success", 30, 20),
        *(task("pack", state, 12, 10, map_index=i) for i, state in enumerate(("success", "success"))),
        task("evaluate", ""),
        task("gate", ""),
    ]
    pages.tasks["earlier"] = [
        task(step, "success", 20, 10) for step in ("fetch", "train", "evaluate", "gate")
    ]
    pages.sign_in("user")
    return pages


class TestWatching:
    def test_the_steps_are_in_the_order_of_the_dag_with_their_state(self, watched: Pages) -> None:
        text = watched.get(PAGE).text
        places = [text.index(f'<th scope="row">{step}<') for step in ("fetch", "pack", "train", "gate")]
        assert places == sorted(places)
        assert "2 of 2" in text
        assert "try 2" in text
        assert "not yet" in text

    def test_what_is_left_is_what_the_other_steps_took_before(self, watched: Pages) -> None:
        progress = describe_progress(watched.tasks[RUN_ID], watched.tasks["earlier"], now=NOW)
        assert progress.seconds_left == 26
        assert re.search(r"about \d+ s left", watched.get(PAGE).text)

    def test_nothing_is_said_of_a_step_that_was_never_taken(self, watched: Pages) -> None:
        progress = describe_progress(watched.tasks[RUN_ID], watched.tasks["earlier"][:2], now=NOW)
        assert progress.seconds_left is None

    def test_the_end_of_the_jobs_log_is_shown(self, watched: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
        label = digest(NAME, RUN_ID, "train", -1)
        watched.engine.create_job({"jobId": "graft_9", "labels": {TASK: label}})
        log = SimpleNamespace(text=f"epoch 3 of 20\n{HOSTILE}")
        monkeypatch.setattr(watched.engine, "read_job_log", lambda *_, **__: log)
        text = watched.get(PAGE).text
        assert "epoch 3 of 20" in text
        assert "/jobs/graft_9" in text
        assert "<script>alert" not in text

    def test_a_job_that_waits_says_where_in_the_queue(
        self, watched: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = {"jobId": "graft_9", "labels": {TASK: digest(NAME, RUN_ID, "train", -1)}}
        monkeypatch.setattr(watched.engine, "read_job_log", lambda *_, **__: SimpleNamespace(text=""))
        monkeypatch.setattr(watched.engine, "list_jobs", lambda: [{**job, "jobPosition": "3"}])
        assert "number 3 in the queue of jobs" in watched.get(PAGE).text
        monkeypatch.setattr(watched.engine, "list_jobs", lambda: [job])
        assert "in the queue of jobs" not in watched.get(PAGE).text

    def test_what_was_kept_out_is_told_once_the_pictures_are_clean(self, watched: Pages) -> None:
        assert "kept out" not in watched.get(PAGE).text
        watched.results[RUN_ID, "clean"] = {"version": DATASET_VERSION}
        text = watched.get(PAGE).text
        assert ">90 pictures</a> to train and test with; kept out:" in text
        place = f"/classifiers/{NAME}/pictures?version={DATASET_VERSION}&amp;split=out&amp;reason=truncated"
        assert f'{place}">truncated</a>, 10: the file ends before the picture does' in text
        watched.results[RUN_ID, "clean"] = {"version": "d_none"}  # nothing there any more
        assert "kept out" not in watched.get(PAGE).text

    def test_the_last_epoch_of_a_training_is_shown_with_its_figures(
        self, watched: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watched.engine.create_job({"jobId": "graft_9", "labels": {TASK: digest(NAME, RUN_ID, "train", -1)}})
        lines = [
            f"2026 INFO epoch {epoch} of 8, training 2 of 2: loss 0.{9 - epoch}, accuracy 0.9"
            for epoch in (2, 3)
        ]
        log = SimpleNamespace(text="\n".join([*lines, "2026 INFO and so on"]))
        monkeypatch.setattr(watched.engine, "read_job_log", lambda *_, **__: log)
        text = watched.get(PAGE).text
        assert '<progress value="3" max="8"' in text
        assert "</progress> epoch 3 of 8, training 2 of 2: loss 0.6, accuracy 0.9</p>" in text
        for line in ("loss of 2 epochs: from 0.7 to 0.6", "accuracy of 2 epochs: from 0.9 to 0.9"):
            assert f'role="img" aria-label="{line}"' in text

    def test_the_lines_are_those_of_the_present_training(self) -> None:
        lines = [f"epoch {n} of 2, training 1 of 2: loss 0.{n}" for n in (1, 2)]
        first = read_epochs(lines[0])
        assert first
        assert not first.lines  # one point is none
        lines += [
            f"epoch {n} of 3, training 2 of 2: loss {1 / n:.4f}, val_loss {9e-5 / n}" for n in (1, 2, 3)
        ]
        progress = read_epochs("\n".join(lines))
        assert progress
        assert {name: line.text for name, line in progress.lines.items()} == {
            "loss": "loss of 3 epochs: from 1 to 0.3333",
            "val_loss": "val_loss of 3 epochs: from 9e-05 to 3e-05",
        }
        points = [tuple(map(float, pair.split(","))) for pair in progress.lines["loss"].points.split()]
        assert points == [(4, 4), (60, 19), (116, 24)]  # it falls

    def test_the_trials_of_a_study_that_this_run_began_are_counted(
        self, watched: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watched.tasks[RUN_ID] = [task("tune", "deferred", 4)]
        labels = {DAG: digest(NAME), RUN: label_value(RUN_ID)}
        tuning = {"hyperparameters": {"maxTrials": 30, "params": []}}
        job = {"jobId": "graft_9", "labels": labels, "trainingInput": tuning}
        states = ("SUCCEEDED", "FAILED", "RUNNING")
        output = {"trials": [{"trialId": str(n), "state": state} for n, state in enumerate(states)]}
        monkeypatch.setattr(watched.engine, "list_jobs", lambda: [{**job, "trainingOutput": output}])
        monkeypatch.setattr(watched.engine, "read_job_log", lambda *_, **__: SimpleNamespace(text=""))
        text = watched.get(PAGE).text
        assert '<progress value="2" max="30"' in text
        assert "2 of 30 trials have ended" in text
        assert "/jobs/graft_9" in text

    def test_a_failed_run_has_a_reason_and_looks_no_more(self, watched: Pages) -> None:
        watched.watched[RUN_ID] = Run(run_id=RUN_ID, state="failed")
        watched.tasks[RUN_ID] = [task("fetch", "failed", 9, 1), task("clean", "upstream_failed")]
        watched.failure = f"fetch: SourceNotFound: no folder {HOSTILE}"
        text = watched.get(PAGE).text
        assert "SourceNotFound" in text
        assert "not reached" in text
        assert "data-reload" not in text
        assert "<script>alert" not in text

    def test_who_may_read_no_logs_sees_no_reason_and_no_tail(
        self, watched: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("graft.ui.access.may_read_logs", lambda *_: False)
        watched.engine.create_job({"jobId": "graft_9", "labels": {TASK: digest(NAME, RUN_ID, "train", -1)}})
        assert "graft_9" not in watched.get(PAGE).text
        watched.watched[RUN_ID] = Run(run_id=RUN_ID, state="failed")
        watched.tasks[RUN_ID] = [task("fetch", "failed", 9, 1)]
        watched.failure = "a secret of the log"
        assert "a secret" not in watched.get(PAGE).text

    def test_a_run_that_waits_says_for_whom_and_where(self, watched: Pages) -> None:
        watched.questions = [
            Question(name=NAME, run_id=RUN_ID, task_id="approve", asked=NOW, approvers=("bob", "eve"))
        ]
        for path in (PAGE, f"/classifiers/{NAME}", "/"):
            text = watched.get(path).text
            assert "bob, eve" in text
            assert f"/dags/{NAME}/runs/manual__2026-11-27T01%3A00%3A00%2B00%3A00/tasks/approve/" in text

    def test_the_verdict_of_a_run_that_waits_says_for_whom(
        self, watched: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = watched.fleet.runs[0]
        asked = {"run_id": run.run_id, "task_id": "approve", "asked": NOW}
        watched.questions = [Question(name=NAME, approvers=("bob", "eve"), **asked)]
        waiting = RunStatus(word="waiting", has_report=True)
        monkeypatch.setattr("pipeline.pages.versions.read_run_status", lambda *_: waiting)
        monkeypatch.setattr("pipeline.pages.overview.read_run_status", lambda *_: waiting)
        cells = r'<td data-title="(?:last )?verdict">(.*?)</td>'
        for path in ("/", f"/classifiers/{NAME}"):
            [cell, *others] = re.findall(cells, watched.get(path).text, re.S)
            assert re.sub("<[^>]*>", "", cell).startswith("waiting for bob, eve")
            assert not any(" for " in other for other in others)
        watched.questions = [Question(name=NAME, **asked)]
        [cell, *_] = re.findall(cells, watched.get("/").text, re.S)
        assert re.sub("<[^>]*>", "", cell).startswith("waiting for a person")

    def test_a_report_of_a_run_that_goes_on_says_so(self, watched: Pages, tmp_path: Path) -> None:
        world = ReportWorld(tmp_path / "graft")
        write_report(
            world.workspace,
            **world.arguments(classifier=CLASSIFIER.model_copy(update={"name": NAME})),
        )
        for uri in world.storage.list_uris(f"{WORKSPACE}/"):
            watched.fleet.storage.write_bytes(uri, world.storage.read_bytes(uri))
        for state, goes_on in (("running", True), ("success", False)):
            watched.watched["manual__1"] = Run(run_id="manual__1", state=state)
            assert ("Look again" in watched.get(f"/runs/{NAME}/manual__1").text) is goes_on

    def test_a_report_leads_back_and_to_the_question(self, watched: Pages, tmp_path: Path) -> None:
        world = ReportWorld(tmp_path / "graft")
        write_report(
            world.workspace,
            **world.arguments(classifier=CLASSIFIER.model_copy(update={"name": NAME})),
        )
        for uri in world.storage.list_uris(f"{WORKSPACE}/"):
            watched.fleet.storage.write_bytes(uri, world.storage.read_bytes(uri))
        watched.watched["manual__1"] = Run(run_id="manual__1", state="running")
        watched.questions = [Question(name=NAME, run_id="manual__1", task_id="approve", asked=NOW)]
        text = watched.get(f"/runs/{NAME}/manual__1").text
        assert f'href="/classifiers/{NAME}"' in text
        assert "required_actions" in text


class TestInbox:
    def test_it_has_what_failed_and_what_cannot_be_read(
        self, pages: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from graft.ui import scheduler

        broken = BrokenFile(file="birds.py", error=f"ConfigError: `epoch`: did you mean `epochs`? {HOSTILE}")
        failed = [
            each.__class__(name=each.name, last_run=Run(run_id="scheduled__9", state="failed", ended=NOW))
            for each in pages.fleet.scheduled
        ]
        monkeypatch.setattr(scheduler, "read_classifiers", lambda names=None: failed)
        pages.broken, pages.failure = [broken], "fetch: SourceNotFound: /data is gone"
        pages.sign_in("admin")
        text = pages.get("/").text
        assert "<code>epoch</code>: did you mean <code>epochs</code>?" in text
        assert "/data is gone" in text
        assert f"/runs/{NAME}/scheduled__9" in text
        assert "<script>alert" not in text

    def test_it_is_not_there_if_nothing_needs_anybody(self, pages: Pages) -> None:
        pages.sign_in("admin")
        assert "What needs somebody" not in pages.get("/").text

    def test_it_names_only_what_the_person_may_see(self, pages: Pages) -> None:
        pages.questions = [Question(name="classifier_01", run_id="r", task_id="approve", asked=NOW)]
        pages.sign_in("viewer")
        assert "classifier_01" not in pages.get("/").text


class TestStarting:
    def test_a_form_starts_a_run_in_the_persons_name_and_shows_it(
        self, pages: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[dict[str, Any]] = []

        def trigger_dag(name: str, **arguments: Any) -> Any:
            asked.append({"name": name, **arguments})
            return SimpleNamespace(run_id=RUN_ID)

        monkeypatch.setattr("graft.ui.run_actions.trigger_dag", trigger_dag)
        pages.sign_in("user")
        token = pages.token()
        answer = pages.post("run", {"token": token, "epochs": "40", "only_new": "1"})
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/runs/{NAME}/manual__2026-11-27T01%3A00%3A00%2B00%3A00"
        assert asked[0]["conf"] == {"retrain.unchanged": "skip", "model.epochs": 40}
        assert asked[0]["triggering_user_name"] == "ann"
        assert pages.post("run", {"token": token}).status_code == 303
        assert asked[1]["conf"] == {}

    @pytest.mark.parametrize("epochs", ["0", "-1", "ten", "10001", "1.5"])
    def test_epochs_that_are_none_are_refused(self, pages: Pages, epochs: str) -> None:
        pages.sign_in("user")
        answer = pages.post("run", {"token": pages.token(), "epochs": epochs})
        assert answer.status_code == 400
        assert "from 1 to 10000" in answer.text

    def test_cancelling_ends_a_run_that_works_and_no_other(
        self, watched: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ended: list[str] = []
        monkeypatch.setattr("graft.ui.run_actions._fail", lambda name, run_id: ended.append(run_id))
        token = watched.token()
        assert watched.post("cancel", {"token": token, "run_id": RUN_ID}).status_code == 303
        assert watched.post("cancel", {"token": token, "run_id": "earlier"}).status_code == 303
        assert watched.post("cancel", {"token": token, "run_id": "nobody"}).status_code == 404
        assert ended == [RUN_ID]
