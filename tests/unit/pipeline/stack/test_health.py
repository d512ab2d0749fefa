from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from pipeline.errors import StackError
from pipeline.stack import health
from pipeline.stack.health import get_json, is_engine_healthy, unhealthy_airflow, wait_healthy
from pipeline.stack.processes import ProcessRecord
from pipeline.stack.state import free_ports

STARTED = 1_000_000.0
DEAD = ProcessRecord(name="engine", pid=2**22 + 1, started=STARTED, fingerprint="")
SCHEDULER = ProcessRecord(name="airflow-scheduler", pid=1, started=STARTED, fingerprint="")


def report(*, heartbeat: float, status: str = "healthy") -> dict[str, Any]:
    time = datetime.fromtimestamp(heartbeat, UTC).isoformat()
    return {"scheduler": {"status": status, "latest_scheduler_heartbeat": time}}


class TestProbes:
    def test_engine_that_answers_ok_is_healthy(self, httpserver: HTTPServer) -> None:
        httpserver.expect_request("/healthz").respond_with_json({"status": "ok"})
        assert is_engine_healthy(httpserver.url_for(""))

    @pytest.mark.parametrize(("code", "body"), [(200, "[]"), (200, "no json"), (500, "{}")])
    def test_any_other_answer_is_not_healthy(self, httpserver: HTTPServer, code: int, body: str) -> None:
        httpserver.expect_request("/healthz").respond_with_data(body, status=code)
        assert not is_engine_healthy(httpserver.url_for(""))

    def test_closed_port_gives_nothing(self) -> None:
        assert get_json(f"http://127.0.0.1:{free_ports(1)[0]}/") is None

    def test_proxy_settings_are_not_used(
        self, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
        monkeypatch.setenv("no_proxy", "")
        httpserver.expect_request("/healthz").respond_with_json({"status": "ok"})
        assert is_engine_healthy(httpserver.url_for(""))


class TestAirflow:
    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (report(heartbeat=STARTED + 1), []),
            (report(heartbeat=STARTED - 20), ["airflow-scheduler"]),
            (report(heartbeat=STARTED + 1, status="unhealthy"), ["airflow-scheduler"]),
            ({"scheduler": {"status": "healthy", "latest_scheduler_heartbeat": None}}, ["airflow-scheduler"]),
            ({"scheduler": None}, ["airflow-scheduler"]),
        ],
        ids=["beats", "beat of an earlier process", "unhealthy", "never beat", "unknown"],
    )
    def test_component_counts_when_its_own_process_beats(
        self, httpserver: HTTPServer, answer: dict[str, Any], expected: list[str]
    ) -> None:
        httpserver.expect_request("/api/v2/monitor/health").respond_with_json(answer)
        assert unhealthy_airflow(httpserver.url_for("").rstrip("/"), [SCHEDULER]) == expected

    def test_nothing_is_healthy_while_the_api_is_silent(self) -> None:
        url = f"http://127.0.0.1:{free_ports(1)[0]}"
        assert unhealthy_airflow(url, [SCHEDULER]) == ["airflow-scheduler"]


class TestWaiting:
    def test_wait_ends_when_nobody_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health, "POLL_SECONDS", 0)
        answers = [["engine"], ["engine"], []]
        wait_healthy(lambda: answers.pop(0), [], logs=tmp_path, seconds=10)
        assert answers == []

    def test_dead_component_ends_the_wait_at_once_with_its_log(self, tmp_path: Path) -> None:
        (tmp_path / "engine.log").write_text("ImportError: no such thing\n")
        with pytest.raises(
            StackError, match=r"engine ended while it was starting(?s:.*)ImportError: no such thing"
        ):
            wait_healthy(lambda: ["engine"], [DEAD], logs=tmp_path, seconds=100)

    def test_deadline_names_who_is_late_and_shows_its_log(self, tmp_path: Path) -> None:
        (tmp_path / "engine.log").write_text("still loading\n")
        with pytest.raises(StackError, match=r"engine did not become healthy in 0 s(?s:.*)still loading"):
            wait_healthy(lambda: ["engine"], [], logs=tmp_path, seconds=0)
