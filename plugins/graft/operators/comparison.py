"""Compares models of a classifier on its training pictures, a task for each backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from graft.hooks.airflow_api import AirflowApiHook
from graft.operators.base import GraftOperator
from graft.operators.inputs import StepInput, read_step, read_steps
from graft.operators.jobs import MLEngineJobOperator, was_cleared
from pipeline.artifacts.steps import ComparisonPart, ParameterValue
from pipeline.config import Classifier, Settings, find_classifier
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.compare.jobs import ComparisonWork
    from pipeline.ml_engine.resources import Job
    from pipeline.types import JsonDict

Names: TypeAlias = "Sequence[str] | str | None"  # a template before it is rendered
Parameters: TypeAlias = "Mapping[str, Sequence[ParameterValue]] | str | None"


class PlanComparisonOperator(GraftOperator):
    """Find out what is compared, and refuse it before a job is submitted if a model cannot be like that.

    Args:
        classifier: The classifier's name.
        backbones: Names of backbones; those whose weights are installed or staged unless given.
        heads: `dense`, `logistic`; both unless given.
        parameters: Values of other parameters, such as `{"model.epochs": [10, 40]}`.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("classifier", "backbones", "heads", "parameters")

    def __init__(
        self,
        *,
        classifier: str,
        backbones: Names = None,
        heads: Names = None,
        parameters: Parameters = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.classifier = classifier
        self.backbones = backbones
        self.heads = heads
        self.parameters = parameters

    def perform(self, context: Context) -> list[JsonDict]:
        """Return the parts of the comparison, one for each backbone."""
        from pipeline.compare.parts import plan_parts

        parts = plan_parts(
            self.workspace,
            find_classifier(str(self.classifier), Settings()),
            backbones=_read_names("backbones", self.backbones),
            heads=_read_names("heads", self.heads),
            parameters=_read_parameters(self.parameters),
        )
        return [part.to_dict() for part in parts]


def _read_names(argument: str, value: Names) -> list[str]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [str(each) for each in value]
    if value:
        raise ConfigError(f"`{argument}` is a list of names. Received: {value!r}")
    return []


def _read_parameters(value: Parameters) -> dict[str, list[ParameterValue]]:
    if not value:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(each, list | tuple) for each in value.values()):
        raise ConfigError(
            '`parameters` has a list of values for each name, such as {"model.epochs": [10, 40]}. '
            f"Received: {value!r}"
        )
    return {name: list(values) for name, values in value.items()}


class MLEngineCompareModelsOperator(MLEngineJobOperator):
    """Judge the models of one backbone by cross-validation on the training pictures; no test picture is read.

    The job is named by all that it does: another try, another run or `graft compare` finds it again.

    Args:
        part: A part of the plan.
        arguments: Those of `MLEngineJobOperator`.
    """

    template_fields: Sequence[str] = ("part",)

    def __init__(self, *, part: StepInput, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.part = part

    def submit(self, context: Context) -> list[Job]:
        """Stage what the job reads and submit it."""
        work = self._stage()
        self.set_job_labels(context, shared=True)
        job = self.submit_once(work.key, work.make_body, redo=was_cleared(context, self))
        if work.was_swept(job):
            job = self.submit_once(work.key, work.make_body, redo=True)
        return [job]

    def _stage(self) -> ComparisonWork:
        from pipeline.compare.jobs import stage_work
        from pipeline.compare.parts import options_of

        part = read_step(ComparisonPart, self.part)
        name = Classifier.from_dict(part.classifier).name
        return stage_work(self.workspace, name, part.version, options_of(part))

    def complete(self, context: Context, jobs: Sequence[Job]) -> ComparisonPart:
        """Return the part with the job that judged it."""
        return replace(read_step(ComparisonPart, self.part), job=jobs[0]["jobId"])


class RecommendModelOperator(GraftOperator):
    """Judge all options together, recommend one, and write the page *Models* and the run's note.

    Args:
        parts: Results of the mapped task that compares.
        write: Whether the recommended `model` section is put into the classifier's YAML. The task fails if
            that has another model by now.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("parts", "write")

    def __init__(self, *, parts: StepInput, write: bool | str = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.parts = parts
        self.write = write

    def perform(self, context: Context) -> dict[str, str]:
        """Return the choice, the recommendation in one sentence, what the figures are not, YAML and page."""
        from pipeline.compare.parts import compare_parts
        from pipeline.compare.written_choice import keep_section, write_choice
        from pipeline.report.model_comparison import write_comparison_page

        comparison = compare_parts(self.workspace, read_steps(ComparisonPart, self.parts))
        section = keep_section(self.workspace, comparison, Settings())
        page, ti = write_comparison_page(self.workspace, comparison, section), context["ti"]
        name = comparison.classifier
        note = (
            f"**{comparison.recommendation}**\n\n{comparison.caution} The page *Models* of `{name}` has all."
        )
        AirflowApiHook().write_run_note(ti.dag_id, ti.run_id, note)
        if self.write is True:
            self.log.info("%s has the choice", write_choice(comparison, Settings()))
        return {
            "classifier": name,
            "chosen": comparison.chosen,
            "recommendation": comparison.recommendation,
            "caution": comparison.caution,
            "yaml": section,
            "page": page,
        }
