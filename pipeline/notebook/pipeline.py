"""From a notebook to the pipeline: run a classifier, and show runs, versions, evaluations and datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.metrics import Interval
from pipeline.cli.output import Cell
from pipeline.config import Settings
from pipeline.errors import JobFailed, ObjectNotFound
from pipeline.notebook.connection import connect
from pipeline.notebook.html import Captioned, coloured, pictures, table
from pipeline.types import JsonValue

if TYPE_CHECKING:
    from pipeline.artifacts.dataset import DatasetInfo
    from pipeline.artifacts.run_summary import RunSummary
    from pipeline.cli.run_result import RunResult
    from pipeline.cli.versions import VersionDescription
    from pipeline.explain import Explanation

PICTURES_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run of a classifier.

    Args:
        result: How it ended.
        report: The report's HTML, where it wrote one.
    """

    result: RunResult
    report: str = field(default="", repr=False)

    def _repr_html_(self) -> str:
        result, summary = self.result, self.result.summary
        rows: list[tuple[str, Cell]] = [("run", result.run_id), ("state", result.state)]
        if summary is not None:
            rows += _describe(summary)
        rows.append(("error", result.error or None))
        shown = table((result.classifier, ""), [row for row in rows if row[1] is not None])
        return shown + self._report_frame()

    def _report_frame(self) -> str:
        if not self.report:
            return ""
        from html import escape

        # A frame of its own: the report brings its colours, and may run nothing.
        return (
            f'<iframe title="report" sandbox="" srcdoc="{escape(self.report)}" '
            'style="width: 100%; height: 32rem; border: 1px solid gray"></iframe>'
        )


def _describe(summary: RunSummary) -> list[tuple[str, Cell]]:
    evaluation, gate = summary.evaluation, summary.gate
    return [
        ("version", summary.version),
        ("accuracy", evaluation.accuracy if evaluation else None),
        ("test pictures", evaluation.test_pictures if evaluation else None),
        ("gate", ("accepted" if gate.accepted else "refused") if gate else None),
        *(("", reason) for reason in (gate.reasons if gate else ())),
        ("pictures", summary.dataset.pictures),
    ]


def graft_run(name: str, params: Mapping[str, JsonValue] | None = None) -> Run:
    """Run a classifier's DAG, watch it, and return its result with its report.

    Args:
        name: The classifier.
        params: Run parameters by name, e.g. `{"model.epochs": 40}`.

    Raises:
        ConfigError: for an unknown classifier or parameter.
        StackError: if the stack does not run, or Airflow does not know the classifier.
        JobFailed: if the run failed; one that the gate refused did not.
    """
    import json

    from pipeline.cli.connection import connect_airflow, require_stack
    from pipeline.cli.run import read_params, start_run, watch_run

    settings = Settings()
    assignments = [f"{key}={json.dumps(value)}" for key, value in (params or {}).items()]
    conf = read_params(name, assignments, settings)
    api = connect_airflow(require_stack())
    result = watch_run(api, name, start_run(api, name, conf, settings), settings)
    if result.summary is None:
        raise JobFailed(f"Run {result.run_id} of {name} failed: {result.error}", **result.to_dict())
    evaluation = result.summary.evaluation
    return Run(result=result, report=_read_report(evaluation.job) if evaluation else "")


def _read_report(evaluation_job: str) -> str:
    workspace = connect().workspace
    try:
        return workspace.storage.read_bytes(workspace.job(evaluation_job).report).decode()
    except ObjectNotFound:
        return ""


class Versions(list["VersionDescription"]):
    """The versions of a model, newest first."""

    def _repr_html_(self) -> str:
        columns = ("version", "state", "is_default", "created", "accuracy", "run_id", "dataset_version")
        rows = [each.to_dict() for each in self]
        return table(columns, [[row.get(column) for column in columns] for row in rows])


def versions(name: str) -> Versions:
    """Return a classifier's versions with what each was made from."""
    from pipeline.cli.versions import list_versions

    connection = connect()
    return Versions(list_versions(connection.workspace, connection.engine, name))


@dataclass(frozen=True, slots=True)
class ShownEvaluation:
    """The evaluation of a version, shown as tables and a drawing."""

    record: Evaluation

    def _repr_html_(self) -> str:
        from pipeline.report import charts
        from pipeline.report.content import describe_headline

        rows = [(row.title, row.value, _interval(row.interval)) for row in describe_headline(self.record)]
        candidate = self.record.candidate
        shown = table(("metric", "value", "95 % interval"), rows)
        shown += table(
            ("label", *(f"predicted {label}" for label in candidate.confusion)),
            [(label, *map(row.get, candidate.confusion)) for label, row in candidate.confusion.items()],
        )
        if candidate.reliability:
            shown += coloured(charts.reliability(candidate.reliability))
        return shown


def _interval(bounds: Interval | None) -> str | None:
    return None if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def evaluation(name: str, version: str | None = None) -> ShownEvaluation:
    """Return the evaluation of a version, by default of the one that serves.

    Raises:
        PlatformError: if there is no such version.
    """
    from pipeline.deploy.trace import find_version

    connection = connect()
    workspace = connection.workspace
    _, model, _ = find_version(workspace, connection.engine, name, version)
    return ShownEvaluation(Evaluation.read(workspace.storage, model.evaluation))


@dataclass(frozen=True, slots=True)
class ShownDataset:
    """A dataset version, shown with some pictures of each class.

    Args:
        info: The version as a whole.
        cards: Data URIs and captions, by class.
    """

    info: DatasetInfo
    cards: Mapping[str, Sequence[Captioned]]

    def _repr_html_(self) -> str:
        info = self.info
        counts = [(label, info.train[label], info.test[label]) for label in info.classes]
        shown = table((f"{info.dataset} {info.version[:12]}", "training", "test"), counts)
        return shown + "".join(pictures(cards) for cards in self.cards.values())


def dataset(name: str, version: str | None = None) -> ShownDataset:
    """Return a dataset version with a contact sheet; the latest by default.

    Raises:
        ObjectNotFound: if there is none.
    """
    from pipeline.artifacts.dataset import read_info, read_latest
    from pipeline.artifacts.manifest import Manifest
    from pipeline.explain.thumbnails import Thumbnails

    workspace = connect().workspace
    folder = workspace.dataset(name)
    chosen = version or read_latest(folder).version
    if chosen is None:
        raise ObjectNotFound(f"{name} has no dataset version yet. Make one with `graft run {name}`.")
    info = read_info(folder.version(chosen))
    thumbnails = Thumbnails(workspace, bits=info.bits)
    cards: dict[str, list[Captioned]] = {label: [] for label in info.classes}
    for row in Manifest(folder.version(chosen)).rows(columns=("label", "blob", "split")):
        shown = cards.get(row.label, [])
        if row.split is not None and len(shown) < PICTURES_SHOWN:
            shown.append(Captioned(image=thumbnails.plain(row.blob), caption=f"{row.label}, {row.split}"))
    return ShownDataset(info, cards)


@dataclass(frozen=True, slots=True)
class Explained:
    """The explanation of a prediction, shown as its figure.

    Args:
        explanation: The data.
        figure: The figure as a PNG.
    """

    explanation: Explanation
    figure: bytes = field(repr=False)

    def _repr_png_(self) -> bytes:
        return self.figure

    def __repr__(self) -> str:
        return str(self.explanation)


def explain(name: str, file: str, *, version: str | None = None, theme: str = "light") -> Explained:
    """Ask a served version about a picture, and show what its answer rests on.

    Raises:
        SourceNotFound: if the file is not there.
        PlatformError: if there is no such version, or the picture is refused.
    """
    from pathlib import Path

    from pipeline.explain import explain_file
    from pipeline.explain.figure import draw_explanation, save_figure

    connection = connect()
    explanation = explain_file(connection.workspace, connection.engine, name, file, version=version)
    figure = draw_explanation(connection.workspace, explanation, Path(file).read_bytes(), theme=theme)
    return Explained(explanation, save_figure(figure, "png"))
