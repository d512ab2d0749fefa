"""Comparison jobs whose options are all equally good, and options made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.artifacts.held_out_answers import ComparisonRecord, ComparisonSpec, HeldOutAnswers, OptionCost
from pipeline.artifacts.model_comparison import ComparedOption, CrossValidated, Estimate
from pipeline.artifacts.pack import read_groups, read_pack_index
from pipeline.artifacts.training import FeatureWork
from pipeline.npz import read_npz
from pipeline.storage import Storage
from pipeline.trainer.calibration import assign_folds

TRUE_ACCURACY = 0.7
CPU_MS = {"efficientnet_lite0": 10.0, "efficientnet_lite2": 20.0}


def run_equal_options(job: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    """Leave answers that are right with the same probability for each option, and let the job succeed."""
    training = job["trainingInput"]
    spec = ComparisonSpec.from_args([*training["args"], "--job-dir", training["jobDir"]])
    storage = Storage.from_environment()
    index = read_pack_index(storage, spec.base.pack_index)
    shards = [read_npz(storage.local_path(shard.uri)) for shard in index.shards]
    ids, labels = (np.concatenate([shard[name] for shard in shards]) for name in ("ids", "labels"))
    names = [id.decode() for id in ids]
    folds = assign_folds(names, labels, read_groups(storage, index), seed=spec.base.seed, num_folds=5)
    random, classes = np.random.default_rng(seed), len(index.classes)
    outputs = np.stack([_draw_outputs(random, labels, classes) for _ in spec.options])
    directory = spec.base.open_job(storage)
    HeldOutAnswers(ids=ids, labels=labels, folds=folds, outputs=outputs).write(directory)
    ComparisonRecord(
        classes=tuple(index.classes),
        options=tuple(OptionCost(head_bytes=4, head_cpu_ms=0.1, fit_cpu_seconds=1.0) for _ in spec.options),
        network_bytes=1_000_000,
        network_cpu_ms=CPU_MS[spec.base.backbone],
        latency_ms=12.0,
        work=FeatureWork(forwarded=0, cached=len(ids)),
    ).write(directory)
    return {"state": "SUCCEEDED"}


def _draw_outputs(random: np.random.Generator, labels: Any, classes: int) -> Any:
    right = random.random(len(labels)) < TRUE_ACCURACY
    answers = np.where(right, labels, (labels + 1) % classes)
    confidence = random.uniform(0.6, 0.9, len(labels))
    outputs = np.repeat((1 - confidence)[:, None] / (classes - 1), classes, 1)
    outputs[np.arange(len(labels)), answers] = confidence
    return outputs.astype(np.float32)


def compared_option(name: str, log_loss: float, **changes: Any) -> ComparedOption:
    """Return an option; `behind` and `error` are of its difference to the best one."""
    behind = Estimate(value=changes.pop("behind", 0.0), error=changes.pop("error", 0.01))
    one = Estimate(value=0.9, error=0.01)
    scores = CrossValidated(
        accuracy=one, log_loss=Estimate(value=log_loss, error=0.02), ece=one, behind=behind
    )
    option = ComparedOption(
        name=name,
        parameters={"model.seed": 1},
        cross_validated=scores,
        cpu_ms=10.0,
        latency_ms=11.0,
        model_bytes=1000,
        fit_cpu_seconds=1.0,
        job="graft_1",
    )
    return replace(option, **changes)
