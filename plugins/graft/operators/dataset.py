"""Steps 1 to 3: fetch, clean and pack pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graft.operators.base import GraftOperator
from graft.params import classifier_of_run

if TYPE_CHECKING:
    from airflow.sdk import Context


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
        result = fetch_pictures(
            classifier,
            storage=self.storage,
            workspace=self.workspace,
            chunk=self.chunk,
            num_chunks=self.num_chunks,
        )
        return dict(result)


class BuildDatasetVersionOperator(GraftOperator):
    """Decode, deduplicate and split what was fetched, and plan its shards.

    Args:
        classifier: The YAML's content.
        fetched: Results of the fetch step.
        arguments: Those of `GraftOperator`.
    """

    template_fields: Sequence[str] = ("fetched",)

    def __init__(self, *, classifier: Mapping[str, Any], fetched: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.classifier = classifier
        self.fetched = fetched

    def perform(self, context: Context) -> dict[str, Any]:
        """Return the dataset version with its plan, and the classifier as this run has it."""
        from pipeline.backbones.table import find_backbone
        from pipeline.preprocess.clean import build_dataset_version
        from pipeline.preprocess.pack import plan_pack

        classifier = classifier_of_run(self.classifier, context)
        storage, workspace = self.storage, self.workspace
        dataset = build_dataset_version(
            classifier,
            storage=storage,
            workspace=workspace,
            fetched=[part["index"] for part in as_list(self.fetched)],
            run_id=context["ti"].run_id,
        )
        for warning in dataset["warnings"]:
            self.log.warning(warning)
        spec = find_backbone(classifier.model.backbone).spec
        plan = plan_pack(storage, workspace, dataset["dataset"], dataset["version"], spec)
        return {
            **dataset,
            "pack_index": plan.index_uri,
            "pack_items": list(plan.items),
            "classifier": classifier.to_dict(),
        }


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
            pack_shard(self.storage, self.workspace, self.dataset["pack_index"], item) for item in items
        ]
        return {
            "decoded": sum(result["decoded"] for result in results),
            "written": sum(bool(result["written"]) for result in results),
        }


def as_list(value: Any) -> list[Mapping[str, Any]]:
    """Return the results of a mapped step as a list: Airflow gives a single one bare."""
    if isinstance(value, Mapping):
        return [value]
    items: Iterable[Mapping[str, Any]] = value
    return list(items)
