import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pipeline.stack
from pipeline.errors import StackError
from pipeline.stack import StackStatus
from pipeline.stack.machines import Machine
from pipeline.stack.state import ensure_secrets
from pipeline.types import Role
from tests.fakes.stack import stack_status

Graft = Callable[..., Any]
COMMANDS = ("up", "down", "status", "run", "predict", "versions", "dataset", "doctor", "demo")
HEAVY = (
    "tensorflow",
    "keras",
    "airflow",
    "numpy",
    "PIL",
    "googleapiclient",
    "google.cloud",
    "sklearn",
    "psutil",
    "sqlalchemy",
)


def test_help_lists_every_command(graft: Graft) -> None:
    outcome = graft("--help")
    assert outcome.code == 0
    for command in COMMANDS:
        assert f" {command} " in outcome.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(graft: Graft, command: str) -> None:
    outcome = graft(command, "--help")
    assert outcome.code == 0
    assert f"Usage: graft {command}" in outcome.stdout


def test_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, pipeline.cli; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "[]"


def test_status_imports_nothing_heavy_either(tmp_path: Path) -> None:
    heavy = tuple(name for name in HEAVY if name != "psutil")
    code = (
        "import sys, pipeline.cli\n"
        "try: pipeline.cli.main(['status'])\n"
        f"except SystemExit: print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"GRAFT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "[]"


class TestErrors:
    def test_unknown_command_is_a_usage_error(self, graft: Graft) -> None:
        outcome = graft("fly")
        assert outcome.code == 2
        assert "No such command 'fly'" in outcome.stderr
        assert outcome.stdout == ""

    def test_usage_error_with_json_is_one_document_on_stdout(self, graft: Graft) -> None:
        outcome = graft("run", "--json")
        assert outcome.code == 2
        assert outcome.document["error"]["type"] == "UsageError"
        assert "NAME" in outcome.stderr

    def test_our_error_has_no_traceback(self, graft: Graft) -> None:
        outcome = graft("versions", "surfaces")
        assert outcome.code == 1
        assert outcome.stderr.startswith("graft: The stack of ")
        assert "graft up" in outcome.stderr
        assert "Traceback" not in outcome.stderr

    def test_our_error_with_json_is_one_document_on_stdout(self, graft: Graft) -> None:
        outcome = graft("versions", "surfaces", "--json")
        assert outcome.code == 1
        assert outcome.document["error"]["type"] == "StackError"
        assert outcome.document["error"]["message"] in outcome.stderr


class TestStackCommands:
    def test_status_of_a_stopped_stack(self, graft: Graft) -> None:
        outcome = graft("status", "--json")
        assert outcome.code == 0
        assert list(outcome.document) == ["state", "engine", "airflow", "processes"]
        assert outcome.document["state"] == "stopped"
        assert graft("status").stdout.startswith("The stack is stopped.")

    def test_status_shows_no_secret_while_stopped(self, graft: Graft, home: Path) -> None:
        password = ensure_secrets(home).airflow_password
        assert password not in graft("status", "--json").stdout

    def test_down_when_nothing_runs(self, graft: Graft) -> None:
        assert graft("down").stdout == "Nothing was running.\n"
        assert graft("down", "--json").document == {"ended": 0}

    def test_up_passes_options_on_and_prints_where_to_look(
        self, graft: Graft, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = {}

        def up(settings: Any, on_progress: Callable[[str], None], **options: Any) -> StackStatus:
            seen.update(options)
            on_progress("starting engine")
            return stack_status()

        monkeypatch.setattr(pipeline.stack, "up", up)
        options = ("--profile", "team", "--address", "10.0.0.5", "--front", "10.0.0.5:443")
        outcome = graft("up", "--engine-port", "8001", *options)
        assert seen == {
            "engine_port": 8001,
            "airflow_port": None,
            "profile": "team",
            "workers": None,
            "address": "10.0.0.5",
            "front": "10.0.0.5:443",
        }
        assert outcome.stderr == "starting engine\n"
        assert "password shown" in outcome.stdout
        assert "make down" in outcome.stdout
        assert "hidden" not in outcome.stdout
        assert graft("up", "--json").document["engine"]["token"] == "hidden"

    def test_join_passes_options_on(self, graft: Graft, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = {}

        def join(settings: Any, address: str, **options: Any) -> str:
            seen.update(options, address=address)
            options["on_progress"]("starting link")
            return "far-1"

        monkeypatch.setattr("pipeline.stack.joining.join", join)
        outcome = graft("join", "10.0.0.5", "--role", "worker", "--token-file", "join.json", "--slots", "3")
        assert outcome.stderr == "starting link\n"
        assert outcome.stdout == ("far-1 takes tasks of the stack at 10.0.0.5. `graft down` ends that.\n")
        del seen["on_progress"]
        named = {"address": "10.0.0.5", "token_file": Path("join.json")}
        assert seen == named | {"role": Role.WORKER, "slots": 3, "listen": None}
        assert graft("join", "10.0.0.5", "--json").document["name"] == "far-1"
        served = graft("join", "10.0.0.5", "--role", "server", "--listen", "10.0.0.7")
        assert served.stdout == "far-1 takes predictions of the stack at 10.0.0.5. `graft down` ends that.\n"
        assert (seen["role"], seen["listen"]) == (Role.SERVER, "10.0.0.7")
        assert graft("join", "10.0.0.5", "--role", "janitor").code == 2

    def test_status_shows_the_stack_that_a_machine_has_joined(
        self, graft: Graft, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        status = replace(stack_status(), joined="10.0.0.5:8470")
        monkeypatch.setattr(pipeline.stack, "status", lambda settings: status)
        assert "Worker    of the stack at 10.0.0.5:8470" in graft("status").stdout
        assert graft("status", "--json").document["joined"] == "10.0.0.5:8470"

    def test_status_shows_who_has_joined(self, graft: Graft, monkeypatch: pytest.MonkeyPatch) -> None:
        machines = (Machine(name="far-1", slots=3, since=0.0),)
        status = replace(stack_status(), address="10.0.0.5:8470", machines=machines)
        monkeypatch.setattr(pipeline.stack, "status", lambda settings: status)
        outcome = graft("status")
        assert "`graft join 10.0.0.5:8470` on other machines" in outcome.stdout
        assert re.search(r"far-1\s+3", outcome.stdout)

    def test_port_in_use_is_an_error(self, graft: Graft, monkeypatch: pytest.MonkeyPatch) -> None:
        def up(*args: Any, **ports: Any) -> None:
            raise StackError("Port 8001 for engine is in use by another program.")

        monkeypatch.setattr(pipeline.stack, "up", up)
        outcome = graft("up", "--engine-port", "8001")
        assert outcome.code == 1
        assert "Port 8001" in outcome.stderr

    def test_port_beyond_the_range_is_a_usage_error(self, graft: Graft) -> None:
        assert graft("up", "--engine-port", "70000").code == 2
