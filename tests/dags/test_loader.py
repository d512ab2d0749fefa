"""DAGs in an Airflow whose DAGs folder is not ours: by one loader file, or all from the bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

CLASSIFIERS = {"surfaces", "opera_capitol"}
SHIPPED = {"engine_sweep", "model_comparison", "model_rollback", "surfaces_by_hand"}
# The words by which Airflow knows that a file may have DAGs are in it.
FILE = """# Airflow reads the DAGs of Graft from this file.
from graft.loader import load_dags

globals().update(load_dags())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "yaml"
    folder.mkdir()
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(folder))
    return folder


def read_loader_file(tmp_path: Path) -> DagBag:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "graft_dags.py").write_text(FILE)
    return DagBag(dag_folder=dags, bundle_path=dags, bundle_name="dags-folder")


def test_one_file_has_every_dag(folder: Path, tmp_path: Path) -> None:
    bag = read_loader_file(tmp_path)
    assert bag.import_errors == {}
    assert set(bag.dags) == CLASSIFIERS | SHIPPED
    assert {dag.fileloc for dag in bag.dags.values()} == {str(tmp_path / "dags" / "graft_dags.py")}


def test_a_broken_classifier_is_missing_and_the_log_says_why(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "broken.yaml").write_text("name: broken\ndataset: {source: {type: nothing}}\n")
    bag = read_loader_file(tmp_path)
    assert bag.import_errors == {}
    assert set(bag.dags) == CLASSIFIERS | SHIPPED
    assert f"{folder / 'broken.yaml'} has no DAG" in caplog.text


def test_the_first_of_two_classifiers_of_one_name_is_kept(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "again.yaml").write_text("name: surfaces\ndataset: {source: {type: sample}}\n")
    assert set(read_loader_file(tmp_path).dags) == CLASSIFIERS | SHIPPED
    assert "the name 'surfaces' is used twice" in caplog.text


def test_a_task_that_runs_reads_its_own_dag_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graft.loader import load_dags

    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "surfaces")
    assert set(load_dags()) == {"surfaces"}
    monkeypatch.delenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID")
    assert set(load_dags(shipped=False)) == CLASSIFIERS


def test_the_bundle_has_the_shipped_dags_if_asked(folder: Path) -> None:
    from graft.classifier_bundle import ClassifierBundle

    bundle = ClassifierBundle(name="classifiers", shipped_dags=True)
    bundle.initialize()
    bag = DagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name="classifiers")
    assert bag.import_errors == {}
    assert set(bag.dags) == CLASSIFIERS | SHIPPED
    ClassifierBundle(name="classifiers").refresh()
    assert not (bundle.path / "engine_sweep.py").exists()
