"""Heads, backbones and fine-tuning on real pictures: accuracy, log loss, ECE and the cost of training.

`python -m benchmarks models --cache FOLDER` keeps features and finished cells, so that a run that was stopped
continues. `--quick` has one seed and the smallest set, and prints only.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.model_cells import Cell, Packed, measure_cell, open_workspace, trainer_digest

SETS = ("kangaroo_raccoon", "opera_capitol", "sign_digits")
SEEDS = range(5)
LITE0, LITE1, LITE2 = (f"efficientnet_lite{number}" for number in range(3))
LOGISTIC = {"type": "logistic"}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "Lite0, dense": {"backbone": LITE0},
    "Lite0, logistic": {"backbone": LITE0, "head": LOGISTIC},
    "Lite1, dense": {"backbone": LITE1},
    "Lite1, logistic": {"backbone": LITE1, "head": LOGISTIC},
    "Lite2, dense": {"backbone": LITE2},
    "Lite2, logistic": {"backbone": LITE2, "head": LOGISTIC},
    "Lite0, one block fine-tuned": {"backbone": LITE0, "finetune": {"blocks": 1}},
}
DEFAULT = next(iter(MODELS))
FIGURES = ("accuracy", "log_loss", "ece", "cpu")
SECTION = """## Models

Real pictures, {seeds} splits, 30 % of each class to test; everything else is as in a job by default,
the temperature included. Mean and standard error over the splits; their test pictures overlap, so
that the errors are somewhat too small. *CPU s*: training, with features and feature maps at hand.
Fine-tuning starts a process, which imports TensorFlow and Keras.

| set | model | accuracy | log loss | ECE | CPU s |
|---|---|---|---|---|---|"""
DIFFERENCES = """
The difference to {default} on the same split, over all {pairs} pairs of set and split:

| model | accuracy | log loss | ECE |
|---|---|---|---|"""


def measure(*, quick: bool = False, cache: Path | None = None) -> str:
    """Return the section."""
    seeds, sets = (SEEDS[:1], SETS[1:2]) if quick else (SEEDS, SETS)
    folder = nullcontext(str(cache)) if cache else tempfile.TemporaryDirectory(prefix="graft-bench-")
    with folder as home, mock.patch.dict(os.environ, GRAFT_HOME=str(home)):  # which fine-tuning reads
        cells = {name: measure_set(name, seeds, Path(home)) for name in sets}
    lines = [SECTION.format(seeds=len(seeds))]
    for name, models in cells.items():
        for model, runs in models.items():
            *scores, cpu = _columns(runs)
            figures = (*map(format_mean, scores), format_mean(cpu, digits=1))
            lines.append(f"| `{name}` | {model} | {' | '.join(figures)} |")
    lines.append(DIFFERENCES.format(default=DEFAULT, pairs=len(sets) * len(seeds)))
    for model in list(MODELS)[1:]:
        pairs = [_columns(cells[name][model]) - _columns(cells[name][DEFAULT]) for name in sets]
        figures = (format_mean(values, sign="+") for values in np.concatenate(pairs, axis=1)[:3])
        lines.append(f"| {model} | {' | '.join(figures)} |")
    return "\n".join(lines)


def measure_set(name: str, seeds: Sequence[int], home: Path) -> dict[str, list[Cell]]:
    """Return the cells of a set by model, one for each seed; finished ones are read."""
    packed: dict[str, Packed] = {}
    cells: dict[str, list[Cell]] = {}
    for model, section in MODELS.items():
        backbone = section["backbone"]
        packed.setdefault(backbone, Packed(name=name, backbone=backbone, workspace=open_workspace(home)))
        cells[model] = [read_cell(packed[backbone], model, seed, home) for seed in seeds]
    return cells


def read_cell(packed: Packed, model: str, seed: int, home: Path) -> Cell:
    """Return a cell; it is measured where it is missing."""
    name = f"{packed.name} {model} {seed}"
    path = home / "cells" / trainer_digest() / f"{name}.json"
    if not path.exists():
        if "finetune" in MODELS[model] and seed == SEEDS[0]:
            measure_cell(packed, MODELS[model], seed)  # whose feature maps are then at hand
        cell = measure_cell(packed, MODELS[model], seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(cell)))
        print(name, cell, file=sys.stderr, flush=True)
    return Cell(**json.loads(path.read_text()))


def _columns(cells: Sequence[Cell]) -> Any:
    return np.array([[getattr(cell, figure) for cell in cells] for figure in FIGURES])


def format_mean(values: Any, *, sign: str = "", digits: int = 3) -> str:
    """Return the mean and its standard error, if there are several values."""
    mean = f"{np.mean(values):{sign}.{digits}f}"
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
    return mean if error is None else f"{mean} ± {error:.{digits}f}"
