from __future__ import annotations

import json

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException
from pytest_httpserver import HTTPServer

from pipeline.errors import ConfigError


class TestRunNote:
    @pytest.fixture(autouse=True)
    def _connection(self, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> None:
        connection = {
            "conn_type": "http",
            "host": httpserver.url_for("/"),
            "login": "admin",
            "password": "pw",
        }
        monkeypatch.setenv("AIRFLOW_CONN_GRAFT_AIRFLOW_API", json.dumps(connection))

    def write(self) -> bool:
        from graft.hooks.airflow_api import AirflowApiHook

        return AirflowApiHook().write_run_note("m", "manual__2026-01-01T00:00:00+00:00", "**Deployed.**")

    def test_signs_in_and_patches_the_note_only(self, httpserver: HTTPServer) -> None:
        httpserver.expect_request(
            "/auth/token", "POST", json={"username": "admin", "password": "pw"}
        ).respond_with_json({"access_token": "T"}, status=201)
        httpserver.expect_request(
            "/api/v2/dags/m/dagRuns/manual__2026-01-01T00:00:00+00:00",
            "PATCH",
            query_string={"update_mask": "note"},
            json={"note": "**Deployed.**"},
            headers={"Authorization": "Bearer T"},
        ).respond_with_json({})
        assert self.write() is True

    def test_a_refusing_api_is_no_failure(self, httpserver: HTTPServer) -> None:
        httpserver.expect_request("/auth/token").respond_with_data("no", status=401)
        assert self.write() is False

    def test_an_absent_connection_is_no_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from graft.hooks.airflow_api import AirflowApiHook

        def absent(cls: type, conn_id: str) -> None:
            raise AirflowNotFoundException(conn_id)

        monkeypatch.setattr(AirflowApiHook, "get_connection", classmethod(absent))
        assert self.write() is False


class TestMLEngineConnection:
    def connect(self, monkeypatch: pytest.MonkeyPatch, **fields: object) -> tuple[str, str]:
        from graft.hooks.ml_engine import MLEngineHook

        monkeypatch.setenv("AIRFLOW_CONN_E", json.dumps({"conn_type": "ml_engine", **fields}))
        engine = MLEngineHook("e").get_conn()
        return engine.endpoint, engine.project  # type: ignore[attr-defined]

    def test_host_may_be_the_whole_endpoint(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.connect(monkeypatch, host="https://ml.example.org/", extra={"project": "p"})
        assert found == ("https://ml.example.org", "p")

    def test_host_may_be_bare_with_schema_and_port_beside_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.connect(monkeypatch, host="127.0.0.1", port=81) == ("http://127.0.0.1:81", "local")

    def test_others_answer_when_the_host_does_not(
        self, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer
    ) -> None:
        from graft.hooks.ml_engine import MLEngineHook

        monkeypatch.setattr("graft.hooks.ml_engine.PATIENCE_SECONDS", 0)
        httpserver.expect_request("/v1/projects/local/models/m").respond_with_json({"name": "m"})
        others = f"http://127.0.0.1:2, {httpserver.url_for('/')}"
        self.connect(monkeypatch, host="http://127.0.0.1:1", extra={"others": others})
        assert MLEngineHook("e").get_conn().get_model("m") == {"name": "m"}

    def test_missing_host_says_what_to_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigError, match="set it to the endpoint"):
            self.connect(monkeypatch)

    def test_test_connection_tells_what_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from graft.hooks.ml_engine import MLEngineHook

        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's tries
        monkeypatch.setenv(
            "AIRFLOW_CONN_E", json.dumps({"conn_type": "ml_engine", "host": "http://127.0.0.1:1"})
        )
        works, message = MLEngineHook("e").test_connection()
        assert not works
        assert "does not answer" in message
