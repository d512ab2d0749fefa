"""`graft predict --out` of many pictures, whose engine is killed in the middle."""

from __future__ import annotations

import csv
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.bulk.results import ResultsFile
from pipeline.cli import predict as module
from pipeline.cli.app import main
from pipeline.ml_engine.rest import RestMLEngine
from tests.integration.engine_process import EngineProcess
from tests.integration.tiny_heads import convert_network, write_model

pytestmark = pytest.mark.soak
NUM_PICTURES = 1000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    home = tmp_path / "home"
    home.mkdir()
    network = convert_network(tmp_path / "network.tflite")
    with EngineProcess(home) as engine:
        write_model(home / "buckets" / "graft" / "exports" / "0", network, 0)
        engine.start()
        engine.client().models().create(parent="projects/local", body={"name": "m"}).execute()
        assert engine.deploy("m", "v1", "gs://graft/exports/0")["response"]["state"] == "READY"
        yield engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_PICTURES, 32, 32, 3), np.uint8)
    for number, each in enumerate(pixels):
        Image.fromarray(each).save(folder / f"{number:04d}.png")
    (folder / "0500.png").write_bytes(b"no picture")
    (folder / "0501.png").write_bytes(b"")
    large = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    Image.fromarray(large).save(folder / "0502.png")
    return folder


def predict(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["predict", "m", *arguments])
    return int(ended.value.code or 0)


def test_a_killed_engine_costs_no_answer_and_doubles_none(
    engine: EngineProcess, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, append = tmp_path / "results.csv", ResultsFile.append
    calls = []

    def append_and_kill(results: ResultsFile, answers: Any) -> None:
        append(results, answers)
        calls.append(1)
        if len(calls) == 5:
            engine.end(signal.SIGKILL)

    with closing(RestMLEngine(engine.url, "local", "", patience_seconds=0)) as client:
        monkeypatch.setattr(module, "require_stack", dict)
        monkeypatch.setattr(module, "connect_engine", lambda status: client)
        monkeypatch.setattr(ResultsFile, "append", append_and_kill)
        assert predict(str(folder), "--out", str(out)) == 1
        num_rows = len(read_rows(out))
        assert 0 < num_rows < NUM_PICTURES
        engine.start()
        assert predict(str(folder), "--out", str(out)) == 0
    rows = read_rows(out)
    assert set(Counter(row["file"] for row in rows).values()) == {1}
    assert len(rows) == NUM_PICTURES
    assert sorted(Path(row["file"]).name for row in rows if row["error"]) == ["0500.png", "0501.png"]
    print(f"{num_rows} rows before the engine was killed, {len(rows)} after the second run")  # noqa: T201


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
