"""Fetches, cleans and packs pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

from graft.operators.base import GraftOperator
from graft.operators.inputs import StepInput, read_step, read_steps
from graft.operators.run_summary import finish_run, skip_rest, write_note
from graft.params import classifier_of_run
from graft.run_request import dataset_version_of_run, skips_unchanged
from pipeline.artifacts.steps import CleanResult, DatasetResult, FetchResult, PackResult

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.exceptions import DownstreamTasksSkipped

    from pipeline.config import Classifier
    from pipeline.deploy.change_detection import RetrainSkip
    from pipeline.evaluate.preview import GatePreview
    from pipeline.types import JsonObject


class FetchPicturesOperator(GraftOperator):
    """Bring one chunk of a classifier's pictures into the bucket.

    Args:
        classifier: The YAML's content; the run's conf is applied to it and checked before any work.
        num_chunks: How many parts the source is read in.
        chunk: The part to read; mapped over.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("chunk",)

    def __init__(
        self, *, classifier: JsonObject, num_chunks: int = 1, chunk: int = 0, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.classifier = classifier
        self.num_chunks = num_chunks
        self.chunk = chunk

    def perform(self, context: Context) -> FetchResult:
        """Return the chunk's index and counts."""
        from pipeline.datasets.fetch import fetch_pictures
        from pipeline.submission.backbone import check_backbone

        classifier = classifier_of_run(self.classifier, context)
        if self.chunk == 0:
            check_backbone(self.workspace, classifier.model)
        pinned = dataset_version_of_run(self.workspace, classifier, context)
        if pinned is not None:
            self.log.info("this run trains on dataset version %s; nothing is fetched", pinned)
            return FetchResult(index=None)
        return fetch_pictures(
            self.workspace,
            classifier,
            find_secret=find_connection_secret,
            chunk=self.chunk,
            num_chunks=self.num_chunks,
        )


class BuildDatasetVersionOperator(GraftOperator):
    """Decode, deduplicate and split what was fetched, and plan its shards.

    A new dataset version is an event of the dataset's asset; an old one is none, so the outlet is an alias.
    Where the data gate is set to skip, the run ends here: green, with all after it skipped. So does a run by
    schedule, event or backfill that has nothing new to train on.

    Args:
        classifier: The YAML's content.
        fetched: Results of the fetch step.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("fetched",)

    def __init__(self, *, classifier: JsonObject, fetched: StepInput, **arguments: Any) -> None:
        super().__init__(outlets=[dataset_alias(str(classifier["name"]))], **arguments)
        self.classifier = classifier
        self.fetched = fetched

    def perform(self, context: Context) -> DatasetResult:
        """Return the dataset version with its plan, and the classifier as this run has it."""
        from pipeline.artifacts.dataset import DataOutcome
        from pipeline.preprocess.pack import plan_pack
        from pipeline.submission.backbone import resolve_backbone

        classifier = classifier_of_run(self.classifier, context)
        workspace, dataset = self.workspace, self._make_version(context, classifier)
        for warning in (*dataset.warnings, *dataset.expect.reasons):
            self.log.warning(warning)
        spec = resolve_backbone(workspace, classifier.model).spec
        plan = plan_pack(workspace, dataset.dataset, dataset.version, spec)
        result = DatasetResult.plan(
            dataset, pack_index=plan.index_uri, pack_items=plan.items, classifier=classifier.to_dict()
        )
        if dataset.expect.outcome is DataOutcome.SKIP:
            raise self._end_run(context, result)
        if result.new:
            self._announce_version(context, result)
        skip = self._find_skip(classifier, result) if skips_unchanged(classifier, context) else None
        if skip is not None:
            raise self._end_run(context, result, skip)
        preview = self._preview_gate(classifier, result)
        result = replace(result, gate_preview=preview.lines)
        if preview.problems:
            raise self._refuse(context, result, preview.problems)
        write_note(context, "**The pictures are ready; nothing was trained yet.**", preview.lines)
        return result

    def _preview_gate(self, classifier: Classifier, dataset: DatasetResult) -> GatePreview:
        """Return what the gate can tell with these test pictures, and what no model can meet; log it."""
        from pipeline.artifacts.dataset import read_info
        from pipeline.evaluate.preview import preview_gate
        from pipeline.ml_engine.protocol import default_version

        gate, is_first = classifier.gate, False
        if gate.first_version == "refuse" or gate.non_inferiority is not None:
            is_first = default_version(self.connect().get_model(classifier.name)) is None
        info = read_info(self.workspace.dataset(dataset.dataset).version(dataset.version))
        preview = preview_gate(info.test, gate, is_first=is_first)
        for line in preview.lines:
            self.log.info("%s", line)
        return preview

    def _refuse(
        self, context: Context, dataset: DatasetResult, problems: Sequence[str]
    ) -> DownstreamTasksSkipped:
        """Write summary and note of a run whose gate no model can pass; return the exception that ends it."""
        from pipeline.deploy.run_summary import build_refused_summary, count_work

        self.log.warning("refused before training: %s", "; ".join(problems))
        work = count_work(read_steps(FetchResult, self.fetched), dataset)
        summary = build_refused_summary(
            run_id=context["ti"].run_id, dataset=dataset, work=work, reasons=problems
        )
        note = f"**Refused before training: no model can pass this gate.**\n\n{'; '.join(problems)}"
        finish_run(context, summary, note)
        return skip_rest(self, context, dataset)

    def _make_version(self, context: Context, classifier: Classifier) -> CleanResult:
        from pipeline.preprocess.clean import build_dataset_version
        from pipeline.preprocess.pinned_version import pin_dataset_version

        workspace = self.workspace
        pinned = dataset_version_of_run(workspace, classifier, context)
        if pinned is not None:
            return pin_dataset_version(workspace, classifier.name, pinned)
        fetched = read_steps(FetchResult, self.fetched)
        return build_dataset_version(
            workspace,
            classifier,
            fetched=[part.index for part in fetched if part.index is not None],
            run_id=context["ti"].run_id,
        )

    def _find_skip(self, classifier: Classifier, dataset: DatasetResult) -> RetrainSkip | None:
        from pipeline.deploy.change_detection import find_retrain_skip

        return find_retrain_skip(self.workspace, self.connect(), classifier, dataset.version)

    def _end_run(
        self, context: Context, dataset: DatasetResult, skip: RetrainSkip | None = None
    ) -> DownstreamTasksSkipped:
        """Write summary and note of a run that trains nothing; return the exception that ends it."""
        from pipeline.deploy.run_summary import build_skipped_summary, build_unchanged_summary, count_work

        run_id, work = context["ti"].run_id, count_work(read_steps(FetchResult, self.fetched), dataset)
        if skip is None:
            note = "**Skipped by the data gate; nothing was trained.**"
            finish_run(context, build_skipped_summary(run_id=run_id, dataset=dataset, work=work), note)
        else:
            self.log.info("nothing new: %s", skip.reason)
            note = f"**Nothing new; nothing was trained.**\n\n{skip.reason}."
            summary = build_unchanged_summary(run_id=run_id, dataset=dataset, work=work, skip=skip)
            finish_run(context, summary, note)
        return skip_rest(self, context, dataset)

    def _announce_version(self, context: Context, dataset: DatasetResult) -> None:
        names = ("version", "uri", "pictures", "test_pictures", "classes", "rejected")
        extra = {"run_id": context["ti"].run_id, **{name: getattr(dataset, name) for name in names}}
        event = context["outlet_events"][dataset_alias(dataset.dataset)]
        event.add(dataset_asset(dataset.dataset), extra=extra)


class PackShardsOperator(GraftOperator):
    """Write this worker's share of the shards that are not there yet.

    Mapped over a fixed number of workers rather than over shards: one Airflow task for each shard of 256
    pictures would cost more than packing it.

    Args:
        dataset: Result of the clean step.
        num_workers: How many share the work.
        worker: Which of them this is; mapped over.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("dataset", "worker")

    def __init__(
        self, *, dataset: StepInput, num_workers: int = 1, worker: int = 0, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.dataset = dataset
        self.num_workers = num_workers
        self.worker = worker

    def perform(self, context: Context) -> PackResult:
        """Return how many pictures were decoded and how many files written."""
        from pipeline.preprocess.pack import pack_shard

        dataset = read_step(DatasetResult, self.dataset)
        results = [
            pack_shard(self.workspace, dataset.pack_index, item)
            for item in dataset.pack_items[self.worker :: self.num_workers]
        ]
        return PackResult(
            decoded=sum(result.decoded for result in results),
            written=sum(result.written for result in results),
        )


def find_connection_secret(connection: str) -> str:
    """Return the key that an Airflow connection holds as its password.

    Raises:
        ConfigError: if there is no such connection, or it has no password.
    """
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowException

    from pipeline.datasets.sources.secrets import require_secret

    try:
        secret = BaseHook.get_connection(connection).password
    except AirflowException:
        secret = None
    return require_secret(secret, connection)


def dataset_asset(name: str) -> Asset:
    """Return the asset that stands for a classifier's pictures."""
    return Asset(name=f"{name} dataset", uri=f"graft://datasets/{name}", group="dataset")


def dataset_alias(name: str) -> AssetAlias:
    """Return the alias through which a run announces a new dataset version, if it made one."""
    return AssetAlias(name=f"{name} dataset versions", group="dataset")


def source_asset(name: str) -> Asset:
    """Return the asset of where a classifier's pictures come from; an event says that there are new ones."""
    return Asset(name=f"{name} source", uri=f"graft://sources/{name}", group="source")
