"""Steps 1 to 3: fetch, clean and pack pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

from graft.operators.base import GraftOperator
from graft.operators.run_summary import finish_skipped_run, finish_unchanged_run, skip_what_follows
from graft.params import classifier_of_run
from graft.run_request import dataset_version_of_run, skips_unchanged
from pipeline.artifacts.steps import DatasetResult, FetchResult, PackResult

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pipeline.config import Classifier


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
        self, *, classifier: Mapping[str, Any], num_chunks: int = 1, chunk: int = 0, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.classifier = classifier
        self.num_chunks = num_chunks
        self.chunk = chunk

    def perform(self, context: Context) -> dict[str, Any]:
        """Return the chunk's index and counts."""
        from pipeline.backbones.table import find_backbone
        from pipeline.datasets.fetch import fetch_pictures

        classifier = classifier_of_run(self.classifier, context)
        find_backbone(classifier.model.backbone)
        pinned = dataset_version_of_run(classifier, context, self.workspace.storage, self.workspace.uri)
        if pinned is not None:
            self.log.info("this run trains on dataset version %s; nothing is fetched", pinned)
            return FetchResult(index=None).to_dict()
        result = fetch_pictures(
            classifier,
            find_secret=find_connection_secret,
            storage=self.workspace.storage,
            workspace=self.workspace.uri,
            chunk=self.chunk,
            num_chunks=self.num_chunks,
        )
        return result.to_dict()


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

    def __init__(self, *, classifier: Mapping[str, Any], fetched: Any, **arguments: Any) -> None:
        super().__init__(outlets=[dataset_alias(classifier["name"])], **arguments)
        self.classifier = classifier
        self.fetched = fetched

    def perform(self, context: Context) -> dict[str, Any]:
        """Return the dataset version with its plan, and the classifier as this run has it."""
        from pipeline.backbones.table import find_backbone
        from pipeline.preprocess.clean import build_dataset_version
        from pipeline.preprocess.pack import plan_pack
        from pipeline.preprocess.pinned_version import pin_dataset_version

        classifier = classifier_of_run(self.classifier, context)
        storage, workspace = self.workspace.storage, self.workspace.uri
        pinned = dataset_version_of_run(classifier, context, storage, workspace)
        if pinned is not None:
            dataset = pin_dataset_version(storage, workspace, classifier.name, pinned)
        else:
            dataset = build_dataset_version(
                classifier,
                storage=storage,
                workspace=workspace,
                fetched=[part["index"] for part in as_list(self.fetched)],
                run_id=context["ti"].run_id,
            )
        spec = find_backbone(classifier.model.backbone).spec
        plan = plan_pack(storage, workspace, dataset.dataset, dataset.version, spec)
        result = DatasetResult.plan(
            dataset, pack_index=plan.index_uri, pack_items=plan.items, classifier=classifier.to_dict()
        ).to_dict()
        for warning in (*result["warnings"], *result["expect"]["reasons"]):
            self.log.warning(warning)
        if result["expect"]["outcome"] == "skip":
            self._end_run(context, result)
        if result["new"]:
            self._tell_of_version(context, result)
        if skips_unchanged(classifier, context):
            self._end_run_if_unchanged(context, classifier, result)
        return result

    def _end_run(self, context: Context, dataset: dict[str, Any]) -> None:
        from pipeline.deploy.summary import build_skipped_summary, count_work

        summary = build_skipped_summary(
            classifier=dataset["dataset"],
            run_id=context["ti"].run_id,
            dataset=dataset,
            work=count_work(as_list(self.fetched), dataset, [], {"forwarded": 0, "cached": 0}),
        )
        finish_skipped_run(self, context, summary)
        context["ti"].xcom_push(key="return_value", value=dataset)
        raise skip_what_follows(self)

    def _end_run_if_unchanged(
        self, context: Context, classifier: Classifier, dataset: dict[str, Any]
    ) -> None:
        from pipeline.deploy.change_detection import find_retrain_skip
        from pipeline.deploy.summary import build_unchanged_summary, count_work

        found = find_retrain_skip(
            self.connect(), self.workspace.storage, self.workspace.uri, classifier, dataset["version"]
        )
        if found is None:
            return
        summary = build_unchanged_summary(
            classifier=classifier.name,
            run_id=context["ti"].run_id,
            dataset=dataset,
            work=count_work(as_list(self.fetched), dataset, [], {"forwarded": 0, "cached": 0}),
            found=found,
        )
        finish_unchanged_run(self, context, summary)
        context["ti"].xcom_push(key="return_value", value=dataset)
        raise skip_what_follows(self)

    def _tell_of_version(self, context: Context, dataset: dict[str, Any]) -> None:
        names = ("version", "uri", "pictures", "test_pictures", "classes", "rejected")
        extra = {"run_id": context["ti"].run_id, **{name: dataset[name] for name in names}}
        name = dataset["dataset"]
        context["outlet_events"][dataset_alias(name)].add(dataset_asset(name), extra=extra)


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

    def __init__(self, *, dataset: Any, num_workers: int = 1, worker: int = 0, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.dataset = dataset
        self.num_workers = num_workers
        self.worker = worker

    def perform(self, context: Context) -> dict[str, Any]:
        """Return how many pictures were decoded and how many files written."""
        from pipeline.preprocess.pack import pack_shard

        items = self.dataset["pack_items"][self.worker :: self.num_workers]
        results = [
            pack_shard(self.workspace.storage, self.workspace.uri, self.dataset["pack_index"], item)
            for item in items
        ]
        return PackResult(
            decoded=sum(result.decoded for result in results),
            written=sum(result.written for result in results),
        ).to_dict()


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


def as_list(value: Any) -> list[Mapping[str, Any]]:
    """Return the results of a mapped step as a list: Airflow gives a single one bare."""
    if isinstance(value, Mapping):
        return [value]
    items: Iterable[Mapping[str, Any]] = value
    return list(items)


def dataset_asset(name: str) -> Asset:
    """Return the asset that stands for a classifier's pictures."""
    return Asset(name=f"{name} dataset", uri=f"graft://datasets/{name}", group="dataset")


def dataset_alias(name: str) -> AssetAlias:
    """Return the alias through which a run tells of a new dataset version, if it made one."""
    return AssetAlias(name=f"{name} dataset versions", group="dataset")


def source_asset(name: str) -> Asset:
    """Return the asset of where a classifier's pictures come from; an event says that there are new ones."""
    return Asset(name=f"{name} source", uri=f"graft://sources/{name}", group="source")
