"""From a notebook to the pipeline: heads, runs, and what is shown of runs, versions, evaluations, "
"datasets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.metrics import Metrics, ReliabilityBin
from pipeline.artifacts.run_summary import GateSummary
from pipeline.artifacts.workspace import Workspace
from pipeline.cli.run_result import RunResult
from pipeline.cli.versions import VersionDescription
from pipeline.deploy.lineage import VersionOrigin
from pipeline.errors import ConfigError, JobFailed, NotebookError
from pipeline.notebook import magics, pipeline as shown
from pipeline.notebook.connection import Connection
from pipeline.notebook.pipeline import Run, ShownDataset, ShownEvaluation, Versions
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine
from tests.fakes.model_record import run_summary
from tests.unit.pipeline.explain.test_explain import picture
from tests.unit.pipeline.notebook.conftest import Kernel

HEAD = "def my_head(feature_width, num_classes):\n    return None\n"
RESULT = RunResult(
    classifier="m",
    run_id="r",
    summary=run_summary(
        run_id="r", gate=GateSummary(accepted=False, reasons=("accuracy is <low>",)), version=None
    ),
)


class TestHead:
    def test_a_cell_becomes_the_head_of_a_run_named_by_its_digest(
        self, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked: list[Any] = []
        monkeypatch.setattr(magics, "graft_run", lambda *given: asked.append(given))
        kernel.run(f"%%ml_head m\n{HEAD}")
        uri = f"gs://graft/heads/{hashlib.sha256(HEAD.encode()).hexdigest()}.py"
        assert kernel.storage.read_bytes(uri) == HEAD.encode()
        assert f"model: {{head: {{module: {uri}}}}}" in capsys.readouterr().out
        assert callable(kernel.shell.user_ns["my_head"])
        kernel.run("%graft_run m epochs=3")
        kernel.run("%graft_run other")
        assert asked == [("m", {"model.head.module": uri, "epochs": 3}), ("other", {})]

    @pytest.mark.parametrize(
        ("text", "kind", "match"),
        [
            (f"%%ml_head\n{HEAD}", NotebookError, "wants the name of a classifier"),
            ("%%ml_head m\nx = 1", ConfigError, r"must define `build_head\(feature_width, num_classes\)`"),
            ("%%ml_head m\ndef f(a, b): return layers(a)", NotebookError, "needs `layers`"),
            ("%%ml_head m\ndef f(a", NotebookError, "line 1"),
            ("%graft_run", NotebookError, "wants the name of a classifier"),
            ("%graft_run m epochs", NotebookError, "parameters are KEY=VALUE"),
        ],
    )
    def test_anything_else_is_told(
        self, kernel: Kernel, text: str, kind: type[Exception], match: str
    ) -> None:
        kernel.fails(text, kind, match)
        assert kernel.storage.list_uris("gs://graft/heads/") == []


class TestShown:
    def test_a_run_shows_its_verdict_and_its_report_in_a_frame_that_runs_nothing(self) -> None:
        html = Run(result=RESULT, report='<script>alert("x")</script>')._repr_html_()
        assert "refused" in html
        assert "accuracy is &lt;low&gt;" in html
        assert 'sandbox=""' in html
        assert "<script>" not in html
        assert "iframe" not in Run(result=RESULT)._repr_html_()

    def test_a_failed_run_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from pipeline.cli import connection, run

        confs = []

        def start(api: Any, name: str, conf: Any, settings: Any) -> str:
            confs.append(conf)
            return "r"

        failed = RunResult(classifier="m", run_id="r", error="train: no luck")
        monkeypatch.setattr(connection, "require_stack", dict)
        monkeypatch.setattr(run, "read_params", lambda name, given, settings: {"given": given})
        monkeypatch.setattr(connection, "connect_airflow", lambda status: None)
        monkeypatch.setattr(run, "start_run", start)
        monkeypatch.setattr(run, "watch_run", lambda api, name, run_id, settings: failed)
        with pytest.raises(JobFailed, match="Run r of m failed: train: no luck") as caught:
            shown.graft_run("m", {"model.epochs": 3})
        assert confs == [{"given": ["model.epochs=3"]}]
        assert caught.value.details["error"] == "train: no luck"

    def test_versions_are_a_table(self) -> None:
        origin = VersionOrigin(accuracy=0.5, run_id=None, dataset_version=None)
        version = VersionDescription(
            version="v1", state="READY", is_default=True, created=None, origin=origin
        )
        html = Versions([version])._repr_html_()
        for text in ("v1", "yes", "0.5000", "–"):
            assert f">{text}</td>" in html

    def test_an_evaluation_shows_metrics_confusion_and_reliability(self) -> None:
        confusion = {"a": {"a": 3, "b": 1}, "b": {"a": 0, "b": 4}}
        candidate = Metrics(
            accuracy=0.875,
            accuracy_ci95=(0.5, 0.98),
            loss=0.2,
            test_pictures=8,
            confusion=confusion,
            reliability=(ReliabilityBin(low=0.9, high=1.0, confidence=0.9, accuracy=0.8, pictures=8),),
        )
        record = Evaluation(job="j", classes=("a", "b"), candidate=candidate)
        html = ShownEvaluation(record)._repr_html_()
        assert "0.8750" in html
        assert "0.500 to 0.980" in html
        assert "predicted b" in html
        assert "<svg" in html
        assert "--series-1: #" in html  # so that the drawing has colours outside the report

    def test_a_dataset_shows_some_pictures_of_each_class(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage = Storage({"graft": tmp_path})
        home = "gs://graft/datasets/m"
        rows = [
            {
                "blob": f"b{number}",
                "id": f"i{number}",
                "label": "ab"[number % 2],
                "position": number,
                "source_url": "",
                "retrieved_at": "",
                "status": "kept",
                "split": "train",
            }
            for number in range(4)
        ]
        for number in range(4):
            storage.write_bytes(f"gs://graft/blobs/b{number}", picture(number * 50))
        info = {
            "dataset": "m",
            "version": "v",
            "classes": ["a", "b"],
            "train": {"a": 2, "b": 2},
            "test": {"a": 0, "b": 0},
            "pictures": {"a": 2, "b": 2},
            "rejected": {},
            "source": {"type": "sample"},
            "split": {"method": "hash", "test_fraction": 0.2, "seed": 0},
            "run_id": "r",
            "created_at": "2026-01-01T00:00:00Z",
        }
        storage.write_json(f"{home}/latest.json", {"version": "v"})
        storage.write_json(f"{home}/v/dataset.json", info)
        storage.write_bytes(
            f"{home}/v/manifest.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        )
        found = Connection(engine=FakeMLEngine(), workspace=Workspace(storage, "gs://graft"), home=tmp_path)
        monkeypatch.setattr(shown, "connect", lambda: found)
        html = shown.dataset("m")._repr_html_()
        assert html.count("data:image/jpeg;base64,") == 4
        assert "a, train" in html
        assert isinstance(shown.dataset("m", "v"), ShownDataset)
