"""What a report says, as plain values: numbers, cards and drawings for the page to lay out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.workspace import Workspace
from pipeline.explain.features import read_features
from pipeline.explain.thumbnails import Thumbnails
from pipeline.preprocess.reasons import NOT_QUARANTINE, REASONS
from pipeline.report import charts
from pipeline.report.curves import class_curves, fit_temperature, uncalibrated_reliability
from pipeline.report.gallery import Gallery
from pipeline.report.inputs import ReportInputs
from pipeline.report.ranking import Answer, rank_answers
from pipeline.types import JsonDict

MAX_CLASSES_TABLED = 20  # columns of the confusion matrix
CHARTS = ("reliability", "coverage", "precision_recall", "roc", "loss", "accuracy")
SIDES = ("pictures", "train", "test")
FEW_PICTURES = 30  # below this the figures of a class say little
HEADLINE = (
    ("accuracy", "Accuracy"),
    ("loss", "Log loss"),
    ("macro_f1", "Macro F1"),
    ("weighted_f1", "Weighted F1"),
    ("roc_auc", "ROC area"),
    ("pr_auc", "Precision-recall area"),
    ("brier", "Brier score"),
    ("ece", "Calibration error (ECE)"),
)


def build_content(workspace: Workspace, inputs: ReportInputs) -> JsonDict:
    """Return everything that the page shows, section by section; a section without data is empty."""
    answers = rank_answers(inputs)
    train = {id: row for id, row in inputs.rows.items() if row.split == "train"}
    cached = read_features(workspace.storage, inputs.record.get("features", ()), wanted=train)
    gallery = Gallery(inputs, answers, Thumbnails(workspace))
    comparison = inputs.evaluation.get("comparison") or {}
    return {
        "title": inputs.classifier["name"],
        "description": inputs.classifier.get("description", ""),
        "run_id": inputs.run_id,
        "verdict": describe_verdict(inputs.decision),
        "headline": describe_headline(inputs.evaluation),
        "baseline": majority_share(inputs.evaluation["candidate"]),
        "comparison": comparison,
        "champion": inputs.evaluation.get("champion_version"),
        "champion_saw": inputs.evaluation.get("champion_saw"),
        "shared": inputs.evaluation.get("shared"),
        "gained": gallery.changed(comparison.get("gained", ())),
        "lost": gallery.changed(comparison.get("lost", ())),
        "classes": describe_classes(inputs.evaluation["candidate"]),
        "few_pictures": FEW_PICTURES,
        "confusion": describe_confusion(inputs.evaluation["candidate"]),
        "confused": gallery.confused(),
        "worst": gallery.worst(cached),
        "wrong": sum(not answer.is_right for answer in answers),
        "issues": gallery.label_issues(cached),
        "training_pictures": len(train),
        "explained": gallery.explained(),
        "charts": draw_charts(inputs, answers),
        "coverage": inputs.evaluation["candidate"].get("coverage", []),
        "ece": (inputs.evaluation["candidate"].get("scores") or {}).get("ece"),
        "temperature": fit_temperature(answers, inputs.classes),
        "slices": inputs.evaluation.get("slices") or {},
        "data": describe_data(inputs),
        "history": describe_history(inputs.record),
        "provenance": describe_provenance(inputs),
    }


def describe_verdict(decision: Mapping[str, Any]) -> JsonDict:
    """Return the gate's word and every rule behind it."""
    override = decision.get("override")
    thresholds = [{"key": key, "limit": limit} for key, limit in decision.get("thresholds", {}).items()]
    fields = ("key", "verdict", "value", "limit", "interval", "subject")
    rules = [{name: rule.get(name) for name in fields} for rule in decision.get("rules") or thresholds]
    word = "Accepted" if decision["accepted"] else "Refused"
    return {
        "accepted": decision["accepted"],
        "word": "Accepted by override" if override else word,
        "reasons": list(decision["reasons"]),
        "note": decision.get("note", ""),
        "override": override,
        "rules": rules,
    }


def describe_headline(evaluation: Mapping[str, Any]) -> list[JsonDict]:
    """Return the metrics that are there, of candidate and champion, with intervals."""
    candidate, champion = evaluation["candidate"], evaluation.get("champion") or {}
    differences = (evaluation.get("comparison") or {}).get("differences", {})
    rows = []
    for name, title in HEADLINE:
        value, interval = _metric(candidate, name)
        if value is not None:
            rows.append(
                {
                    "name": name,
                    "title": title,
                    "value": value,
                    "interval": interval,
                    "champion": _metric(champion, name)[0],
                    "difference": differences.get(name),
                }
            )
    return rows


def _metric(metrics: Mapping[str, Any], name: str) -> tuple[float | None, Sequence[float] | None]:
    if name in metrics:
        return metrics[name], metrics.get(f"{name}_ci95") or (metrics.get("intervals") or {}).get(name)
    return (metrics.get("scores") or {}).get(name), (metrics.get("intervals") or {}).get(name)


def majority_share(metrics: Mapping[str, Any]) -> float:
    """Return the accuracy of always saying the most frequent class."""
    supports = [sum(row.values()) for row in metrics["confusion"].values()]
    return float(max(supports) / sum(supports))


def describe_classes(metrics: Mapping[str, Any]) -> list[JsonDict]:
    """Return the row of each class: measured, or else counted from the confusion matrix."""
    measured = metrics.get("per_class") or {}
    rows = []
    for label, row in metrics["confusion"].items():
        support, hits = sum(row.values()), row.get(label, 0)
        answered = sum(other.get(label, 0) for other in metrics["confusion"].values())
        counted = {
            "support": support,
            "precision": hits / answered if answered else None,
            "recall": hits / support if support else None,
            "f1": 2 * hits / (answered + support) if answered + support else None,
        }
        rows.append({"label": label, **counted, **measured.get(label, {})})
    return rows


def describe_confusion(metrics: Mapping[str, Any]) -> JsonDict | None:
    """Return the confusion matrix with the share of each row; None where it is too wide to read."""
    confusion = metrics["confusion"]
    if len(confusion) > MAX_CLASSES_TABLED:
        return None
    return {
        "labels": list(confusion),
        "rows": [
            {
                "label": label,
                "cells": [
                    {
                        "count": row[other],
                        "share": row[other] / max(sum(row.values()), 1),
                        "right": other == label,
                    }
                    for other in confusion
                ],
            }
            for label, row in confusion.items()
        ],
    }


def draw_charts(inputs: ReportInputs, answers: Sequence[Answer]) -> dict[str, str]:
    """Return the drawings there is data for, by name."""
    candidate, history = inputs.evaluation["candidate"], inputs.record.get("history")
    drawn = dict.fromkeys(CHARTS, "")
    if candidate.get("reliability"):
        calibration = inputs.record.get("calibration")
        before = uncalibrated_reliability(answers, calibration["temperature"]) if calibration else ()
        drawn["reliability"] = charts.reliability(candidate["reliability"], before)
    if candidate.get("coverage"):
        drawn["coverage"] = charts.coverage(candidate["coverage"])
    precision, rates = class_curves(answers, inputs.classes)
    if precision:
        drawn["precision_recall"] = charts.class_curves(precision, x="recall", y="precision")
    if rates:
        drawn["roc"] = charts.class_curves(rates, x="false positive rate", y="true positive rate")
    if history:
        for name in ("loss", "accuracy"):
            drawn[name] = charts.learning_curve(history, name, inputs.record.get("best_epoch"))
    return drawn


def describe_data(inputs: ReportInputs) -> JsonDict:
    """Return the dataset's counts, what was kept out and why, licences, and what leaks over the split."""
    info = inputs.info
    licences = Counter(row.provenance.license or "not stated" for row in inputs.rows.values())
    return {
        "version": inputs.dataset["version"],
        "classes": [
            {
                "label": label,
                **{side: info.get(side, {}).get(label) for side in SIDES},
            }
            for label in info.get("classes", inputs.classes)
        ],
        "rejected": sorted(info.get("rejected", {}).items(), key=lambda item: (-item[1], item[0])),
        "stages": count_stages(info),
        "leaks": count_leaks(inputs.rows.values()),
        "licences": licences.most_common(),
        "warnings": [*info.get("expect", {}).get("reasons", []), *info.get("warnings", [])],
    }


def count_stages(info: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return how many pictures were left after each stage, from found to test; empty where nobody counted."""
    if not info.get("found"):
        return []
    rejected = info.get("rejected", {})
    downloaded = info["found"] - sum(count for reason, count in rejected.items() if reason not in REASONS)
    bad = sum(count for reason, count in rejected.items() if reason in REASONS.keys() - NOT_QUARANTINE)
    kept, train, test = (sum(info.get(side, {}).values()) for side in SIDES)
    names = ("found", "downloaded", "valid", "unique and wanted", "training", "test")
    return list(zip(names, (info["found"], downloaded, downloaded - bad, kept, train, test), strict=True))


def count_leaks(rows: Iterable[ManifestRow]) -> int:
    """Return how many groups of near duplicates have pictures on both sides of the split."""
    sides: dict[str | None, set[str | None]] = {}
    for row in rows:
        sides.setdefault(row.group, set()).add(row.split)
    return sum(len(found) > 1 for found in sides.values())


def describe_history(record: Mapping[str, Any]) -> JsonDict:
    """Return how training went."""
    rounded = {name: round(value, 3) for name, value in (record.get("calibration") or {}).items()}
    return {
        key: record.get(key)
        for key in (
            "epochs_run",
            "best_epoch",
            "validation",
            "class_weights",
            "augmentation",
            "warm_start",
        )
    } | {"calibration": rounded or None}


def describe_provenance(inputs: ReportInputs) -> list[tuple[str, Any]]:
    """Return what the run was made of, for whoever wants it again."""
    training, record = inputs.training, inputs.record
    return [
        ("Run", inputs.run_id),
        ("Dataset version", inputs.dataset["version"]),
        ("Training job", training.get("job")),
        ("Evaluation job", inputs.evaluation.get("job")),
        ("Model size in MB", _rounded(inputs.evaluation.get("size_mb"))),
        ("Batch prediction, ms a picture", _rounded(inputs.evaluation.get("batch_ms_per_picture"))),
        ("Weights", training.get("weights_uri")),
        ("Trainer package", training.get("package_uri")),
        ("Runtime", training.get("runtime_version")),
        *((f"Parameter {name}", value) for name, value in (record.get("parameters") or {}).items()),
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
