"""What a report is made of, read from where the steps of a run left it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.artifacts.manifest import Manifest, ManifestRow
from pipeline.artifacts.workspace import DatasetVersionFolder, ModelDirectory, Workspace
from pipeline.errors import ObjectNotFound
from pipeline.storage import Storage
from pipeline.types import JsonDict


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInputs:
    """Everything that a report shows; what is absent is not shown.

    Args:
        run_id: The run.
        classifier: The classifier as the run had it.
        dataset: Result of the clean step.
        info: `dataset.json` of its dataset version.
        rows: The kept pictures of the version, by id.
        training: Result of the train step.
        record: `training.json` of its job.
        evaluation: `evaluation.json`, whole.
        decision: What the gate said.
        answers: The candidate's rows of batch prediction, by picture id.
    """

    run_id: str
    classifier: Mapping[str, Any]
    dataset: Mapping[str, Any]
    info: Mapping[str, Any]
    rows: Mapping[str, ManifestRow]
    training: Mapping[str, Any]
    record: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    decision: Mapping[str, Any]
    answers: Mapping[str, JsonDict] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """Label of output 0, of output 1, ..."""
        return list(self.training["classes"])


def read_inputs(
    workspace: Workspace,
    *,
    run_id: str,
    dataset: Mapping[str, Any],
    training: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    decision: Mapping[str, Any],
) -> ReportInputs:
    """Read what the steps left in the bucket.

    Args:
        workspace: The bucket.
        run_id: The run.
        dataset: Result of the clean step.
        training: Result of the train step.
        evaluation: Result of the evaluate step; `evaluation.json` at its `uri` is read.
        decision: What the gate said.
    """
    storage = workspace.storage
    folder = DatasetVersionFolder(storage, dataset["uri"])
    rows = Manifest(folder).rows()
    return ReportInputs(
        run_id=run_id,
        classifier=dataset["classifier"],
        dataset=dataset,
        info=_read(storage, folder.info),
        rows={row.id: row for row in rows if row.split is not None and row.id is not None},
        training=training,
        record=_read(storage, ModelDirectory(storage, training["model_uri"]).job.training),
        evaluation=_read(storage, evaluation["uri"]) or evaluation,
        decision=decision,
        answers={row["key"]: row for row in _predictions(storage, evaluation["predictions"])},
    )


def _read(storage: Storage, uri: str) -> JsonDict:
    try:
        found: JsonDict = storage.read_json(uri)
    except ObjectNotFound:
        return {}
    return found


def _predictions(storage: Storage, output_path: str) -> Iterator[JsonDict]:
    for uri in storage.list_uris(output_path.rstrip("/") + "/"):
        if uri.rpartition("/")[2].startswith("prediction.results"):
            yield from map(json.loads, storage.read_bytes(uri).splitlines())
