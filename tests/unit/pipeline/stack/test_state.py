import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.errors import StackError
from pipeline.stack import state as module
from pipeline.stack.processes import ProcessRecord
from pipeline.stack.state import (
    StackState,
    add_engine_token,
    ensure_secrets,
    free_ports,
    is_port_free,
    load_secrets,
    load_state,
    locked,
    save_state,
)

RECORD = ProcessRecord(name="engine", pid=7, started=1.5, fingerprint="f")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


class TestState:
    def test_state_survives_a_round_trip(self, tmp_path: Path) -> None:
        state = StackState(engine_port=1, airflow_port=2, processes=(RECORD,), database="3.3.2")
        save_state(tmp_path, state)
        assert load_state(tmp_path) == state
        assert mode(tmp_path / "stack.json") == 0o600

    def test_home_without_a_stack_has_an_empty_state(self, tmp_path: Path) -> None:
        assert load_state(tmp_path) == StackState()
        assert load_secrets(tmp_path) is None

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"engine_port": 1', '{"processes": [7]}'])
    def test_damaged_state_of_a_stopped_stack_is_an_empty_one(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "stack.json").write_text(text)
        assert load_state(tmp_path) == StackState()

    def test_damaged_state_is_made_again_from_the_processes(self, tmp_path: Path) -> None:
        run = (sys.executable, "-c", "import time; print(flush=True); time.sleep(60)")
        titles = {
            "engine": "-m pipeline.engine --host 127.0.0.1 --port 8101 --home x",
            "airflow-api-server": "airflow api_server -- host:127.0.0.1 port:8102",
            "airflow-scheduler": "-P -m airflow scheduler --skip-serve-logs",
            "airflow-dag-processor": "-P -m airflow dag-processor",
        }
        started = [
            subprocess.Popen((*run, title), cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE)
            for title in titles.values()
        ]
        stranger = subprocess.Popen(
            (*run, titles["engine"]), cwd=tmp_path.parent, start_new_session=True, stdout=subprocess.PIPE
        )
        try:
            for process in (*started, stranger):
                assert process.stdout is not None
                process.stdout.readline()
            (tmp_path / "stack.json").write_text("")
            state = load_state(tmp_path)
            assert {record.name: record.pid for record in state.processes} == dict(
                zip(titles, (process.pid for process in started), strict=True)
            )
            assert (state.engine_port, state.airflow_port) == (8101, 8102)
            assert all(record.is_alive for record in state.processes)
        finally:
            for process in (*started, stranger):
                process.kill()
                process.communicate()

    def test_fields_of_a_newer_version_are_ignored(self, tmp_path: Path) -> None:
        save_state(tmp_path, StackState(engine_port=1, airflow_port=2, processes=(RECORD,)))
        path = tmp_path / "stack.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "newer_field": 1}))
        assert load_state(tmp_path).processes == (RECORD,)

    def test_private_files_are_on_the_disk_before_they_are_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[str] = []
        real = os.fsync

        def note(descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", note)
        ensure_secrets(tmp_path)
        assert len(synced) == 4, "each of two files, and the directory that holds its name"
        assert synced[0].endswith(".part")
        assert synced[1] == str(tmp_path)

    def test_restarted_component_replaces_its_record(self) -> None:
        again = ProcessRecord(name="engine", pid=8, started=2.5, fingerprint="g")
        assert StackState(processes=(RECORD,)).with_process(again).processes == (again,)


class TestSecrets:
    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"engine_token": "t"}'])
    def test_unreadable_secrets_name_the_file_and_the_fix(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "secrets.json").write_text(text)
        with pytest.raises(StackError, match=r"secrets\.json cannot be read.*remove that file"):
            load_secrets(tmp_path)

    def test_secrets_are_made_once_and_kept_private(self, tmp_path: Path) -> None:
        first = ensure_secrets(tmp_path)
        assert ensure_secrets(tmp_path) == first
        for name in ("secrets.json", "engine/tokens.json"):
            assert mode(tmp_path / name) == 0o600

    def test_two_homes_share_no_secret(self, tmp_path: Path) -> None:
        one, other = ensure_secrets(tmp_path / "a"), ensure_secrets(tmp_path / "b")
        names = ("engine_token", "airflow_password", "jwt_secret", "api_secret_key", "fernet_key")
        assert all(getattr(one, name) != getattr(other, name) for name in names)

    def test_repr_shows_no_secret(self, tmp_path: Path) -> None:
        made = ensure_secrets(tmp_path)
        assert made.engine_token not in repr(made)
        assert repr(made) == "Secrets()"

    def test_engine_gets_only_the_digest_of_the_token(self, tmp_path: Path) -> None:
        token = ensure_secrets(tmp_path).engine_token
        text = (tmp_path / "engine" / "tokens.json").read_text()
        assert token not in text
        digest = hashlib.sha256(token.encode()).hexdigest()
        assert json.loads(text) == {"tokens": [{"sha256": digest, "name": "stack"}]}

    def test_other_tokens_of_the_engine_stay(self, tmp_path: Path) -> None:
        path = tmp_path / "tokens.json"
        path.write_text(json.dumps({"tokens": [{"sha256": "0" * 64, "name": "mine"}]}))
        add_engine_token(path, "t")
        add_engine_token(path, "t")
        assert [entry["name"] for entry in json.loads(path.read_text())["tokens"]] == ["mine", "stack"]


class TestPorts:
    def test_free_ports_are_distinct_and_free(self) -> None:
        ports = free_ports(5)
        assert len(set(ports)) == 5
        assert all(is_port_free(port) for port in ports)

    def test_port_with_a_listener_is_not_free(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert not is_port_free(server.getsockname()[1])


class TestLock:
    def test_second_command_waits_for_the_first(self, tmp_path: Path) -> None:
        entered = threading.Event()

        def enter() -> None:
            with locked(tmp_path):
                entered.set()

        with locked(tmp_path):
            thread = threading.Thread(target=enter)
            thread.start()
            assert not entered.wait(0.1)
        thread.join(10)
        assert entered.is_set()

    def test_waiting_ends_with_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "LOCK_WAIT_SECONDS", 0)
        with locked(tmp_path), pytest.raises(StackError, match="Another `graft up`"), locked(tmp_path):
            pass
