from __future__ import annotations

from pathlib import Path

from pipeline.artifacts.workspace import Workspace
from pipeline.storage import Storage


def test_paths_are_those_that_earlier_versions_wrote(tmp_path: Path) -> None:
    workspace = Workspace(Storage({"graft": tmp_path}), "gs://graft")
    version = workspace.dataset("m").version("d_1")
    assert version.manifest == "gs://graft/datasets/m/d_1/manifest.jsonl"
    assert workspace.dataset("m").fetch_index(3) == "gs://graft/datasets/m/fetched/00003.jsonl"
    assert workspace.model("m", "v_1").lineage == "gs://graft/models/m/v_1/graft/lineage.json"
    assert workspace.job("j").model.labels == "gs://graft/jobs/j/model/graft/labels.json"
    assert (
        workspace.run("m", "manual__2026:1+0").summary
        == "gs://graft/runs/m/manual__2026%3A1%2B0/summary.json"
    )
    assert workspace.classifier("m").rollback("a/b") == "gs://graft/classifiers/m/rollbacks/a%2Fb.json"
