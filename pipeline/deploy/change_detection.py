"""The retrain guard: is there anything new to train on, compared with what serves?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pipeline.artifacts.history import EventType, read_history
from pipeline.artifacts.model_record import Lineage
from pipeline.artifacts.workspace import Workspace
from pipeline.config import Classifier
from pipeline.deploy.version import find_lineage
from pipeline.errors import ConfigError, StorageError
from pipeline.ml_engine.protocol import MLEngine, default_version


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainSkip:
    """A version was made of exactly this already.

    Args:
        champion: The version that serves.
        lineage: The champion's.
        reason: What there is already, for people.
    """

    champion: str
    lineage: Lineage
    reason: str


def find_retrain_skip(
    workspace: Workspace, engine: MLEngine, classifier: Classifier, dataset_version: str
) -> RetrainSkip | None:
    """Return why a run need not train; None where it has to.

    It need not where dataset version, parameters and the text of a head's file are those of the version that
    serves, or of one that was rolled back: a schedule does not undo what a person decided.

    Args:
        workspace: Where lineages are.
        engine: Where the model lives.
        classifier: As this run has it.
        dataset_version: What the run would train on.
    """
    name = classifier.name
    champion = default_version(engine.get_model(name))
    lineage = find_lineage(workspace, engine, name, champion) if champion else None
    if champion is None or lineage is None:
        return None
    if _is_same(workspace, lineage, classifier, dataset_version):
        reason = f"`{champion}` serves, and was made of the same dataset version and parameters"
        return RetrainSkip(champion=champion, lineage=lineage, reason=reason)
    for event in read_history(workspace, name):
        if event.event is not EventType.ROLLED_BACK or not event.previous:
            continue
        other = find_lineage(workspace, engine, name, event.previous)
        if other is not None and _is_same(workspace, other, classifier, dataset_version):
            reason = (
                f"`{event.previous}` was made of the same dataset version and parameters, and {event.by} "
                f"rolled it back: {event.reason}"
            )
            return RetrainSkip(champion=champion, lineage=lineage, reason=reason)
    return None


def _is_same(workspace: Workspace, lineage: Lineage, classifier: Classifier, dataset_version: str) -> bool:
    if lineage.dataset.version != dataset_version:
        return False
    try:
        before = Classifier.from_dict(lineage.classifier)
    except ConfigError:  # an older release's classifier has keys that this one does not know
        return False
    return _trains_alike(before, classifier) and _has_same_head(workspace, lineage, classifier)


def _trains_alike(one: Classifier, other: Classifier) -> bool:
    """Return whether two classifiers have the same parameters of training, defaults included."""
    return all(
        getattr(one, section).model_dump(mode="json") == getattr(other, section).model_dump(mode="json")
        for section in ("model", "serving")
    )


def _has_same_head(workspace: Workspace, lineage: Lineage, classifier: Classifier) -> bool:
    """Return whether the file of a custom head, if there is one, still has the text that was trained."""
    module = classifier.model.head.module
    if not module:
        return True
    try:
        digest = hashlib.sha256(workspace.storage.read_bytes(module)).hexdigest()
    except (StorageError, OSError):  # training names what is wrong with it
        return False
    return str(lineage.training.head_uri).endswith(f"/{digest}.py")
