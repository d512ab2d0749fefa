"""What a report says: numbers, cards and drawings for the page to lay out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.artifacts.dataset import DatasetInfo
from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.gate import GateDecision
from pipeline.artifacts.manifest import ManifestRow
from pipeline.artifacts.metrics import Interval, Metrics
from pipeline.artifacts.training import TrainingRecord
from pipeline.preprocess.reasons import NOT_QUARANTINE, REASONS
from pipeline.report import charts
from pipeline.report.curves import class_curves, fit_temperature, uncalibrated_reliability, unlike_shares
from pipeline.report.gallery import Gallery
from pipeline.report.inputs import ReportInputs
from pipeline.report.page import figure
from pipeline.report.plain import describe_plainly
from pipeline.report.ranking import Answer
from pipeline.report.views import (
    ClassCounts,
    ClassView,
    ConfusionCell,
    ConfusionRow,
    ConfusionView,
    DataView,
    MetricView,
    ReportContent,
    VerdictView,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_CLASSES_TABLED = 20  # columns of the confusion matrix
CHARTS = ("reliability", "coverage", "precision_recall", "roc", "loss", "accuracy")
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


HISTORY = (
    *("epochs_run", "best_epoch", "validation", "class_weights", "augmentation", "warm_start"),
    *("calibration", "cross_validation"),
)
OF_EPOCHS = {"epochs_run": "loss", "best_epoch": "val_loss"}  # each is of what the history has


def build_content(inputs: ReportInputs, gallery: Gallery) -> ReportContent:
    """Return everything that the page shows."""
    evaluation, candidate = inputs.evaluation, inputs.evaluation.candidate
    comparison, answers = evaluation.comparison, gallery.answers
    return ReportContent(
        title=inputs.classifier.name,
        description=inputs.classifier.description,
        run_id=inputs.run_id,
        verdict=describe_verdict(inputs.decision, candidate),
        headline=describe_headline(evaluation),
        baseline=majority_share(candidate),
        comparison=comparison,
        champion=evaluation.champion_version,
        champion_saw=evaluation.champion_saw,
        shared=evaluation.shared,
        gained=gallery.changed(comparison.gained) if comparison else (),
        lost=gallery.changed(comparison.lost) if comparison else (),
        classes=describe_classes(candidate),
        few_pictures=FEW_PICTURES,
        confusion=describe_confusion(candidate),
        confused=gallery.confused(),
        worst=gallery.worst(),
        wrong=sum(not answer.is_right for answer in answers),
        issues=gallery.label_issues(),
        training_pictures=len(inputs.training_rows),
        explained=gallery.explained(),
        charts=draw_charts(inputs, answers),
        coverage=candidate.coverage,
        ece=candidate.value_of("ece"),
        temperature=fit_temperature(answers, inputs.training.classes),
        slices=evaluation.slices,
        data=describe_data(inputs),
        best_epoch=find_best_epoch(inputs.record),
        calibration=inputs.record.calibration if inputs.record else None,
        cross_validation=inputs.record.cross_validation if inputs.record else None,
        tuning=inputs.tuning,
        unlike=unlike_shares(answers),
        history=describe_history(inputs.record),
        provenance=describe_provenance(inputs),
    )


def describe_verdict(decision: GateDecision, metrics: Metrics) -> VerdictView:
    """Return what was seen, the gate's decision, and every rule behind it."""
    word = "Accepted" if decision.accepted else "Refused"
    return VerdictView(
        accepted=decision.accepted,
        word="Accepted by override" if decision.override else word,
        plain=describe_plainly(metrics),
        reasons=decision.reasons,
        note=decision.note,
        override=decision.override,
        rules=decision.rules,
    )


def describe_headline(evaluation: Evaluation) -> list[MetricView]:
    """Return the metrics that were measured, of candidate and champion, with intervals."""
    candidate, champion = evaluation.candidate, evaluation.champion
    differences = evaluation.comparison.differences if evaluation.comparison else {}
    return [
        MetricView(
            name=name,
            title=title,
            value=value,
            interval=candidate.interval_of(name),
            champion=champion.value_of(name) if champion else None,
            difference=differences.get(name),
        )
        for name, title in HEADLINE
        if (value := candidate.value_of(name)) is not None
    ]


def majority_share(metrics: Metrics) -> float:
    """Return the accuracy of always answering with the most frequent class."""
    supports = [sum(row.values()) for row in metrics.confusion.values()]
    return max(supports) / sum(supports)


def describe_classes(metrics: Metrics) -> list[ClassView]:
    """Return the row of each class: measured, or else counted from the confusion matrix."""
    return [
        ClassView(label=label, support=sum(row.values()), figures=_class_figures(metrics, label))
        for label, row in metrics.confusion.items()
    ]


def _class_figures(metrics: Metrics, label: str) -> list[tuple[float | None, Interval | None]]:
    measured = metrics.per_class.get(label)
    if measured is not None:
        names = ("precision", "recall", "f1")
        return [(measured.value_of(name), measured.interval_of(name)) for name in names]
    row = metrics.confusion[label]
    support, hits = sum(row.values()), row.get(label, 0)
    answered = sum(other.get(label, 0) for other in metrics.confusion.values())
    counted = (_share(hits, answered), _share(hits, support), _share(2 * hits, answered + support))
    return [(value, None) for value in counted]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def describe_confusion(metrics: Metrics) -> ConfusionView | None:
    """Return the confusion matrix with the share of each row; None where it is too wide to read."""
    confusion = metrics.confusion
    if len(confusion) > MAX_CLASSES_TABLED:
        return None
    rows = [
        ConfusionRow(
            label=label,
            cells=[
                ConfusionCell(
                    taken_for=other,
                    count=row[other],
                    share=row[other] / max(sum(row.values()), 1),
                    right=other == label,
                )
                for other in confusion
            ],
        )
        for label, row in confusion.items()
    ]
    return ConfusionView(labels=list(confusion), rows=rows)


def draw_charts(inputs: ReportInputs, answers: Sequence[Answer]) -> dict[str, str]:
    """Return the drawings that there is data for, by name; the others are empty."""
    candidate, record = inputs.evaluation.candidate, inputs.record
    drawn = dict.fromkeys(CHARTS, "")
    if candidate.reliability:
        calibration = record.calibration if record else None
        before = uncalibrated_reliability(answers, calibration.temperature) if calibration else ()
        drawn["reliability"] = charts.reliability(candidate.reliability, before)
    if candidate.coverage:
        drawn["coverage"] = charts.coverage(candidate.coverage)
    precision, rates = class_curves(answers, inputs.training.classes)
    if precision:
        title = "Precision and recall of each class"
        drawn["precision_recall"] = charts.class_curves(precision, title=title, x="recall", y="precision")
    if rates:
        x, y = "false positive rate", "true positive rate"
        drawn["roc"] = charts.class_curves(rates, title="ROC curve of each class", x=x, y=y)
    history = find_history(record)
    for name in ("loss", "accuracy") if history else ():
        drawn[name] = charts.learning_curve(history, name, find_best_epoch(record))
    return drawn


def describe_data(inputs: ReportInputs) -> DataView:
    """Return the dataset's counts, what was left out and why, licences, and what leaks over the split."""
    info = inputs.info
    licences = Counter(row.provenance.license or "not stated" for row in inputs.rows.values())
    rejected = info.rejected if info else {}
    return DataView(
        version=inputs.dataset.version,
        classes=_count_classes(info, inputs.training.classes),
        rejected=sorted(rejected.items(), key=lambda item: (-item[1], item[0])),
        stages=count_stages(info) if info else (),
        leaks=count_leaks(inputs.rows.values()),
        licences=licences.most_common(),
        warnings=[*info.expect.reasons, *info.warnings] if info else (),
    )


def _count_classes(info: DatasetInfo | None, classes: Sequence[str]) -> list[ClassCounts]:
    if info is None:
        return [ClassCounts(label=label, pictures=None, train=None, test=None) for label in classes]
    return [
        ClassCounts(
            label=label, pictures=info.pictures[label], train=info.train[label], test=info.test[label]
        )
        for label in info.classes
    ]


def count_stages(info: DatasetInfo) -> list[tuple[str, int]]:
    """Return how many pictures were left after each stage, from found to test; empty if not counted."""
    if not info.found:
        return []
    failed = sum(count for reason, count in info.rejected.items() if reason not in REASONS)
    bad = sum(count for reason, count in info.rejected.items() if reason in REASONS.keys() - NOT_QUARANTINE)
    downloaded = info.found - failed
    return [
        ("found", info.found),
        ("downloaded", downloaded),
        ("valid", downloaded - bad),
        ("unique and wanted", sum(info.pictures.values())),
        ("training", sum(info.train.values())),
        ("test", sum(info.test.values())),
    ]


def count_leaks(rows: Iterable[ManifestRow]) -> int:
    """Return how many groups of near duplicates have pictures on both sides of the split."""
    sides: dict[str | None, set[str | None]] = {}
    for row in rows:
        sides.setdefault(row.group, set()).add(row.split)
    return sum(len(splits) > 1 for splits in sides.values())


def find_history(record: TrainingRecord | None) -> Mapping[str, Sequence[float]]:
    """Return the epochs of the training whose curves are drawn: of the head, else of the fine-tuning."""
    if record is None:
        return {}
    return record.history or (record.finetune.history if record.finetune else {})


def find_best_epoch(record: TrainingRecord | None) -> int | None:
    """Return the epoch that validation pictures chose; None where none did: the last one is kept then."""
    if record is None or "val_loss" not in find_history(record):
        return None
    return record.best_epoch if record.history or not record.finetune else record.finetune.best_epoch


def describe_history(record: TrainingRecord | None) -> list[tuple[str, str]]:
    """Return how the head was trained, as text by name."""
    if record is None:
        return []
    names = [name for name in HISTORY if name not in OF_EPOCHS or OF_EPOCHS[name] in record.history]
    values = {name: getattr(record, name) for name in names}
    if record.finetune:
        values["finetuning"] = record.finetune.line
    if record.regularization:
        values["regularization"] = record.regularization.line
    return [(_spell(name), _describe(value)) for name, value in values.items() if value is not None]


def _describe(value: DataclassInstance | str | int) -> str:
    if isinstance(value, str | int):
        return str(value)
    parts = asdict(value).items()
    return ", ".join(f"{_figure(part, name)} {_spell(name)}" for name, part in parts)


def _figure(value: float | str | None, name: str) -> str:
    """Return a value as the rest of the report has it: shares as per cent, their spread in points."""
    if not isinstance(value, float):
        return str(value)
    return f"{100 * value:.1f} points" if name == "spread" else figure(value, name)


def _spell(name: str) -> str:
    return name.replace("_", " ")


def describe_provenance(inputs: ReportInputs) -> list[tuple[str, str]]:
    """Return what the run was made of, as text by name; what is unknown is left out."""
    training, evaluation = inputs.training, inputs.evaluation
    parameters: Mapping[str, int | float | str] = inputs.record.parameters if inputs.record else {}
    values = {
        "Run": inputs.run_id,
        "Dataset version": inputs.dataset.version,
        "Training job": training.job,
        "Study": training.tuning.job if training.tuning else None,
        "Evaluation job": evaluation.job,
        "Model size in MB": _round(evaluation.size_mb),
        "Batch prediction, ms a picture": _round(evaluation.batch_ms_per_picture),
        "Weights": training.weights_uri,
        "Trainer package": training.package_uri,
        "Runtime": training.runtime_version,
        **{f"Parameter {name}": str(value) for name, value in parameters.items()},
    }
    return [(name, value) for name, value in values.items() if value is not None]


def _round(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"
