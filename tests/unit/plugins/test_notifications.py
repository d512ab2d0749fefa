from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException
from pytest_httpserver import HTTPServer

from pipeline.artifacts.model_record import Approval
from pipeline.artifacts.run_summary import DataGateSummary, GateSummary, Outcome, write_summary
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier, NotifyConfig
from pipeline.errors import ConfigError
from pipeline.storage import Storage
from tests.fakes.model_record import run_summary

RUN = "manual__2026-01-01T00:00:00+00:00"
SUMMARY = run_summary(run_id=RUN, ended_by="publish")


def context(task_id: str = "publish", **more: Any) -> Any:
    return {"ti": SimpleNamespace(dag_id="m", run_id=RUN, task_id=task_id), **more}


def leave(storage: Storage, **change: Any) -> None:
    write_summary(Workspace(storage, "gs://graft"), replace(SUMMARY, **change))


class TestNews:
    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({}, "m: deployed v_1, accuracy 0.9500 (0.9000 to 0.9900)"),
            (
                {
                    "state": Outcome.REFUSED,
                    "gate": GateSummary(accepted=False, reasons=("accuracy 0.5 is below the limit",)),
                },
                "m: refused by the gate: accuracy 0.5 is below the limit",
            ),
            (
                {
                    "state": Outcome.REJECTED,
                    "gate": GateSummary(
                        accepted=True,
                        reasons=(),
                        approval=Approval(approved=False, by="Ada", reason="blurred", at=""),
                    ),
                },
                "m: rejected by Ada: blurred",
            ),
            (
                {"state": Outcome.SUPERSEDED},
                "m: superseded: another version became the default during the run",
            ),
            (
                {"state": Outcome.SKIPPED, "reason": "nothing new: `v_1` serves"},
                "m: skipped: nothing new: `v_1` serves",
            ),
            (
                {
                    "state": Outcome.SKIPPED,
                    "gate": None,
                    "expect": DataGateSummary(outcome="skip", reasons=("class_loss (skip): cat vanished",)),
                },
                "m: skipped: Data gate: class_loss (skip): cat vanished",
            ),
        ],
        ids=["success", "refused", "rejected", "superseded", "nothing new", "data gate"],
    )
    def test_say_in_one_line_what_came_of_the_run_and_where_to_look(
        self, storage: Storage, change: dict[str, Any], text: str
    ) -> None:
        from graft.notifications import find_news

        leave(storage, **change)
        news = find_news(context())
        assert news is not None
        assert (news.outcome, news.text) == (change.get("state", "success"), text)
        assert news.link.endswith("/dags/m/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00")

    def test_come_from_the_task_that_ended_the_run_only(self, storage: Storage) -> None:
        from graft.notifications import find_news

        assert find_news(context()) is None
        leave(storage)
        assert find_news(context("clean")) is None

    def test_of_a_failure_name_the_task_and_its_error_on_one_line(self, storage: Storage) -> None:
        from graft.notifications import find_news

        news = find_news(context("train", exception=ConfigError("bad key\nsay another")))
        assert news is not None
        assert (news.outcome, news.text) == ("failed", "m: train failed: bad key say another")
        long = find_news(context("train", exception=ConfigError("x" * 9999)))
        assert long is not None
        assert len(long.text) == 500

    def test_reach_a_callback_of_the_dag_as_well(self, storage: Storage) -> None:
        from graft.notifications import find_news

        leave(storage)
        dag_context: Any = {"dag": SimpleNamespace(dag_id="m"), "run_id": RUN}
        assert find_news(dag_context) is not None


class TestLog:
    def test_gets_one_line_with_the_link(self, storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
        from graft.notifications import GraftLogNotifier

        leave(storage)
        caplog.set_level("INFO")
        GraftLogNotifier()(context())
        [line] = [record.getMessage() for record in caplog.records if "deployed v_1" in record.getMessage()]
        assert re.match(r"success: m: deployed v_1, .* \S*/dags/m/runs/manual", line)

    def test_is_left_alone_by_what_is_not_asked_for(
        self, storage: Storage, caplog: pytest.LogCaptureFixture
    ) -> None:
        from graft.notifications import GraftLogNotifier

        leave(storage)
        caplog.set_level("INFO")
        GraftLogNotifier(about=["failed"])(context())
        assert "deployed" not in caplog.text


class TestWebhook:
    @pytest.fixture
    def connect(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        from airflow.sdk import BaseHook

        def connect(**fields: Any) -> None:
            found = SimpleNamespace(
                **{"host": None, "password": None, "schema": None, "port": None, **fields}
            )
            monkeypatch.setattr(BaseHook, "get_connection", lambda conn_id: found)

        return connect

    @pytest.fixture(autouse=True)
    def _summary(self, storage: Storage) -> None:
        leave(storage)

    def post(self) -> None:
        from graft.notifications import GraftWebhookNotifier

        GraftWebhookNotifier("chat")(context())

    def test_is_posted_the_news_with_the_bearer_token(
        self, httpserver: HTTPServer, connect: Callable[..., None]
    ) -> None:
        httpserver.expect_request(
            "/hook", method="POST", headers={"Authorization": "Bearer s3cret"}
        ).respond_with_data("ok")
        connect(host=httpserver.url_for("/hook"), password="s3cret")
        self.post()
        [(request, answer)] = httpserver.log
        assert answer.status_code == 200
        body = json.loads(request.data)
        assert set(body) == {"outcome", "text", "classifier", "run_id", "link"}
        assert body["text"] == f"m: deployed v_1, accuracy 0.9500 (0.9000 to 0.9900) {body['link']}"

    def test_may_have_its_address_in_the_password(
        self, httpserver: HTTPServer, connect: Callable[..., None]
    ) -> None:
        httpserver.expect_request("/services/T0/s3cret").respond_with_data("ok")
        connect(host="chat", password=httpserver.url_for("/services/T0/s3cret"))
        self.post()
        [(request, _)] = httpserver.log
        assert "Authorization" not in request.headers

    def test_that_refuses_or_is_not_there_costs_a_line_and_shows_no_secret(
        self, httpserver: HTTPServer, connect: Callable[..., None], caplog: pytest.LogCaptureFixture
    ) -> None:
        httpserver.expect_request("/s3cret").respond_with_data("no", status=500)
        connect(password=httpserver.url_for("/s3cret"))
        self.post()
        connect(password="http://127.0.0.1:1/s3cret")
        self.post()
        assert "webhook chat answered 500" in caplog.text
        assert "webhook chat cannot be reached: ConnectionError" in caplog.text
        assert all("s3cret" not in each.getMessage() for each in caplog.records if "graft" in each.name)

    def test_without_its_connection_costs_a_line(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from airflow.sdk import BaseHook

        def missing(conn_id: str) -> None:
            raise AirflowNotFoundException(conn_id)

        monkeypatch.setattr(BaseHook, "get_connection", missing)
        self.post()
        assert "no connection chat: the news was not sent" in caplog.text


class TestConfiguration:
    YAML = {"name": "m", "dataset": {"source": {"type": "sample"}}}

    def test_is_a_line_in_the_log_unless_said_otherwise(self) -> None:
        from graft.notifications import GraftLogNotifier, build_notifiers

        [notifier] = build_notifiers(Classifier.from_dict(self.YAML).notify)
        assert isinstance(notifier, GraftLogNotifier)
        assert "skipped" not in notifier.about

    def test_names_places_and_what_they_are_told(self) -> None:
        from graft.notifications import GraftWebhookNotifier, build_notifiers

        notify = [{"to": "webhook", "connection": "chat", "about": ["failed"]}]
        [notifier] = build_notifiers(Classifier.from_dict({**self.YAML, "notify": notify}).notify)
        assert isinstance(notifier, GraftWebhookNotifier)
        assert (notifier.connection, notifier.about) == ("chat", ("failed",))

    @pytest.mark.parametrize("entry", [{"to": "webhook"}, {"to": "log", "connection": "chat"}])
    def test_refuses_a_webhook_without_connection_and_a_log_with_one(self, entry: dict[str, str]) -> None:
        with pytest.raises(ValueError, match="`connection` names the Airflow connection of a `webhook`"):
            NotifyConfig.model_validate(entry)

    def test_reaches_every_task_of_the_dag(self) -> None:
        from graft.training_dag import build_training_dag

        for task in build_training_dag(Classifier.from_dict(self.YAML)).tasks:
            arguments = getattr(task, "partial_kwargs", None) or vars(task)
            for kind in ("on_success_callback", "on_failure_callback"):
                assert len(arguments[kind]) == 1, task.task_id
