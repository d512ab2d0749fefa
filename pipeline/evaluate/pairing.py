"""Pairs a candidate with its champion, and with the most accurate version of late, on the same pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.artifacts.class_changes import ClassChanges
from pipeline.artifacts.evaluation import Comparison, Difference, SharedClasses
from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.metrics import Metrics
from pipeline.evaluate.answers import Answers
from pipeline.evaluate.bootstrap import difference_intervals
from pipeline.evaluate.compare import compare_pairs
from pipeline.evaluate.measure import measure
from pipeline.evaluate.slices import measure_slices
from pipeline.types import BoolArray

MAX_NAMED = 3


def compare_answers(candidate: Answers, other: Answers) -> Comparison:
    """Compare the answers of two models for the same pictures, in the same order."""
    return compare_pairs(
        candidate.keys,
        candidate.correct.tolist(),
        other.correct.tolist(),
        groups=candidate.groups.tolist(),
        labels=[candidate.classes[index] for index in candidate.truth],
        changed=int((candidate.predicted != other.predicted).sum()),
    )


def measure_differences(
    candidate: Answers, other: Answers, measured: Metrics, other_measured: Metrics
) -> dict[str, Difference]:
    """Return candidate minus other by metric, with paired intervals."""
    intervals = difference_intervals(candidate, other)
    differences = {}
    for name in ("accuracy", "loss", *measured.scores):
        one, another = measured.value_of(name), other_measured.value_of(name)
        if one is not None and another is not None:
            differences[name] = Difference(value=one - another, ci95=intervals.get(name))
    return differences


def compare_shared(
    candidate: Answers,
    champion: Answers,
    *,
    classes: Sequence[str],
    trained_on: Collection[str],
    rows: Sequence[ManifestRow],
    slices: Sequence[str],
) -> SharedClasses | None:
    """Compare two models on the pictures that can be compared; None where these are all.

    Args:
        candidate: The candidate's answers.
        champion: The champion's, for the same pictures in the same order.
        classes: The candidate's classes that the champion knows, under whatever name.
        trained_on: Ids of test pictures that the champion was trained on.
        rows: Manifest rows of the pictures, in the order of the answers.
        slices: Columns to slice by.
    """
    if set(classes) == set(champion.classes) and not trained_on:
        return None
    shared = tuple(classes)
    mask = _find_comparable(candidate, shared, trained_on)
    pictures, left_out = int(mask.sum()), len(set(candidate.keys) & set(trained_on))
    if not pictures:
        return SharedClasses(classes=shared, pictures=0, candidate=None, champion=None, trained_on=left_out)
    one, other = candidate.select(mask), champion.select(mask)
    measured, other_measured = measure(one), measure(other)
    chosen = {row.id: row for row, is_chosen in zip(rows, mask, strict=True) if is_chosen and row.id}
    comparison = compare_answers(one, other)
    return SharedClasses(
        classes=shared,
        pictures=pictures,
        candidate=measured.headline(),
        champion=other_measured.headline(),
        comparison=replace(comparison, differences=measure_differences(one, other, measured, other_measured)),
        slices=measure_slices(chosen, slices, one, other),
        trained_on=left_out,
    )


def _find_comparable(answers: Answers, classes: Sequence[str], trained_on: Collection[str]) -> BoolArray:
    places = [answers.classes.index(label) for label in classes]
    unseen = np.array([key not in trained_on for key in answers.keys])
    comparable: BoolArray = np.isin(answers.truth, places) & unseen
    return comparable


def describe_relabelled(
    champion: Answers, labels: Mapping[str, str], champion_labels: Mapping[str, str]
) -> str:
    """Tell which test pictures changed their label since the champion, and what that did to its accuracy."""
    changed = {
        key: champion_labels[key]
        for key in champion.keys
        if key in champion_labels and champion_labels[key] != labels[key]
    }
    if not changed:
        return ""
    places = [place for place, key in enumerate(champion.keys) if key in changed]
    answers = [champion.classes[champion.predicted[place]] for place in places]
    before = sum(changed[champion.keys[place]] == label for place, label in zip(places, answers, strict=True))
    now = champion.correct[places].sum()
    named = ", ".join(list(changed)[:MAX_NAMED]) + (", ..." if len(changed) > MAX_NAMED else "")
    return (
        f"{len(changed)} test pictures changed their label since ({named}), which changed its accuracy by "
        f"{(now - before) / len(champion.keys):+.4f}"
    )


def find_class_changes(
    classes: Sequence[str],
    champion_classes: Sequence[str],
    *,
    labels: Mapping[str, str],
    champion_labels: Mapping[str, str],
) -> ClassChanges | None:
    """Return how the classes changed; None if they did not.

    A class whose pictures have another name now was renamed, and is the same class. Names that were exchanged
    are no renames: each then stands for something else, and cannot be compared.

    Args:
        classes: The candidate's.
        champion_classes: The champion's.
        labels: Label of each kept picture in the candidate's dataset version, by id.
        champion_labels: The same in the champion's.
    """
    moves = ((old, labels[key]) for key, old in champion_labels.items() if key in labels)
    changes = ClassChanges.between(champion_classes, classes, moves)
    return changes if changes.text else None
