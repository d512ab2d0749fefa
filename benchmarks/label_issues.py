"""Flip 5 % of the labels of real pictures and count how many of them the report's suspects are."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.real_pictures import read_pictures
from pipeline.report.label_issues import cross_validated_probabilities, find_label_issues

SETS = ("sign_digits", "kangaroo_raccoon")
SEEDS = range(5)
SHARE = 0.05
SECTION = """## Suspected labels

5 % of the labels flipped at random, five seeds. As many suspects are taken as were flipped, so precision
and recall are one number; the goal on `sign_digits` is 0.8. *Seconds*: finding them, features at hand.

| pictures | set | flipped | precision = recall, mean | least | suspects in all, mean | seconds |
|---|---|---|---|---|---|---|"""
NOTES = """A suspect is a training picture which a model that has not seen it would label otherwise: ridge
regression on the cached features, five folds, near duplicates in one fold
(`pipeline/report/label_issues.py`)."""


def measure() -> str:
    """Return the section of both sets."""
    rows = []
    for name in SETS:
        pictures = read_pictures(name)
        runs = [flip_and_find(pictures.features, pictures.labels, seed) for seed in SEEDS]
        shares, suspects, seconds = (np.array(column) for column in zip(*runs, strict=True))
        flipped = round(SHARE * len(pictures.labels))
        rows.append(
            f"| {len(pictures.labels)} | `{name}` | {flipped} | {shares.mean():.3f} | {shares.min():.3f} "
            f"| {suspects.mean():.0f} | {seconds.mean():.2f} |"
        )
    return "\n".join([SECTION, *rows, "", NOTES])


def flip_and_find(features: Any, labels: Any, seed: int) -> tuple[float, int, float]:
    """Return the share of flipped labels among as many first suspects, all suspects, and the seconds."""
    random, classes = np.random.default_rng(seed), int(labels.max()) + 1
    flipped = random.choice(len(labels), round(SHARE * len(labels)), replace=False)
    noisy_labels = labels.copy()
    noisy_labels[flipped] = (labels[flipped] + random.integers(1, classes, len(flipped))) % classes
    start = time.perf_counter()
    issues = find_label_issues(cross_validated_probabilities(features, noisy_labels, classes), noisy_labels)
    seconds = time.perf_counter() - start
    hits = {issue.row for issue in issues[: len(flipped)]} & set(flipped.tolist())
    return len(hits) / len(flipped), len(issues), seconds
