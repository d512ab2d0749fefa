"""The parts of a comparison that tasks of a DAG do: one for each backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.artifacts.dataset import read_latest
from pipeline.artifacts.model_comparison import ModelComparison
from pipeline.artifacts.steps import ComparisonPart, ParameterValue
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import find_backbone
from pipeline.compare.comparison import compare_answers
from pipeline.compare.jobs import ComparisonJob, by_backbone
from pipeline.compare.options import HEADS, Option, available_backbones, make_options
from pipeline.config import Classifier
from pipeline.errors import ConfigError, ObjectNotFound


def plan_parts(
    workspace: Workspace,
    classifier: Classifier,
    *,
    backbones: Sequence[str],
    heads: Sequence[str],
    parameters: Mapping[str, Sequence[ParameterValue]],
) -> list[ComparisonPart]:
    """Return what each job of a comparison has to judge.

    Args:
        workspace: Where weights are looked for, and the latest dataset version.
        classifier: The classifier's YAML.
        backbones: Names of the backbone table; those with weights here if there are none.
        heads: Types of heads; all if there are none.
        parameters: Values of other parameters of `model`, by name.

    Raises:
        ConfigError: for a head, a parameter or a value that a model cannot have, and for too many options.
        UnknownBackbone: listing the known names.
        ObjectNotFound: if there is no dataset version yet.
    """
    if unknown := next((head for head in heads if head not in HEADS), None):
        raise ConfigError(f"`heads` are of {', '.join(HEADS)}. Received: {unknown!r}")
    for each in backbones:
        find_backbone(each)
    whole = ComparisonPart(
        classifier=classifier.to_dict(),
        version=_latest_version(workspace, classifier.name),
        backbones=list(backbones) or available_backbones(workspace),
        heads=list(heads or HEADS),
        parameters={name: list(values) for name, values in parameters.items()},
    )
    return [replace(whole, number=number) for number, _ in enumerate(_groups(whole))]


def _latest_version(workspace: Workspace, name: str) -> str:
    version = read_latest(workspace.dataset(name)).version
    if version is None:
        raise ObjectNotFound(
            f"{name} has no dataset version that the data gate let through. Make one with `graft run {name}`."
        )
    return version


def options_of(part: ComparisonPart) -> tuple[Option, ...]:
    """Return the options that a part judges."""
    return _groups(part)[part.number]


def _groups(part: ComparisonPart) -> list[tuple[Option, ...]]:
    options = make_options(
        Classifier.from_dict(part.classifier),
        backbones=part.backbones,
        heads=part.heads,
        grid=part.parameters,
    )
    return list(by_backbone(options))


def compare_parts(workspace: Workspace, parts: Sequence[ComparisonPart]) -> ModelComparison:
    """Judge what the jobs of all parts have left, recommend an option, and keep the comparison.

    Raises:
        PredictionJoinError: if the jobs have not judged the same pictures.
    """
    jobs = [
        ComparisonJob(job_id=part.job, options=options_of(part), directory=workspace.job(part.job))
        for part in parts
    ]
    name = Classifier.from_dict(parts[0].classifier).name
    return compare_answers(workspace, jobs, classifier=name, dataset_version=parts[0].version)
