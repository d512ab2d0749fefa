from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.workspace import Workspace
from pipeline.cli import versions as module
from pipeline.cli.versions import COLUMNS
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.model_record import decision, lineage

Graft = Callable[..., Any]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeMLEngine:
    engine = FakeMLEngine()
    monkeypatch.setattr(module, "require_stack", dict)
    monkeypatch.setattr(module, "connect_engine", lambda status: engine)
    return engine


@pytest.fixture
def two_versions(engine: FakeMLEngine, home: Path) -> None:
    engine.ensure_model("tiles")
    for name, created, default in (
        ("v_1", "2026-01-01T00:00:00Z", True),
        ("v_2", "2026-01-02T00:00:00Z", False),
    ):
        engine.create_version("tiles", {"name": name})
        engine.versions["tiles"][name] |= {"createTime": created, "isDefault": default}
    model = Workspace(Storage.from_environment(), "gs://graft").model("tiles", "v_1")
    lineage(run_id="r1", gate=decision(0.97)).write(model.storage, model.lineage)


@pytest.mark.usefixtures("two_versions")
def test_versions_come_newest_first_with_what_they_were_made_from(graft: Graft) -> None:
    newest, oldest = graft("versions", "tiles", "--json").document
    assert oldest == {
        "version": "v_1",
        "state": "READY",
        "is_default": True,
        "created": "2026-01-01T00:00:00Z",
        "accuracy": 0.97,
        "run_id": "r1",
        "dataset_version": "d_1",
    }
    assert newest["version"] == "v_2"
    assert (newest["accuracy"], newest["run_id"], newest["is_default"]) == (None, None, False)


@pytest.mark.usefixtures("two_versions")
def test_text_is_a_table(graft: Graft) -> None:
    lines = graft("versions", "tiles").stdout.splitlines()
    assert lines[0].split() == list(COLUMNS)
    assert lines[2].split()[-2:] == ["0.9700", "d_1"]
    assert "ago" in lines[2]
    assert lines[1].split()[-2:] == ["-", "-"]
    wide = graft("versions", "tiles", "--wide").stdout.splitlines()
    assert wide[0].split() == [*COLUMNS, "run"]
    assert wide[2].split() == ["v_1", "READY", "yes", "2026-01-01T00:00:00Z", "0.9700", "d_1", "r1"]


@pytest.mark.usefixtures("engine")
def test_model_without_versions_is_an_empty_list(graft: Graft) -> None:
    assert graft("versions", "tiles", "--json").document == []
    assert "graft run tiles" in graft("versions", "tiles").stdout
