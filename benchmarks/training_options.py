"""Early stopping, class weights and augmentation on real pictures, each with and without."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.real_pictures import RealPictures, read_pictures, split_by_class
from pipeline.artifacts.training import HeadParameters
from pipeline.trainer.head import train_head
from pipeline.trainer.validation import split_validation

SEEDS = range(5)
VIEWS = 3
EPOCHS = HeadParameters(epochs=100)
SMALL = 0  # the class that is made ten times smaller
SECTION = """## Training options

Real pictures, EfficientNet-Lite0, mean of five seeds (split, first weights and order), 30 % of each class
to test. *Seconds*: training the head, features at hand; forwarding a picture or a copy costs about 20 ms
of CPU once, ever.

| option | set | training pictures | setting | accuracy | log loss | small class's recall | epochs | seconds |
|---|---|---|---|---|---|---|---|---|"""
NOTES = """*Early stopping*: 15 % of the training pictures judge, patience 5, of at most 100 epochs; the best
epoch is kept. *Class weights*: of `kangaroo` only as many training pictures are kept as make 1 to 10; the
first row is the whole, balanced set. *Augmentation*: three copies of each of a few training pictures."""
Row = tuple[float, float, float, int, float]


def measure() -> str:
    """Return the section of all three options."""
    animals, digits = (
        read_pictures("kangaroo_raccoon", views=VIEWS),
        read_pictures("sign_digits", views=VIEWS),
    )
    rows = [*early_stopping(animals, "kangaroo_raccoon"), *early_stopping(digits, "sign_digits")]
    rows += class_weights(animals, "kangaroo_raccoon")
    rows += augmentation(animals, "kangaroo_raccoon", 20) + augmentation(digits, "sign_digits", 20)
    return "\n".join([SECTION, *rows, "", NOTES])


def early_stopping(pictures: RealPictures, name: str) -> list[str]:
    """Return the rows of 100 epochs, and of as many as the validation pictures want."""
    without, stopped = [], []
    for seed in SEEDS:
        train, test = split_by_class(pictures.labels, seed)
        ids = [str(row) for row in train]
        judges = split_validation(ids, pictures.labels[train], {}, fraction=0.15, seed=seed)
        without.append(run(pictures, train, test, replace(EPOCHS, seed=seed)))
        parameters = replace(EPOCHS, seed=seed, patience=5)
        stopped.append(run(pictures, train[~judges], test, parameters, judges=train[judges]))
    count = len(train)
    return [
        row("early stopping", name, count, "without", without),
        row("early stopping", name, count, "with", stopped),
    ]


def class_weights(pictures: RealPictures, name: str) -> list[str]:
    """Return the rows of the whole set, of a ten times smaller class, and of that with weights."""
    rows_by_setting: dict[str, list[Row]] = {"all pictures": [], "10 : 1, none": [], "10 : 1, balanced": []}
    counts = {}
    for seed in SEEDS:
        train, test = split_by_class(pictures.labels, seed)
        small = train[pictures.labels[train] == SMALL]
        large = train[pictures.labels[train] != SMALL]
        few = np.concatenate([large, small[: round(len(large) / 10)]])
        plain = HeadParameters(seed=seed)
        rows_by_setting["all pictures"].append(run(pictures, train, test, plain))
        rows_by_setting["10 : 1, none"].append(run(pictures, few, test, plain))
        weighted = replace(plain, class_weights="balanced")
        rows_by_setting["10 : 1, balanced"].append(run(pictures, few, test, weighted))
        counts = {"all pictures": len(train), "10 : 1, none": len(few), "10 : 1, balanced": len(few)}
    return [
        row("class weights", name, counts[setting], setting, rows)
        for setting, rows in rows_by_setting.items()
    ]


def augmentation(pictures: RealPictures, name: str, each: int) -> list[str]:
    """Return the rows of a few pictures of each class, as they are and with their copies."""
    plain, copied = [], []
    for seed in SEEDS:
        train, test = split_by_class(pictures.labels, seed)
        few = np.concatenate([train[pictures.labels[train] == c][:each] for c in np.unique(pictures.labels)])
        plain.append(run(pictures, few, test, HeadParameters(seed=seed)))
        copied.append(run(pictures, few, test, HeadParameters(seed=seed), views=pictures.views))
    return [
        row("augmentation", name, len(few), "without", plain),
        row("augmentation", name, len(few), f"{VIEWS} views", copied),
    ]


def run(
    pictures: RealPictures,
    train: Any,
    test: Any,
    parameters: HeadParameters,
    *,
    judges: Any = None,
    views: list[Any] | None = None,
) -> Row:
    """Train once; return accuracy, loss, recall of the small class, epochs and seconds."""
    parts = [pictures.features, *(views or [])]
    features = np.concatenate([part[train] for part in parts])
    labels = np.concatenate([pictures.labels[train]] * len(parts))
    validation = None if judges is None else (pictures.features[judges], pictures.labels[judges])
    start = time.perf_counter()
    head, history = train_head(features, labels, len(pictures.classes), parameters, validation=validation)
    seconds = time.perf_counter() - start
    truth, outputs = pictures.labels[test], head.predict(pictures.features[test])
    right = outputs.argmax(1) == truth
    loss = -np.log(np.maximum(outputs[np.arange(len(test)), truth], 1e-7)).mean()
    recall = right[truth == SMALL].mean()
    return float(right.mean()), float(loss), float(recall), len(history["loss"]), seconds


def row(option: str, name: str, pictures: int, setting: str, runs: list[Row]) -> str:
    """Return the table row of the mean of several runs."""
    accuracy, loss, recall, epochs, seconds = (float(np.mean(column)) for column in zip(*runs, strict=True))
    return (
        f"| {option} | `{name}` | {pictures} | {setting} | {accuracy:.3f} | {loss:.3f} | {recall:.3f} "
        f"| {epochs:.0f} | {seconds:.1f} |"
    )
