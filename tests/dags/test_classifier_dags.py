from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import RUN_PARAMS
from pipeline.errors import ConfigError
from tests.airflow_environment import airflow_variables
from tests.team_only import TEAM_ONLY

GOOD = "name: {name}\ndataset: {{source: {{type: sample}}}}\n"
EDGES = {
    "fetch": {"clean"},
    "clean": {"pack"},
    "pack": {"train"},
    "train": {"evaluate"},
    "evaluate": {"gate"},
    "gate": {"approve"},
    "approve": {"create_version"},
    "create_version": {"smoke_test"},
    "smoke_test": {"promote"},
    "promote": {"publish"},
    "publish": set(),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "yaml"
    folder.mkdir()
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(folder))
    return folder


@pytest.fixture
def parse(folder: Path) -> Callable[[], Any]:
    """Refresh the bundle and parse it as the dag-processor does."""

    def parse() -> Any:
        from airflow.dag_processing.dagbag import DagBag
        from graft.classifier_bundle import ClassifierBundle

        bundle = ClassifierBundle(name="classifiers")
        bundle.initialize()
        return DagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name="classifiers")

    return parse


def test_shipped_classifiers_are_dags_without_import_errors(parse: Callable[[], Any]) -> None:
    bag = parse()
    assert bag.import_errors == {}
    assert set(bag.dags) == {"surfaces", "opera_capitol"}


def test_steps_run_one_after_the_other(parse: Callable[[], Any]) -> None:
    dag = parse().dags["surfaces"]
    assert {task.task_id: set(task.downstream_task_ids) for task in dag.tasks} == EDGES


def test_a_study_runs_before_the_training(folder: Path, parse: Callable[[], Any]) -> None:
    tune = "model: {tune: {parameters: {epochs: [5, 10]}}}\n"
    (folder / "a.yaml").write_text(GOOD.format(name="tuned") + tune)
    dag = parse().dags["tuned"]
    assert dag.get_task("pack").downstream_task_ids == {"tune"}
    assert dag.get_task("tune").downstream_task_ids == {"train"}
    assert "tune" in dag.get_task("train").tuning


def test_the_form_can_be_sent_as_it_is(parse: Callable[[], Any]) -> None:
    """Airflow's form takes an empty text for a missing one, and a missing one only where null is a type."""
    for dag in parse().dags.values():
        for name, value in dag.params.items():
            types = dag.params.get_param(name).schema["type"]
            assert value != "", name
            assert value is not None or "null" in types, name


def test_dag_carries_schedule_parameters_and_page(folder: Path, parse: Callable[[], Any]) -> None:
    (folder / "animals.yaml").write_text(
        """
name: animals
description: Kangaroos.
dataset: {source: {type: folder, uri: /pictures}}
model: {epochs: 7}
schedule: "@weekly"
"""
    )
    dag = parse().dags["animals"]
    assert dag.schedule == "@weekly"
    assert (dag.catchup, dag.max_active_runs, dag.description) == (False, 1, "Kangaroos.")
    assert tuple(dag.params) == RUN_PARAMS
    assert dag.params["model.epochs"] == 7
    assert dag.params["dataset.source.uri"] == "/pictures"
    param = dag.params.get_param("model.learning_rate")
    assert param.description is None  # Airflow's form takes Markdown only where there is no plain text
    assert param.schema == {
        "title": "Learning rate",
        "description_md": "Step size of the Adam optimiser. (`model.learning_rate`)",
        "section": "Model",
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 10,
    }
    assert dag.params.get_param("model.head.units").schema["title"] == "Head: units"
    assert dag.params.get_param("dataset.split.method").schema["enum"] == ["hash", "random", "given"]
    assert "inception_v3" in dag.params.get_param("model.backbone").schema["enum"]
    assert dag.params.get_param("retrain.unchanged").schema["enum"] == ["auto", "skip", "train"]
    assert dag.params.get_param("gate.max_loss").schema["type"] == ["null", "number"]
    assert "curl -X POST" in dag.doc_md
    assert "| `model.epochs` | `7` |" in dag.doc_md
    assert {task.retries for task in dag.tasks} == {2}


def test_page_tells_how_to_answer_where_a_person_is_asked(folder: Path, parse: Callable[[], Any]) -> None:
    rules = {
        "always": "deploy: {require_approval: true}",
        "first": "gate: {min_accuracy: 0.5, first_version: require_approval}",
        "changed": "gate: {min_accuracy: 0.5, classes_changed: require_approval}",
    }
    for name, rule in rules.items():
        text = GOOD.format(name=name) + rule + "\n"
        (folder / f"{name}.yaml").write_text(text)
    dags = parse().dags
    for name in rules:
        edges = {task.task_id: set(task.downstream_task_ids) for task in dags[name].tasks}
        assert edges == EDGES
        assert "hitlDetails" in dags[name].doc_md
    assert "hitlDetails" not in dags["surfaces"].doc_md


def test_events_of_new_pictures_start_runs_that_settle_first(folder: Path, parse: Callable[[], Any]) -> None:
    (folder / "eager.yaml").write_text(GOOD.format(name="eager") + "schedule: on_dataset_change\n")
    dag = parse().dags["eager"]
    edges = {task.task_id: set(task.downstream_task_ids) for task in dag.tasks}
    assert edges == {**EDGES, "settle": {"fetch"}}
    [asset] = dag.timetable.asset_condition.objects
    assert (asset.name, asset.uri) == ("eager source", "graft://sources/eager")
    assert "/api/v2/assets/events" in dag.doc_md
    assert dag.max_active_runs == 1


def test_page_of_a_scheduled_dag_tells_how_to_backfill(folder: Path, parse: Callable[[], Any]) -> None:
    (folder / "weekly.yaml").write_text(GOOD.format(name="weekly") + "schedule: '0 3 * * 1'\n")
    page = parse().dags["weekly"].doc_md
    assert "It also runs by the schedule `0 3 * * 1`; where nothing is new" in page
    assert "/api/v2/backfills" in page


def test_every_command_of_the_page_is_one_that_a_shell_understands(
    folder: Path, parse: Callable[[], Any]
) -> None:
    import shlex

    text = "deploy: {require_approval: true}\nschedule: on_dataset_change\n"
    (folder / "all.yaml").write_text(GOOD.format(name="all") + text)
    page = parse().dags["all"].doc_md
    blocks = [block.partition("```")[0] for block in page.split("```bash\n")[1:]]
    assert len(blocks) == 4
    bodies = []
    for block in blocks:
        words = shlex.split(block, comments=True)
        bodies += [word for previous, word in zip(words, words[1:], strict=False) if previous == "-d"]
    parsed = [json.loads(body) for body in bodies if "$" not in body]
    assert {"logical_date": None, "conf": {"model.epochs": 20}} in parsed


def test_a_classifier_without_schedule_never_runs_by_itself(parse: Callable[[], Any]) -> None:
    assert parse().dags["surfaces"].schedule is None


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Airflow's plugin loader
def test_dag_survives_serialisation(parse: Callable[[], Any]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DagSerialization.from_dict(
        json.loads(json.dumps(DagSerialization.to_dict(parse().dags["surfaces"])))
    )
    assert set(dag.task_dict) == set(EDGES)


class TestBrokenYaml:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("name: bad\ndataset: {source: {type: sample}}\nmodle: {}\n", "unknown key `modle`; remove it"),
            ("name: bad\n", "`dataset` is missing; add it"),
            ("name: [\n", "not readable as YAML"),
            ("just text\n", "expected a mapping"),
            (
                "name: bad\ndataset: {source: {type: sample}}\nmodel: {backbone: resnet}\n",
                "set `model.backbone` to one of: efficientnet_lite0",
            ),
            ('name: bad\ndescription: """\ndataset: 1\n', "not readable as YAML"),
        ],
    )
    def test_is_its_own_import_error_and_harms_no_other(
        self, folder: Path, parse: Callable[[], Any], text: str, message: str
    ) -> None:
        (folder / "bad.yaml").write_text(text)
        (folder / "good.yaml").write_text(GOOD.format(name="good"))
        bag = parse()
        assert set(bag.dags) == {"surfaces", "opera_capitol", "good"}
        assert list(bag.import_errors) == ["bad.yaml.py"]
        error = bag.import_errors["bad.yaml.py"].partition("ConfigError: ")[2]
        assert error.startswith(str(folder / "bad.yaml"))
        assert message in error

    def test_bytes_that_are_no_text_are_its_own_error(self, folder: Path, parse: Callable[[], Any]) -> None:
        (folder / "bad.yaml").write_bytes(b"name: \xff\x00\xfe\n")
        bag = parse()
        assert list(bag.import_errors) == ["bad.yaml.py"]
        assert "surfaces" in bag.dags

    def test_a_name_used_twice_is_the_second_ones_error(self, folder: Path, parse: Callable[[], Any]) -> None:
        (folder / "twin.yaml").write_text(GOOD.format(name="surfaces"))
        bag = parse()
        assert "surfaces.yaml already" in bag.import_errors["twin.yaml.py"]
        assert bag.dags["surfaces"].fileloc.endswith("surfaces.yaml.py")

    def test_two_files_of_one_name_do_not_hide_each_other(
        self, folder: Path, parse: Callable[[], Any]
    ) -> None:
        (folder / "surfaces.yaml").write_text(GOOD.format(name="mine"))
        bag = parse()
        assert bag.import_errors == {}
        assert set(bag.dags) == {"surfaces", "opera_capitol", "mine"}


class TestRefresh:
    def test_yaml_added_changed_fixed_and_removed_is_seen(
        self, folder: Path, parse: Callable[[], Any]
    ) -> None:
        assert "late" not in parse().dags
        path = folder / "late.yaml"
        path.write_text("name: late\n")
        assert list(parse().import_errors) == ["late.yaml.py"]
        path.write_text(GOOD.format(name="late") + "model: {epochs: 3}\n")
        bag = parse()
        assert bag.import_errors == {}
        assert bag.dags["late"].params["model.epochs"] == 3
        path.unlink()
        assert "late" not in parse().dags

    def test_an_unchanged_yaml_leaves_its_file_alone(
        self, folder: Path, parse: Callable[[], Any], tmp_path: Path
    ) -> None:
        parse()
        file = tmp_path / "home" / "classifier_dags" / "surfaces.yaml.py"
        before = file.stat().st_mtime_ns
        parse()
        assert file.stat().st_mtime_ns == before
        assert [path.suffix for path in file.parent.iterdir() if path.is_file()] == [".py", ".py"]

    def test_code_page_shows_the_yaml(self, folder: Path, parse: Callable[[], Any], tmp_path: Path) -> None:
        parse()
        source = (tmp_path / "home" / "classifier_dags" / "surfaces.yaml.py").read_text()
        assert "# name: surfaces\n" in source


def test_parsing_imports_nothing_heavy_and_collects_none_of_airflows_objects(tmp_path: Path) -> None:
    code = """
import gc, sys
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag
import airflow.triggers.base
before = set(sys.modules)
bundle = DagBundlesManager().get_bundle("classifiers")
bundle.initialize()
print("FROZEN", gc.get_freeze_count() > 0)
bag = DagBag(dag_folder=bundle.path, bundle_path=bundle.path)
assert bag.dags and not bag.import_errors, bag.import_errors
import graft.triggers.ml_engine_job
heavy = set("tensorflow keras numpy PIL googleapiclient sklearn skimage scipy ray h5py".split())
print("HEAVY", sorted(heavy & (set(sys.modules) - before)))
print("TEAM", sorted(set(sys.argv[1:]) & set(sys.modules)))
"""
    bundle = {"name": "classifiers", "classpath": "graft.classifier_bundle.ClassifierBundle", "kwargs": {}}
    environ = {
        **os.environ,
        **airflow_variables(tmp_path / "airflow"),
        "GRAFT_HOME": str(tmp_path),
        "GRAFT_CLASSIFIERS": "",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
    }
    command = [sys.executable, "-c", code, *TEAM_ONLY]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environ)
    assert "HEAVY []" in result.stdout, result.stdout[-2000:] + result.stderr[-2000:]
    assert "TEAM []" in result.stdout, result.stdout[-2000:]
    assert "FROZEN True" in result.stdout


@pytest.mark.parametrize(("setting", "pool"), [("", "default_pool"), ("downloads", "downloads")])
def test_downloads_take_slots_of_a_pool(
    setting: str, pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graft.training_dag import read_training_dag

    monkeypatch.setenv("GRAFT_FETCH_POOL", setting)
    path = tmp_path / "web.yaml"
    source = '{type: url_list, uri: "https://example.org/list.csv"}'
    path.write_text(f"name: web\ndataset: {{source: {source}, fetch: {{chunks: 3}}}}\n")
    fetch = read_training_dag(path).get_task("fetch")
    assert fetch.partial_kwargs["pool"] == pool
    assert fetch.expand_input.value == {"chunk": [0, 1, 2]}


def test_slice_by_a_column_that_pictures_do_not_have_is_an_import_error(tmp_path: Path) -> None:
    from graft.training_dag import read_training_dag

    path = tmp_path / "tiles.yaml"
    path.write_text(
        "name: tiles\ndataset: {source: {type: sample}}\ngate: {slices: [camera], min_accuracy: 0.5}\n"
    )
    with pytest.raises(ConfigError, match="no column `camera`"):
        read_training_dag(path)
