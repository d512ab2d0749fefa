"""What the gate lets through: whole runs on the real stack, with a floor that says nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import ModelConfig
from tests.e2e.conftest import ClassifierDag, Stack
from tests.e2e.model_kinds import check_served, stage_extra

pytestmark = pytest.mark.timeout(1800)  # several whole runs, and the start of the stack
NAME = "stripes"
# No other test of CI takes it through the DAG.
LARGER = ModelConfig.model_validate({"backbone": "efficientnet_lite2"})
SIDE = 48
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "across": lambda x, y: np.sin(y),
    "along": lambda x, y: np.sin(x),
    "grid": lambda x, y: np.sin(x) * np.sin(y),
    "slanted": lambda x, y: np.sin(x + y),
    "rings": lambda x, y: np.sin(np.hypot(x - x.mean(), y - y.mean())),
}


def draw(shape: str, seed: int) -> Image.Image:
    """Return a picture of a shape with a width, a phase, colours and noise of its own."""
    random = np.random.default_rng([seed, *shape.encode()])
    y, x = np.mgrid[:SIDE, :SIDE] / random.uniform(1.2, 2.2)
    wave = SHAPES[shape](x + random.uniform(0, 6), y)[..., None]
    low, high = random.uniform(0, 110, 3), random.uniform(145, 255, 3)
    clouds = Image.fromarray(random.normal(0, 40, (6, 6)).astype(np.float32)).resize(
        (SIDE, SIDE), Image.BICUBIC
    )
    pixels = low + (high - low) * (wave + 1) / 2 + random.normal(0, 12, (SIDE, SIDE, 3))
    pixels += np.asarray(clouds)[..., None]  # else one picture is a crop of another, and both are one group
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_class(folder: Path, label: str, count: int, *, shape: str = "", seed: int = 0) -> None:
    (folder / label).mkdir(parents=True)
    for number in range(count):
        picture = draw(shape or label, seed + number)
        picture.save(folder / label / f"{label}-{seed + number}.png")


class Gated(ClassifierDag):
    """A classifier of a folder, whose gate has a floor that every model reaches."""

    def __init__(
        self, stack: Stack, name: str, folder: Path, model: ModelConfig | None = None, **gate: Any
    ) -> None:
        self.folder = folder
        super().__init__(
            stack,
            {
                "name": name,
                "model": (model or ModelConfig()).model_dump(mode="json", exclude_unset=True),
                "dataset": {"source": {"type": "folder", "uri": str(folder)}},
                "gate": {"min_accuracy": 0.3, **gate},
            },
        )

    def run(self, *params: str, code: int = 0) -> dict[str, Any]:
        options = [argument for param in params for argument in ("--param", param)]
        result: dict[str, Any] = self.stack.graft_json("run", self.name, *options, code=code)
        return result

    def rules(self, version: str) -> dict[str, str]:
        """Return the text of each rule of the gate that let a version through."""
        lineage = self.stack.graft_json("lineage", self.name, version)
        return {rule["key"]: rule["text"] for rule in lineage["gate"]["rules"]}


def keys(result: dict[str, Any]) -> set[str]:
    """Return the rules that refused."""
    return {reason.partition(":")[0] for reason in result["gate"]["reasons"]}


@pytest.fixture(scope="module")
def stripes(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Gated:
    folder = tmp_path_factory.mktemp("stripes")
    for label in ("across", "along", "grid", "slanted"):
        write_class(folder, label, 60)
    stage_extra(stack, LARGER, tmp_path_factory.mktemp("extras"))
    return Gated(stack, NAME, folder, LARGER)


@pytest.fixture(scope="module")
def champion(stripes: Gated) -> str:
    """The first version, and what its run showed: it is good, and it did not serve before its test."""
    result = stripes.run()
    assert (result["state"], result["evaluation"]["accuracy"] >= 0.9) == ("success", True), result
    names = {model["name"].rpartition("/")[2] for model in stripes.stack.engine_get("models")["models"]}
    assert NAME in names
    assert f"{NAME}__candidate" not in names  # other classifiers of this stack may have one
    return str(result["version"])


def serving(stripes: Gated) -> str:
    [name] = [
        version["version"] for version in stripes.stack.graft_json("versions", NAME) if version["is_default"]
    ]
    return str(name)


def test_a_larger_network_answers_as_it_was_trained(stripes: Gated, champion: str, tmp_path: Path) -> None:
    check_served(stripes.stack, NAME, LARGER, tmp_path)


def test_a_worse_model_is_refused_though_it_is_above_the_floor(stripes: Gated, champion: str) -> None:
    result = stripes.run("head.units=1", "epochs=1", "gate.min_accuracy=0.1", code=3)
    assert "not_worse" in keys(result), result["gate"]["reasons"]
    assert "absolute.accuracy.min" not in keys(result)
    assert serving(stripes) == champion


def test_a_third_of_the_labels_exchanged_stops_the_run_before_training(
    stripes: Gated, champion: str, tmp_path: Path
) -> None:
    kept = shutil.copytree(stripes.folder, tmp_path / "kept")
    for label, other in (("across", "along"), ("along", "across"), ("grid", "slanted"), ("slanted", "grid")):
        for file in sorted((kept / label).iterdir())[:20]:
            (stripes.folder / label / file.name).unlink()
            shutil.copy(file, stripes.folder / other / file.name)
    try:
        stopped = stripes.stack.graft("run", NAME)
        assert stopped.returncode == 1
        assert "label_churn" in stopped.stderr + stopped.stdout
        assert "across to along 20" in stopped.stderr + stopped.stdout
        assert serving(stripes) == champion
    finally:
        shutil.rmtree(stripes.folder)
        shutil.copytree(kept, stripes.folder)


@pytest.mark.soak
def test_classes_added_removed_and_renamed_are_named_and_judged_on_those_that_both_know(
    stripes: Gated, champion: str
) -> None:
    write_class(stripes.folder, "rings", 60)
    added = stripes.run()
    rules = stripes.rules(added["version"])
    assert rules["classes_changed"] == "classes_changed: added rings"
    shared = re.match(r"not_worse: on (\d+) pictures accuracy differs by", rules["not_worse"])
    assert shared, rules["not_worse"]
    assert 0 < int(shared[1]) < added["evaluation"]["test_pictures"]
    assert "rings" not in rules["class_drop"]

    shutil.rmtree(stripes.folder / "grid")
    (stripes.folder / "slanted").rename(stripes.folder / "diagonal")
    result = stripes.run("gate.classes_changed=refuse", code=3)
    [reason] = result["gate"]["reasons"]
    assert reason == (
        "classes_changed: this gate takes no version with other classes: "
        "removed grid; renamed slanted to diagonal"
    )
    assert serving(stripes) == added["version"]


@pytest.mark.soak
class TestUnevenClasses:
    """90 pictures of one class and 10 of the other: most answers are right without looking."""

    def test_of_the_same_pictures_are_refused(self, stack: Stack, tmp_path: Path) -> None:
        write_class(tmp_path, "common", 90, shape="along")
        write_class(tmp_path, "rare", 10, shape="along", seed=90)
        result = Gated(stack, "same", tmp_path).run(code=3)
        assert keys(result) == {"informative"}
        assert result["evaluation"]["accuracy"] >= 0.8

    @pytest.mark.shared_data
    def test_of_kangaroos_and_raccoons_pass(self, stack: Stack, tmp_path: Path, shared_data: Path) -> None:
        for label, count in (("kangaroo", 90), ("raccoon", 10)):
            (tmp_path / label).mkdir()
            for file in sorted((shared_data / "kangaroo_raccoon" / label).glob("*.jpg"))[:count]:
                shutil.copy(file, tmp_path / label)
        result = Gated(stack, "animals_apart", tmp_path).run()
        assert result["state"] == "success"
