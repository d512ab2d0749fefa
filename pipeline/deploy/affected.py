"""Which model versions were made from a dataset version."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.storage import Storage
from pipeline.types import JsonDict


def find_affected_versions(
    storage: Storage, workspace: str, model: str, datasets: Mapping[str, str]
) -> list[JsonDict]:
    """Return the model versions that one of the dataset versions went into.

    Args:
        storage: Where model directories are.
        workspace: `gs://bucket` of them.
        model: The model's name.
        datasets: The dataset versions, with what each used a picture for: `train` or `test`.
    """
    affected = []
    prefix = f"{workspace}/models/{model}/"
    for uri in storage.list_uris(prefix):
        version, _, rest = uri[len(prefix) :].partition("/")
        if rest != "graft/lineage.json":
            continue
        dataset_version = storage.read_json(uri)["dataset"]["version"]
        if dataset_version in datasets:
            affected.append(
                {
                    "version": version,
                    "dataset_version": dataset_version,
                    "used_for": datasets[dataset_version],
                }
            )
    return affected
