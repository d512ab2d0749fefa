import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.errors import ConfigError
from pipeline.stack.environment import COMPONENTS, Component, build_components, pipeline_variables
from pipeline.stack.state import Secrets, StackState

STATE = StackState(engine_port=8101, airflow_port=8102)
SECRETS = Secrets(
    engine_token="engine-token",
    airflow_password="airflow-password",
    jwt_secret="jwt-secret",
    api_secret_key="api-secret",
    fernet_key="fernet-key",
)


@pytest.fixture
def components(tmp_path: Path) -> dict[str, Component]:
    settings = Settings(home=tmp_path, classifiers="mine:/other", buckets="demo=pictures")
    return {component.name: component for component in build_components(settings, STATE, SECRETS)}


def test_the_stack_is_the_engine_and_four_airflow_components(components: dict[str, Component]) -> None:
    assert tuple(components) == COMPONENTS
    subcommands = [
        component.command[4] for component in components.values() if "airflow" in component.command
    ]
    assert subcommands == ["api-server", "scheduler", "dag-processor", "triggerer"]


def test_nothing_listens_beyond_loopback(components: dict[str, Component]) -> None:
    assert components["engine"].command[4:8] == ("--host", "127.0.0.1", "--port", "8101")
    for name in COMPONENTS[1:]:
        assert components[name].variables["AIRFLOW__API__HOST"] == "127.0.0.1"
    for name in ("airflow-scheduler", "airflow-triggerer"):
        assert "--skip-serve-logs" in components[name].command


def test_no_secret_is_on_a_command_line(components: dict[str, Component]) -> None:
    values = [getattr(SECRETS, name) for name in SECRETS.__dataclass_fields__]
    commands = " ".join(" ".join(component.command) for component in components.values())
    assert not [value for value in values if value in commands]


def test_engine_is_told_no_secret(components: dict[str, Component]) -> None:
    told = " ".join(components["engine"].variables.values())
    assert not [name for name in SECRETS.__dataclass_fields__ if getattr(SECRETS, name) in told]


def test_connections_lead_to_engine_and_airflow(components: dict[str, Component]) -> None:
    variables = components["airflow-scheduler"].variables
    assert json.loads(variables["AIRFLOW_CONN_ML_ENGINE_DEFAULT"]) == {
        "conn_type": "ml_engine",
        "host": "http://127.0.0.1:8101",
        "password": "engine-token",
        "extra": {"project": "local"},
    }
    assert json.loads(variables["AIRFLOW_CONN_GRAFT_AIRFLOW_API"]) == {
        "conn_type": "http",
        "host": "http://127.0.0.1:8102",
        "login": "admin",
        "password": "airflow-password",
    }


def test_relative_paths_are_made_absolute(components: dict[str, Component]) -> None:
    variables = components["airflow-scheduler"].variables
    assert variables["GRAFT_CLASSIFIERS"] == f"{Path.cwd()}/mine{os.pathsep}/other"
    assert variables["GRAFT_BUCKETS"] == f"demo={Path.cwd()}/pictures"


def test_callers_airflow_and_python_path_do_not_leak_in(
    components: dict[str, Component], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AIRFLOW__CORE__EXECUTOR", "AIRFLOW_HOME", "AIRFLOW_CONFIG", "PYTHONPATH", "GRAFT_OTHER"):
        monkeypatch.setenv(name, "foreign")
    monkeypatch.setenv("LANG", "kept")
    for component in components.values():
        environ = component.environ
        assert "foreign" not in environ.values()
        assert environ["LANG"] == "kept"


def test_loopback_goes_past_a_proxy_and_other_exceptions_stay(
    components: dict[str, Component], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "intranet,localhost")
    environ = components["engine"].environ
    assert environ["no_proxy"] == environ["NO_PROXY"] == "intranet,localhost,127.0.0.1"


def test_fingerprint_changes_with_settings_only(tmp_path: Path) -> None:
    def fingerprints(**settings: str) -> list[str]:
        built = build_components(Settings(home=tmp_path, **settings), STATE, SECRETS)
        return [component.fingerprint for component in built]

    assert fingerprints() == fingerprints()
    assert not set(fingerprints()) & set(fingerprints(buckets="mine=/mine"))


@pytest.mark.parametrize(
    "changed",
    [{"classifiers": "/mine"}, {"keep_versions": 9}, {"keep_days": 9}, {"demo_per_minute": 0}],
)
def test_a_setting_that_the_engine_does_not_read_interrupts_no_served_model(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    before = build_components(Settings(home=tmp_path), STATE, SECRETS)
    after = build_components(Settings(home=tmp_path, **changed), STATE, SECRETS)
    pairs = zip(before, after, strict=True)
    restarted = [a.name for a, b in pairs if a.fingerprint != b.fingerprint]
    assert restarted == list(COMPONENTS[1:])


def test_settings_of_downloads_and_the_users_connections_reach_airflow_and_not_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_FLICKR_DEFAULT", "http://:key@flickr")
    monkeypatch.setenv("AIRFLOW_CONN_ML_ENGINE_DEFAULT", "http://elsewhere")
    settings = Settings(home=tmp_path, fetch_allow="127.0.0.1:8000", fetch_contact="me@example.org")
    engine, scheduler = (build_components(settings, STATE, SECRETS)[number].environ for number in (0, 2))
    assert scheduler["GRAFT_FETCH_ALLOW"] == "127.0.0.1:8000"
    assert scheduler["GRAFT_FETCH_CONTACT"] == "me@example.org"
    assert scheduler["AIRFLOW_CONN_FLICKR_DEFAULT"] == "http://:key@flickr"
    assert "elsewhere" not in scheduler["AIRFLOW_CONN_ML_ENGINE_DEFAULT"]
    assert "AIRFLOW_CONN_FLICKR_DEFAULT" not in engine


def test_settings_of_the_engine_reach_it_alone_and_ask_for_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFT_ENGINE_JOB", "/some/job")  # the mark of a job that has started us
    before = build_components(Settings(home=tmp_path), STATE, SECRETS)
    monkeypatch.setenv("GRAFT_ENGINE_TRAINING_SLOTS", "3")
    after = build_components(Settings(home=tmp_path), STATE, SECRETS)
    assert after[0].environ["GRAFT_ENGINE_TRAINING_SLOTS"] == "3"
    assert "GRAFT_ENGINE_JOB" not in after[0].environ
    assert "GRAFT_ENGINE_TRAINING_SLOTS" not in after[2].environ
    assert [a.fingerprint == b.fingerprint for a, b in zip(before, after, strict=True)] == [False] + [
        True
    ] * 4


def test_a_setting_of_the_engine_that_cannot_be_read_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFT_ENGINE_TRAINING_SLOTS", "many")
    with pytest.raises(ConfigError, match=r"GRAFT_ENGINE_TRAINING_SLOTS: .*integer.*Received: 'many'"):
        build_components(Settings(home=tmp_path), STATE, SECRETS)


def test_directories_of_dag_files_are_bundles_of_their_own(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, dags=f"{tmp_path}/a:{tmp_path}/b")
    variables = build_components(settings, STATE, SECRETS)[1].variables
    bundles = json.loads(variables["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert [bundle["name"] for bundle in bundles] == ["dags-folder", "classifiers", "dags-0", "dags-1"]
    assert bundles[-1]["kwargs"] == {"path": f"{tmp_path}/b"}


def test_the_homes_own_classifiers_are_found_and_change_nothing_that_components_are_started_with(
    tmp_path: Path,
) -> None:
    settings = Settings(home=tmp_path, classifiers="/mine")
    before = pipeline_variables(settings)
    assert settings.own_classifiers not in settings.classifier_directories
    settings.own_classifiers.mkdir()
    assert settings.classifier_directories[1:] == [Path("/mine"), settings.own_classifiers]
    assert pipeline_variables(settings) == before
