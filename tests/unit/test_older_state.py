"""Every record of a stack that commit 42e79c2 wrote is read as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.artifacts.dataset import read_info, read_latest
from pipeline.artifacts.evaluated_run import EvaluatedRun
from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.history import read_history, served_before
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.model_record import read_lineage
from pipeline.artifacts.pack import read_pack_index
from pipeline.artifacts.run_summary import RunSummary
from pipeline.artifacts.split_registry import SplitRegistry
from pipeline.artifacts.training import TrainingRecord
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.lock import acquire_lock
from pipeline.engine.models.registry import check_rows
from pipeline.engine.store import ModelRow, Store, VersionRow
from pipeline.stack.state import ensure_secrets, load_secrets, load_state
from pipeline.storage import Storage
from tests.older_home import ARCHIVE, unpack_home

NAME = "surfaces"
TRAINING_JOB = "graft_cb0c636b7ab5546fdc4e9c2f"
RUN = "manual__2026-11-26T18:39:24.541287+00:00"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_home(tmp_path_factory.mktemp("older") / "home")


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace(Storage({"graft": home / "buckets" / "graft"}), "gs://graft")


def test_the_fixture_is_small() -> None:
    assert ARCHIVE.stat().st_size < 300_000


def test_addresses_and_secrets(home: Path) -> None:
    assert (load_state(home).engine_port, load_state(home).airflow_port) == (45491, 42721)
    assert load_state(home).database == "3.3.2"
    assert load_secrets(home) == ensure_secrets(home)


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    store = Store(home / "engine" / "engine.db")
    yield store
    store.close()


def test_the_database_of_the_engine_is_migrated(store: Store) -> None:
    check_rows(store)
    with store.begin() as session:
        (model,) = session.query(ModelRow).all()
        versions = session.query(VersionRow).all()
    assert (model.name, model.default_version) == ("numbers", "v2")
    assert [(version.name, version.state) for version in versions] == [("v1", "READY"), ("v2", "READY")]


def test_datasets(workspace: Workspace) -> None:
    dataset = workspace.dataset(NAME)
    version = read_latest(dataset).version
    assert version == "d_50d4d925f56a"
    info = read_info(dataset.version(version))
    rows = list(Manifest(dataset.version(version)).rows())
    assert len(rows) == info.found
    assert list(SplitRegistry(dataset).rows())


def test_jobs_and_runs(workspace: Workspace) -> None:
    job = workspace.job(TRAINING_JOB)
    assert tuple(TrainingRecord.read(job).classes) == info_classes(workspace)
    lineage = read_lineage(job.model)
    assert lineage is not None
    assert lineage.run_id == RUN
    assert Evaluation.read(workspace.storage, job.model.evaluation).candidate.test_pictures > 0
    run = workspace.run(NAME, RUN)
    assert RunSummary.read(workspace.storage, run.summary).version == "v_09814bf8a1a6"
    assert EvaluatedRun.read(workspace.storage, run.evaluated).accepted


def info_classes(workspace: Workspace) -> tuple[str, ...]:
    dataset = workspace.dataset(NAME)
    return tuple(read_info(dataset.version("d_50d4d925f56a")).classes)


def test_packs(workspace: Workspace) -> None:
    index = read_pack_index(workspace.storage, workspace.pack_index("d_50d4d925f56a", "e18bd4c3e17c1e96"))
    assert index.shards


def test_history_and_lock(workspace: Workspace) -> None:
    assert served_before(read_history(workspace, NAME)) == ["v_09814bf8a1a6"]
    with acquire_lock(workspace, NAME) as lock:
        assert lock.number == 2
