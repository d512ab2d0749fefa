"""Several layouts of other programs at once through the DAG, each to a version that serves."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipeline.artifacts.dataset import read_info
from pipeline.artifacts.workspace import Workspace
from tests.e2e.conftest import ClassifierDag, Stack
from tests.fakes.pictures import save_blots

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
Parts = Mapping[str, list[str]]


LABELS = ("blue", "red")


def spanish(root: Path) -> dict[str, str]:
    for part, count, first in (("entrenamiento", 30, 0), ("prueba", 10, 500)):
        for place, label in enumerate(LABELS):
            for n in range(count):
                save_blots(root / part / label / f"{n}.png", label, first + 2 * n + place)
    return {"type": "folder", "uri": str(root)}


def packed_here(root: Path) -> dict[str, str]:
    for place, label in enumerate(LABELS):
        for n in range(40):
            save_blots(root / "in" / label / f"{n}.jpg", label, 2 * n + place)
    subprocess.run(["tar", "-czf", root / "all.tgz", "-C", root / "in", "."], check=True)
    with tarfile.open(root / "all.tgz") as archive:
        assert any(name.startswith("./blue/") for name in archive.getnames())
    return {"type": "archive", "uri": str(root / "all.tgz")}


def manifest(root: Path) -> dict[str, str]:
    rows = []
    for place, label in enumerate(LABELS):
        for n in range(40):
            save_blots(root / "pictures" / f"{label[0]}{n}.png", label, 2 * n + place)
            meta = {"class-name": label, "type": "groundtruth/image-classification"}
            rows.append({"source-ref": f"s3://b/x/{label[0]}{n}.png", "job": place, "job-metadata": meta})
    (root / "output.manifest").write_text("\n".join(map(json.dumps, rows)))
    return {"type": "url_list", "uri": str(root / "output.manifest")}


LAYOUTS: dict[str, tuple[Callable[[Path], dict[str, str]], int]] = {
    "spanish": (spanish, 20),
    "packed_here": (packed_here, 0),
    "manifest": (manifest, 0),
}


def test_layouts_reach_served_versions(stack: Stack, tmp_path: Path) -> None:
    runs = {}
    for name, (make, _) in LAYOUTS.items():
        source = make(tmp_path / name)
        ClassifierDag(stack, {"name": name, "dataset": {"source": source}, "model": {"epochs": 5}})
        runs[name] = stack.start_graft("run", name, "--json")
    for name, process in runs.items():
        output, _ = process.communicate(timeout=3000)
        result = json.loads(output)
        assert result["state"] == "success", (name, output)
        shown = stack.graft_json("dataset", "show", name)
        assert shown["classes"] == dict.fromkeys(LABELS, 40), shown
        info = read_info(Workspace(stack.storage, "gs://graft").dataset(name).version(shown["version"]))
        assert sum(info.test.values()) == LAYOUTS[name][1] or not LAYOUTS[name][1]
        [answer] = stack.graft_json("predict", name, str(saved(tmp_path / f"{name}.png")))
        assert answer["label"] == "red", answer


def saved(path: Path) -> Path:
    save_blots(path, "red", 9001)
    return path
