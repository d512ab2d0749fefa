"""Every format number: it is written, an older file is read, and a newer one is refused by name."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.dataset import DatasetInfo, read_latest, write_latest
from pipeline.artifacts.decision_event import DecisionEvent
from pipeline.artifacts.demo_link import DemoLink
from pipeline.artifacts.evaluated_run import EvaluatedRun
from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.feedback import Feedback
from pipeline.artifacts.fetch_index import FetchHead
from pipeline.artifacts.held_out_answers import ComparisonRecord
from pipeline.artifacts.history import HistoryEvent
from pipeline.artifacts.model_comparison import ModelComparison
from pipeline.artifacts.model_record import Lineage
from pipeline.artifacts.network import NetworkRecord
from pipeline.artifacts.pack import PackIndex
from pipeline.artifacts.registration import Registration
from pipeline.artifacts.run_summary import RunSummary
from pipeline.artifacts.template import TemplateRecord, TrunkRecord
from pipeline.artifacts.training import TrainingRecord
from pipeline.artifacts.trial_scores import TrialScores
from pipeline.artifacts.tuning import Tuning
from pipeline.artifacts.uploads import Upload
from pipeline.artifacts.workspace import Workspace
from pipeline.deploy.lock import Claim
from pipeline.deploy.rollback import RollbackPlan
from pipeline.engine.auth import Tokens
from pipeline.engine.models.registry import Registry
from pipeline.engine.models.version_files import VersionFiles
from pipeline.engine.store import ModelRow, Store, VersionRow, now
from pipeline.engine.upgrade import _alembic_config, known_revisions
from pipeline.errors import FormatTooNew, TFLiteUnavailable
from pipeline.stack.snapshot import BackupFolder, Snapshot
from pipeline.stack.state import (
    StackState,
    add_engine_token,
    ensure_secrets,
    load_secrets,
    load_state,
    save_state,
)
from pipeline.storage import Storage
from pipeline.submission.staged_weights import StagedWeights
from pipeline.tflite.manifest import TFLiteManifest

ROOT = Path(__file__).resolve().parents[2]
RECORDS = (
    *(DatasetInfo, EvaluatedRun, Evaluation, FetchHead, HistoryEvent, Lineage, PackIndex, Registration),
    *(NetworkRecord, RunSummary, TrainingRecord, RollbackPlan, Snapshot, TrunkRecord, TemplateRecord),
    *(ComparisonRecord, ModelComparison, Feedback, TrialScores, Tuning, Upload, DecisionEvent),
    DemoLink,
)
# Module by module, what tests its number: here, or in the test that is named.
TESTED = {
    "pipeline/artifacts/dataset.py": "DatasetInfo, latest.json",
    "pipeline/artifacts/decision_event.py": "DecisionEvent",
    "pipeline/artifacts/demo_link.py": "DemoLink",
    "pipeline/artifacts/evaluated_run.py": "EvaluatedRun",
    "pipeline/artifacts/evaluation.py": "Evaluation",
    "pipeline/artifacts/feedback.py": "Feedback",
    "pipeline/artifacts/fetch_index.py": "FetchHead",
    "pipeline/artifacts/fold_answers.py": "artifacts/test_fold_answers.py",
    "pipeline/artifacts/held_out_answers.py": "ComparisonRecord",
    "pipeline/artifacts/history.py": "HistoryEvent",
    "pipeline/artifacts/model_comparison.py": "ModelComparison",
    "pipeline/artifacts/model_record.py": "Lineage",
    "pipeline/artifacts/network.py": "NetworkRecord",
    "pipeline/artifacts/pack.py": "PackIndex",
    "pipeline/artifacts/registration.py": "Registration",
    "pipeline/artifacts/run_summary.py": "RunSummary",
    "pipeline/artifacts/template.py": "TrunkRecord, TemplateRecord",
    "pipeline/artifacts/training.py": "TrainingRecord",
    "pipeline/artifacts/trial_scores.py": "TrialScores",
    "pipeline/artifacts/tuning.py": "Tuning",
    "pipeline/artifacts/uploads.py": "Upload",
    "pipeline/deploy/lock.py": "Claim",
    "pipeline/deploy/rollback.py": "RollbackPlan",
    "pipeline/engine/auth.py": "tokens.json",
    "pipeline/engine/models/feedback.py": "contract/test_feedback.py",
    "pipeline/engine/models/reader_tokens.py": "contract/test_reader_tokens.py",
    "pipeline/engine/models/registry.py": "engine/models",
    "pipeline/engine/telemetry/traffic.py": "contract/test_traffic.py",
    "pipeline/engine/models/version_record.py": "engine/versions",
    "pipeline/stack/snapshot.py": "Snapshot, newest.json",
    "pipeline/stack/state.py": "stack.json, secrets.json",
    "pipeline/submission/staged_weights.py": "the pointer",
    "pipeline/tflite/manifest.py": "TFLiteManifest",
}


def numbered_modules() -> list[str]:
    """Return the modules that assign a format number."""
    modules = []
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
            value = getattr(node, "value", None)
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            is_number = isinstance(value, ast.Constant) and isinstance(value.value, int)
            if names & {"FORMAT", "LATEST_FORMAT"} and is_number:
                modules.append(path.relative_to(ROOT).as_posix())
    return list(dict.fromkeys(modules))


def test_every_format_number_has_a_test() -> None:
    assert numbered_modules() == sorted(TESTED)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_a_record_of_a_newer_format_is_refused_by_name(record: Any) -> None:
    with pytest.raises(FormatTooNew, match=rf"{record.__name__} has the format 99.*reads up to \d"):
        record.from_dict({"format": 99, "format_version": 99, "schema": 99})


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage({"graft": tmp_path / "bucket"})


def newer(path: Path, number: int = 2) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": number}))


def without_number(path: Path) -> None:
    value = json.loads(path.read_text())
    assert value.pop("format") == 1
    path.write_text(json.dumps(value))


def test_the_files_of_the_home_have_numbers_and_older_ones_are_read(tmp_path: Path) -> None:
    secrets = ensure_secrets(tmp_path)
    save_state(tmp_path, StackState(engine_port=7))
    tokens = tmp_path / "engine" / "tokens.json"
    for name in ("stack.json", "secrets.json"):
        without_number(tmp_path / name)
    assert load_state(tmp_path).engine_port == 7
    assert load_secrets(tmp_path) == secrets
    assert not Tokens.read(tokens).is_open


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("stack.json", load_state),
        ("secrets.json", load_secrets),
        ("engine/tokens.json", lambda home: Tokens.read(home / "engine" / "tokens.json")),
        ("engine/tokens.json", lambda home: add_engine_token(home / "engine" / "tokens.json", "t")),
    ],
)
def test_a_newer_file_of_the_home_is_refused_by_name(
    tmp_path: Path, name: str, read: Callable[[Path], object]
) -> None:
    ensure_secrets(tmp_path)
    save_state(tmp_path, StackState(engine_port=7))
    number = 3 if name == "stack.json" else 2  # that of a team has 2
    newer(tmp_path / name, number)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(
        FormatTooNew, match=rf"{name} has the format {number}; .* reads up to {number - 1}. Upgrade"
    ):
        read(tmp_path)
    assert (tmp_path / name).read_bytes() == before


def test_a_newer_database_of_the_engine_is_refused_by_name_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    newest = max(known_revisions())
    with pytest.raises(FormatTooNew, match=rf"engine.db has the format 9999; .* reads up to {newest}"):
        Store(path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


@pytest.mark.parametrize("revision", sorted(known_revisions()))
def test_every_older_database_of_the_engine_is_migrated(tmp_path: Path, revision: str) -> None:
    from alembic import command

    path = tmp_path / "engine.db"
    store = Store(path)
    config = _alembic_config()
    with store.database.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    store.close()
    again = Store(path)
    with again.begin() as session:
        assert session.query(VersionRow).all() == []
    again.close()


def test_the_pointer_to_the_latest_dataset_version(storage: Storage, tmp_path: Path) -> None:
    dataset = Workspace(storage, "gs://graft").dataset("d")
    write_latest(dataset, "d_1")
    path = tmp_path / "bucket" / "datasets" / "d" / "latest.json"
    newer(path)
    with pytest.raises(FormatTooNew, match="LatestVersion has the format 2"):
        read_latest(dataset)
    path.write_text('{"version": "d_0"}')
    assert read_latest(dataset).version == "d_0"


def test_the_claim_of_a_lock(storage: Storage) -> None:
    claim = Claim(at=1.0, holder="h", attempt="a")
    storage.write_json("gs://graft/claim", claim.to_dict())
    assert Claim.read(storage, "gs://graft/claim") == claim
    storage.write_json("gs://graft/claim", {"at": 1.0, "holder": "h", "try": "a"})
    assert Claim.read(storage, "gs://graft/claim") == claim
    storage.write_json("gs://graft/claim", {**claim.to_dict(), "format": 2})
    with pytest.raises(FormatTooNew, match="Claim has the format 2"):
        Claim.read(storage, "gs://graft/claim")


def test_the_pointer_to_staged_weights(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.backbones.table import BACKBONES
    from pipeline.submission.staged_weights import stage_weights

    backbone = BACKBONES["efficientnet_lite0"]
    workspace = Workspace(storage, "gs://graft")
    pointer = workspace.weights_source(f"{backbone.name}-{backbone.weights_digest.replace(':', '-')}-1")
    digest = hashlib.sha256(b"").hexdigest()
    value = {"uri": "gs://graft/weights/w", "digest": digest}
    staged = StagedWeights(uri="gs://graft/weights/w", digest=digest)
    storage.write_bytes("gs://graft/weights/w", b"")
    storage.write_json(pointer, value)
    assert stage_weights(workspace, backbone, "imagenet") == staged
    storage.write_json(pointer, {**value, "format": 2})
    with pytest.raises(FormatTooNew, match="StagedWeights has the format 2"):
        stage_weights(workspace, backbone, "imagenet")


def test_the_engines_record_of_a_versions_files(storage: Storage) -> None:
    files = VersionFiles(storage, "gs://graft")
    place = files.place("m", "v1")
    storage.write_json(place.record, {"format": 1, "files": {"a": "b"}})
    assert files.digests(place) == {"a": "b"}
    storage.write_json(place.record, {"format": 2, "files": {}})
    with pytest.raises(FormatTooNew, match=r"engine/versions/m/v1.json has the format 2; .* reads up to 1"):
        files.digests(place)


def test_the_engine_leaves_a_newer_record_of_a_model_alone(
    storage: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path / "engine.db")
    registry = Registry(store, storage, VersionFiles(storage, "gs://graft"))
    storage.write_json("gs://graft/engine/models/m.json", {"format": 2, "new": True})
    body = {"name": "v1", "deploymentUri": "gs://graft/jobs/1"}
    with store.begin() as session:
        session.add(ModelRow(name="m", body={}, default_version="v1", create_time=now()))
        session.add(VersionRow(model="m", name="v1", body=body, state="READY", create_time=now()))
    asyncio.run(registry.settle())
    store.close()
    assert storage.read_json("gs://graft/engine/models/m.json") == {"format": 2, "new": True}
    assert "has the format 2" in caplog.text


def test_the_pointer_to_the_newest_snapshot(storage: Storage) -> None:
    storage.write_json("gs://graft/newest.json", {"format": 2, "snapshot": "s"})
    with pytest.raises(FormatTooNew, match=r"newest.json has the format 2"):
        BackupFolder(storage, "gs://graft").find_latest()


def test_a_tflite_manifest_of_another_format_leaves_the_model_to_tensorflow(tmp_path: Path) -> None:
    from pipeline.tflite.manifest import TFLITE_MANIFEST, check_tflite

    path = tmp_path / TFLITE_MANIFEST
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = dict.fromkeys(TFLiteManifest.__dataclass_fields__, "")
    path.write_text(json.dumps({**fields, "format": 2}))
    with pytest.raises(TFLiteUnavailable):
        check_tflite(tmp_path)
