"""The retrain guard: is there anything new to train on, compared with what serves?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.artifacts.history import HistoryEvent, read_history
from pipeline.config import Classifier
from pipeline.deploy.version import model_uris
from pipeline.errors import ConfigError, ObjectNotFound, StorageError
from pipeline.ml_engine.protocol import MLEngine, default_version
from pipeline.storage import Storage
from pipeline.types import JsonDict


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainSkip:
    """A version was made of just this already.

    Args:
        champion: The version that serves.
        lineage: The champion's.
        reason: What there is already, for people.
    """

    champion: str
    lineage: JsonDict
    reason: str


def find_retrain_skip(
    engine: MLEngine, storage: Storage, workspace: str, classifier: Classifier, dataset_version: str
) -> RetrainSkip | None:
    """Return why a run need not train; None where it has to.

    It need not where dataset version, parameters and the text of a head's file are those of the version that
    serves, or of one that was rolled back: a schedule does not undo what a person decided.

    Args:
        engine: Where the model lives.
        storage: Where lineages are.
        workspace: The bucket of the classifier.
        classifier: As this run has it.
        dataset_version: What the run would train on.
    """
    name = classifier.name
    champion = default_version(engine.get_model(name))
    lineage = _read_lineage(engine, storage, workspace, name, champion) if champion else None
    if champion is None or lineage is None:
        return None
    if _is_same(lineage, classifier, dataset_version, storage):
        reason = f"`{champion}` serves, and was made of the same dataset version and parameters"
        return RetrainSkip(champion=champion, lineage=lineage, reason=reason)
    for event in read_history(storage, workspace, name):
        version = event.get("previous")
        if event["event"] != HistoryEvent.ROLLED_BACK or not version:
            continue
        other = _read_lineage(engine, storage, workspace, name, version)
        if other is not None and _is_same(other, classifier, dataset_version, storage):
            reason = (
                f"`{version}` was made of the same dataset version and parameters, and {event['by']} "
                f"rolled it back: {event['reason']}"
            )
            return RetrainSkip(champion=champion, lineage=lineage, reason=reason)
    return None


def _read_lineage(
    engine: MLEngine, storage: Storage, workspace: str, model: str, version: str
) -> JsonDict | None:
    for uri in model_uris(engine, workspace, model, version):
        try:
            lineage: JsonDict = storage.read_json(f"{uri}/graft/lineage.json")
        except ObjectNotFound:
            continue
        return lineage
    return None


def _is_same(
    lineage: Mapping[str, Any], classifier: Classifier, dataset_version: str, storage: Storage
) -> bool:
    if lineage["dataset"]["version"] != dataset_version:
        return False
    try:
        before = Classifier.from_dict(lineage["classifier"])
    except ConfigError:  # an older release's classifier has keys that this one does not know
        return False
    return what_trains(before) == what_trains(classifier) and _has_same_head(lineage, classifier, storage)


def _has_same_head(lineage: Mapping[str, Any], classifier: Classifier, storage: Storage) -> bool:
    """Say whether the file of a head, if there is one, still has the text that was trained."""
    module = classifier.model.head.module
    if not module:
        return True
    try:
        digest = hashlib.sha256(storage.read_bytes(module)).hexdigest()
    except (StorageError, OSError):  # training says what is wrong with it
        return False
    return str(lineage["training"].get("head_uri")).endswith(f"/{digest}.py")


def what_trains(classifier: Classifier) -> JsonDict:
    """Return the parameters that the model is made with, defaults included."""
    return {section: getattr(classifier, section).model_dump(mode="json") for section in ("model", "serving")}
