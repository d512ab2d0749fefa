from __future__ import annotations

import sys
from pathlib import Path

import pytest

import pipeline
from pipeline.engine.sandbox import sandbox, system
from pipeline.engine.sandbox.policy import Policy
from pipeline.engine.sandbox.sandbox import Sandbox
from pipeline.errors import ConfigError


def test_a_policy_is_one_argument_for_each_path() -> None:
    policy = Policy(read=("/usr", "/a b\n"), device=("/dev/null",), has_network=False)
    assert policy.arguments() == ["read=/usr", "read=/a b\n", "device=/dev/null", "no-network"]


@pytest.mark.parametrize(("mode", "abi"), [("off", 7), ("auto", 0), ("auto", 2)])
def test_without_landlock_or_when_off_commands_stay_as_they_are(mode: str, abi: int) -> None:
    inactive = Sandbox(mode=mode, abi=abi)
    assert not inactive.is_active
    assert inactive.wrap(Policy(), ["true"]) == ["true"]
    assert "jobs and models may do what this user may" in inactive.describe()


def test_with_landlock_a_command_runs_behind_the_launcher() -> None:
    active = Sandbox(mode="auto", abi=3)
    command = active.wrap(Policy(), ["true"])
    assert command[0] == sys.executable
    assert command[-2:] == ["--", "true"]
    assert active.describe() == "Landlock ABI 3 restricts files and ptrace"


def test_each_version_of_landlock_says_what_it_holds() -> None:
    assert Sandbox(mode="auto", abi=4).describe().endswith("files, the network of models and ptrace")
    assert Sandbox(mode="required", abi=6).describe().endswith("models, signals and ptrace")


def test_a_required_sandbox_that_is_missing_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: 0)
    assert not Sandbox.detect("auto").is_active
    with pytest.raises(ConfigError, match=r"GRAFT_ENGINE_SANDBOX is required, and this machine has no Landl"):
        Sandbox.detect("required")


def test_the_source_directory_holds_the_pipeline_alone(tmp_path: Path) -> None:
    for _ in range(2):
        directory = system.source_directory(tmp_path)
        assert [path.name for path in directory.iterdir()] == ["pipeline"]
        assert (directory / "pipeline").resolve() == Path(pipeline.__file__).resolve().parent
