"""Answers on real pictures: calibration, novelty, cross-validation, and planted copies."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.planted_copies import copies_section
from benchmarks.real_pictures import RealPictures, read_pictures, split_by_class
from pipeline.artifacts.training import CrossValidation, HeadParameters
from pipeline.evaluate.scores import calibration_error, reliability_bins
from pipeline.tflite.head import Head
from pipeline.tflite.novelty import NoveltyScorer
from pipeline.trainer.calibration import TrainingSet, calibrate
from pipeline.trainer.coreset import build_novelty
from pipeline.trainer.cross_validation import cross_validate
from pipeline.trainer.head import train_head

SETS = ("kangaroo_raccoon", "sign_digits", "opera_capitol")
SEEDS = range(5)
KEPT = 0.95  # share of own pictures that a limit keeps
SECTION = """## Quality of answers

Real pictures, EfficientNet-Lite0, five splits, 30 % of each class to test. *Before* and *after*:
without and with the temperature that training pictures fitted (`model.calibration`).

| set | accuracy | labels changed | temperature | log loss before | after | ECE before | after |
|---|---|---|---|---|---|---|---|"""
UNLIKE = """
Pictures of something else. The limit of *novelty* is `serving.reject_unlike: 0.95`; that of the
*softmax* is the probability which 95 % of the classifier's own test pictures reach. *Let through*:
the share of foreign pictures that get a label. *AUROC*: how well the score tells own test pictures
from foreign ones.

| classifier | foreign pictures | own kept | let through by novelty | by softmax | AUROC novelty | softmax |
|---|---|---|---|---|---|---|"""
RETRAINING = """### Retraining

Five splits, a head trained on each: mean and standard deviation of the accuracy on the test
pictures. Beside it the cross-validation that `training.json` has: five heads of 128 hidden units
on parts of the training pictures, its mean and its spread, averaged over the splits.

| set | accuracy | deviation over splits | cross-validation | its spread | CPU-seconds |
|---|---|---|---|---|---|"""
NOTES = """ECE has 15 bins of equal width. Novelty finds pictures of another kind; a class that was left out
of the classifier and looks like the others it often does not. Where the last column is the larger
one, the softmax is the better judge. With two classes, leaving one out leaves a classifier of one
class, whose softmax is always 1."""


def measure() -> str:
    """Return the section."""
    sets = {name: read_pictures(name) for name in SETS}
    rows = [calibration_row(name, pictures) for name, pictures in sets.items()]
    mean = np.mean([row.numbers for row in rows], axis=0)
    difference = [row.numbers[6] - row.numbers[5] for row in rows]
    error = np.std(difference, ddof=1) / len(difference) ** 0.5
    text = [SECTION, *(row.text for row in rows)]
    text += [
        "",
        f"Mean log loss after / before: {mean[4] / mean[3]:.2f}. Mean ECE: {mean[5]:.3f} before,",
        f"{mean[6]:.3f} after; the difference is {np.mean(difference):+.4f}, its standard error over sets "
        f"{error:.4f}.",
    ]
    text += [UNLIKE, *unlike_rows(sets), "", NOTES, "", retraining_section(sets), "", copies_section(SETS)]
    return "\n".join(text)


def retraining_section(sets: Mapping[str, RealPictures]) -> str:
    """Return how cross-validation on training pictures compares with the splits themselves."""
    lines = [RETRAINING]
    for name, pictures in sets.items():
        tested, validated, cpu = zip(*(cross_validate_split(pictures, seed) for seed in SEEDS), strict=True)
        mean, spread = np.mean([(each.accuracy, each.spread) for each in validated], axis=0)
        cells = (np.mean(tested), np.std(tested, ddof=1), mean, spread, np.mean(cpu))
        lines.append(f"| `{name}` | {' | '.join(f'{cell:.3f}' for cell in cells)} |")
    return "\n".join(lines)


def cross_validate_split(pictures: RealPictures, seed: int) -> tuple[float, CrossValidation, float]:
    """Return the accuracy on the test pictures, the cross-validation and its CPU seconds."""
    train, test = split_by_class(pictures.labels, seed)
    parameters, num_classes = HeadParameters(seed=seed), len(pictures.classes)
    features, labels = pictures.features[train], pictures.labels[train]
    head, _ = train_head(features, labels, num_classes, parameters)
    tested = (head.predict(pictures.features[test]).argmax(1) == pictures.labels[test]).mean()
    own = TrainingSet(features=features, labels=labels, ids=[str(row) for row in train], groups={})
    start = time.process_time()
    folds = cross_validate(own, parameters, num_classes=num_classes, epochs=parameters.epochs)
    if folds is None:
        raise RuntimeError("too few pictures")
    return float(tested), folds.record, time.process_time() - start


@dataclass(frozen=True)
class CalibrationRow:
    """A row of the first table, as numbers and as text."""

    numbers: Any
    text: str


def calibration_row(name: str, pictures: RealPictures) -> CalibrationRow:
    """Return the means over the splits of one set."""
    numbers = np.mean([calibrate_split(pictures, seed) for seed in SEEDS], axis=0)
    accuracy, changed, temperature, *rest = numbers
    cells = " | ".join(f"{value:.3f}" for value in rest)
    return CalibrationRow(
        numbers=numbers, text=f"| `{name}` | {accuracy:.3f} | {changed:.0f} | {temperature:.2f} | {cells} |"
    )


def calibrate_split(pictures: RealPictures, seed: int) -> tuple[float, ...]:
    """Return accuracy, changed labels, temperature, and log loss and ECE before and after."""
    train, test = split_by_class(pictures.labels, seed)
    parameters = HeadParameters(seed=seed)
    features, labels = pictures.features[train], pictures.labels[train]
    head, _ = train_head(features, labels, len(pictures.classes), parameters)
    own = TrainingSet(features=features, labels=labels, ids=[str(row) for row in train], groups={})
    calibrated, record = calibrate(head, own, parameters, epochs=parameters.epochs)
    before, after = (each.predict(pictures.features[test]) for each in (head, calibrated))
    truth = pictures.labels[test]
    changed = float((before.argmax(1) != after.argmax(1)).sum())
    temperature = record.temperature if record else 1.0
    accuracy = float((after.argmax(1) == truth).mean())
    losses = (log_loss(before, truth), log_loss(after, truth))
    return accuracy, changed, temperature, *losses, ece(before, truth), ece(after, truth)


def log_loss(outputs: Any, truth: Any) -> float:
    """Return the mean negative log-likelihood."""
    return float(-np.log(np.maximum(outputs[np.arange(len(truth)), truth], 1e-7)).mean())


def ece(outputs: Any, truth: Any) -> float:
    """Return the expected calibration error."""
    return calibration_error(reliability_bins(outputs.argmax(1) == truth, outputs.max(1).astype(float)))


@dataclass(frozen=True)
class Classifier:
    """A head, a scorer of novelty, and the features of its own test pictures."""

    head: Head
    scorer: NoveltyScorer
    own: Any


def unlike_rows(sets: Mapping[str, RealPictures]) -> Iterator[str]:
    """Yield the rows between sets, and those of classes that were left out."""
    for name, pictures in sets.items():
        classifiers = [fit(pictures, seed) for seed in SEEDS]
        for other in [each for each in sets if each != name]:
            runs = [judge(classifier, sets[other].features) for classifier in classifiers]
            yield unlike_row(f"`{name}`", f"`{other}`", runs)
    for name in ("sign_digits", "kangaroo_raccoon"):
        for label, left_out in enumerate(sets[name].classes):
            rest, foreign = leave_out(sets[name], label)
            runs = [judge(fit(rest, seed), foreign) for seed in SEEDS]
            yield unlike_row(f"`{name}` without `{left_out}`", f"`{left_out}`", runs)


def unlike_row(classifier: str, foreign: str, runs: list[tuple[float, ...]]) -> str:
    """Return the table row of the mean of several splits."""
    cells = " | ".join(f"{value:.2f}" for value in np.mean(runs, axis=0))
    return f"| {classifier} | {foreign} | {cells} |"


def leave_out(pictures: RealPictures, label: int) -> tuple[RealPictures, Any]:
    """Return the pictures of all classes but one, and the features of that one's."""
    keep = pictures.labels != label
    labels = pictures.labels[keep]
    rest = RealPictures(
        classes=[name for number, name in enumerate(pictures.classes) if number != label],
        labels=labels - (labels > label),
        features=pictures.features[keep],
        views=[],
    )
    return rest, pictures.features[~keep]


def fit(pictures: RealPictures, seed: int) -> Classifier:
    """Train a head on one split, and choose what tells novelty."""
    train, test = split_by_class(pictures.labels, seed)
    features, labels = pictures.features[train], pictures.labels[train]
    head, _ = train_head(features, labels, len(pictures.classes), HeadParameters(seed=seed))
    scorer = NoveltyScorer(build_novelty(features, [str(row) for row in train], {}))
    return Classifier(head, scorer, pictures.features[test])


def judge(classifier: Classifier, foreign: Any) -> tuple[float, ...]:
    """Return own pictures kept, foreign ones let through by either score, and both areas."""
    novelty = [classifier.scorer.score(each) for each in (classifier.own, foreign)]
    doubt = [1 - classifier.head.predict(each).max(1) for each in (classifier.own, foreign)]
    limit = np.quantile(doubt[0], KEPT)
    return (
        float((novelty[0] <= KEPT).mean()),
        float((novelty[1] <= KEPT).mean()),
        float((doubt[1] <= limit).mean()),
        area(*novelty),
        area(*doubt),
    )


def area(own: Any, foreign: Any) -> float:
    """Return how often a foreign picture has the larger score; ties count half."""
    larger = (foreign[:, None] > own).mean() + (foreign[:, None] == own).mean() / 2
    return float(larger)
