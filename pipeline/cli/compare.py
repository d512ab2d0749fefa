"""`graft compare`: which backbone, head and parameters suit a classifier's training pictures best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeGuard

import typer

from pipeline.cli.connection import connect_engine, open_workspace, require_stack
from pipeline.cli.dataset import require_dataset
from pipeline.cli.output import (
    ExitCode,
    JsonOption,
    NameArgument,
    UsageError,
    print_json,
    print_line,
    print_note,
    print_text,
)
from pipeline.cli.run import require_classifier
from pipeline.cli.tables import WideOption, print_table

if TYPE_CHECKING:
    from pipeline.artifacts.model_comparison import Estimate, ModelComparison, Setting
    from pipeline.artifacts.workspace import Workspace
    from pipeline.compare.jobs import ComparisonJob
    from pipeline.compare.options import Option
    from pipeline.config import Classifier
    from pipeline.ml_engine.protocol import MLEngine
    from pipeline.types import JsonValue

COLUMNS = ("option", "CV accuracy", "log loss", "ECE", "CPU ms")
WIDE_COLUMNS = (*COLUMNS, "latency ms", "MB", "training CPU s", "job")
POLL_SECONDS = 1.0

BackboneOption = Annotated[
    list[str] | None,
    typer.Option(
        "--backbone", metavar="B", help="A backbone to compare; by default those with weights here."
    ),
]
HeadOption = Annotated[
    list[str] | None,
    typer.Option("--head", metavar="TYPE", help="`dense` or `logistic`; both by default."),
]
GridOption = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="KEY=A,B", help="Values to compare, such as model.epochs=10,40."),
]
WriteOption = Annotated[
    bool, typer.Option("--write", help="Put the recommended `model` section into the classifier's YAML.")
]


def compare(
    name: NameArgument,
    backbone: BackboneOption = None,
    head: HeadOption = None,
    param: GridOption = None,
    write: WriteOption = False,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare backbones, heads and parameters by cross-validation on the training pictures."""
    from pipeline.compare.written_choice import write_choice
    from pipeline.config import Settings

    settings = Settings()
    workspace, classifier = open_workspace(settings), require_classifier(name, settings)
    options = read_options(workspace, classifier, backbone or [], head or [], param or [])
    version = require_dataset(workspace, name, None).version
    engine = connect_engine(require_stack())
    try:
        comparison, section = run_comparison(workspace, engine, name, version, options)
    except KeyboardInterrupt:
        print_note("\nStopped waiting; the jobs go on, and the same command finds them again.")
        raise typer.Exit(ExitCode.ERROR) from None
    page = workspace.storage.local_path(workspace.classifier(name).comparison_page)
    if as_json:
        if write:
            write_choice(comparison, settings)
        print_json(
            {**comparison.to_dict(), "caution": comparison.caution, "yaml": section, "page": str(page)}
        )
        return
    print_comparison(comparison, wide=wide)
    print_text(f"  page: {page}")
    if comparison.choice.is_present:
        return
    if write:
        path = write_choice(comparison, settings)
        print_text(f"{path} has it now; `graft run {name}` trains it and tests it.")
    else:
        print_text("The YAML of the choice, which --write puts into the file:\n")
        print_line(section.rstrip())


def read_options(
    workspace: Workspace,
    classifier: Classifier,
    backbones: Sequence[str],
    heads: Sequence[str],
    params: Sequence[str],
) -> list[Option]:
    """Return what the command line compares.

    Raises:
        UsageError: for an unknown backbone, head or parameter, or a value that does not fit.
    """
    from pipeline.backbones.table import find_backbone
    from pipeline.compare.options import HEADS, available_backbones, make_options
    from pipeline.errors import ConfigError, UnknownBackbone

    for unknown in [head for head in heads if head not in HEADS]:
        raise UsageError(f"--head is one of {', '.join(HEADS)}. Received: {unknown!r}")
    try:
        for each in backbones:
            find_backbone(each)
        return make_options(
            classifier,
            backbones=backbones or available_backbones(workspace),
            heads=heads or HEADS,
            grid=dict(_read_values(param) for param in params),
        )
    except (ConfigError, UnknownBackbone) as error:
        raise UsageError(error.message) from error


def _read_values(param: str) -> tuple[str, list[Setting]]:
    from pipeline.config.yaml_text import parse_yaml

    key, equals, text = param.partition("=")
    values = parse_yaml(f"[{text}]") if equals and key else None
    settings = [each for each in values if _is_setting(each)] if isinstance(values, list) else []
    if not settings or settings != values:
        raise UsageError(f"--param is KEY=A,B, e.g. model.epochs=10,40. Received: {param!r}")
    return key, settings


def _is_setting(value: JsonValue) -> TypeGuard[Setting]:
    return isinstance(value, bool | int | float | str)


def run_comparison(
    workspace: Workspace, engine: MLEngine, name: str, version: str, options: Sequence[Option]
) -> tuple[ModelComparison, str]:
    """Submit the jobs, wait for them, keep the result, and return it with the YAML of the choice."""
    from pipeline.compare.comparison import compare_answers
    from pipeline.compare.jobs import by_backbone, stage_work, submit_comparison
    from pipeline.compare.written_choice import keep_section
    from pipeline.config import Settings
    from pipeline.report.model_comparison import write_comparison_page

    jobs: list[ComparisonJob] = []
    for group in by_backbone(options):
        work = stage_work(workspace, name, version, group)
        job = submit_comparison(engine, work)
        backbone = work.spec.base.backbone
        print_note(f"job {job.job_id} compares {len(group)} of {len(options)} options, on {backbone}")
        jobs.append(job)
    for job in jobs:
        _wait(engine, job)
    comparison = compare_answers(workspace, jobs, classifier=name, dataset_version=version)
    section = keep_section(workspace, comparison, Settings())
    write_comparison_page(workspace, comparison, section)
    return comparison, section


def _wait(engine: MLEngine, job: ComparisonJob) -> None:
    from pipeline.compare.jobs import DEADLINE_SECONDS

    engine.wait_job(
        job.job_id,
        deadline_seconds=DEADLINE_SECONDS,
        poll_seconds=POLL_SECONDS,
        on_state=lambda state: print_note(f"job {job.job_id} is {state}"),
    )


def print_comparison(comparison: ModelComparison, *, wide: bool = False) -> None:
    """Print the table, the recommendation and what the figures are not."""
    rows = []
    for option in comparison.options:
        scores = option.cross_validated
        figures = (_estimate(each) for each in (scores.accuracy, scores.log_loss, scores.ece))
        costs = [f"{option.cpu_ms:.1f}"]
        if wide:
            costs += [f"{option.latency_ms:.1f}", f"{option.model_bytes / 1e6:.1f}"]
            costs += [f"{option.fit_cpu_seconds:.2f}", option.job]
        rows.append((option.name, *figures, *costs))
    print_table(WIDE_COLUMNS if wide else COLUMNS, rows, wide=wide)
    present = next(option.name for option in comparison.options if option.is_present)
    print_text(f"  ± one standard error; the present model is {present}")
    print_text(comparison.recommendation)
    print_text(comparison.caution)


def _estimate(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}±{estimate.error:.3f}"
