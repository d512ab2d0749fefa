"""Logged live traffic for the queue of *Feedback*: the answers that a person should look at first."""

from __future__ import annotations

import base64
import binascii
import hashlib
import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.artifacts.feedback import Feedback, list_feedback
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import ConfigError
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pixels.header import sniff_format
from pipeline.types import JsonValue

ORIGIN = "traffic"
TAKEN = 40  # pictures at once
MAX_LOGS = 200  # the newest objects of the log that are read
MAX_WAITING = 2_000  # of a queue: nobody looks at more


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedAnswer:
    """A picture that a client sent, and what was answered.

    Args:
        picture: The encoded picture.
        label: The class that was answered; empty where the version rejected the picture.
        score: Its probability.
        novelty: How unlike the training pictures the picture is; 0 where the version does not say.
        version: The version that answered.
        at: When, in ISO 8601.
    """

    picture: bytes
    label: str
    score: float
    novelty: float
    version: str
    at: str

    @property
    def id(self) -> str:
        """SHA-256 of the picture."""
        return hashlib.sha256(self.picture).hexdigest()


def queue_traffic(cache: ArtifactCache, name: str) -> int:
    """Put the logged pictures that are least certain or most novel into the queue; return how many.

    Raises:
        ConfigError: if nothing is logged, or enough waits already.
    """
    folder = cache.workspace.feedback(name)
    records = list_feedback(folder)
    if sum(record.confirmed is None for record in records) >= MAX_WAITING:
        raise ConfigError(f"{MAX_WAITING:,} pictures wait already; decide on some first.")
    logs = _list_logs(cache.workspace, name)
    if not logs:
        raise ConfigError(
            f"No live traffic of {name} is logged. Patch its version with `requestLoggingConfig` "
            "(samplingPercentage, bigqueryTableName); programs must ask the signature `keyed`."
        )
    queued = {record.id for record in records}
    chosen = _choose(answer for uri in logs for answer in _read_log(cache.workspace, uri, queued))
    for answer in chosen:
        folder.storage.write_bytes(folder.picture(answer.id), answer.picture)
        record = Feedback(
            id=answer.id,
            label=answer.label,
            origin=ORIGIN,
            who="",
            request_id="",
            at=answer.at,
            score=answer.score,
            novelty=answer.novelty,
        )
        folder.storage.create_bytes(folder.record(answer.id), json.dumps(record.to_dict()).encode())
    return len(chosen)


def _choose(answers: Iterator[LoggedAnswer]) -> list[LoggedAnswer]:
    """Return the answers to look at first; of a picture that was sent several times, the last one."""
    best: dict[str, LoggedAnswer] = {}
    for answer in answers:
        best.setdefault(answer.id, answer)
        if len(best) > 2 * TAKEN:
            best = {each.id: each for each in heapq.nsmallest(TAKEN, best.values(), key=_rank)}
    return heapq.nsmallest(TAKEN, best.values(), key=_rank)


def _rank(answer: LoggedAnswer) -> float:
    return traffic_rank(answer.score, answer.novelty)


def traffic_rank(score: float | None, novelty: float | None) -> float:
    """Return what the queue is sorted by: small where an answer is uncertain, or its picture novel."""
    return min(1.0 if score is None else score, 1.0 - (novelty or 0.0))


def _list_logs(workspace: Workspace, name: str) -> list[str]:
    """Return the newest objects of the log of a model, the newest first."""
    uris = workspace.storage.list_uris(workspace.request_logs)
    own = [uri for uri in uris if uri.endswith(".jsonl") and uri.split("/")[-3:-2] == [name]]
    return sorted(own, key=lambda uri: uri.rpartition("/")[2], reverse=True)[:MAX_LOGS]


def _read_log(workspace: Workspace, uri: str, queued: set[str]) -> Iterator[LoggedAnswer]:
    """Yield the answers of one object, the newest first; what is no prediction of pictures is left out."""
    for line in reversed(workspace.storage.read_bytes(uri).splitlines()):
        row = _parse(line)
        if not isinstance(row, dict):
            continue
        instances = _items(row.get("raw_data"), "instances")
        predictions = _items(row.get("raw_prediction"), "predictions")
        version, at = str(row.get("model_version", "")), str(row.get("time", ""))
        for instance, prediction in zip(instances, predictions, strict=False):
            answer = _read_answer(instance, prediction, version, at)
            if answer is not None and answer.id not in queued:
                yield answer


def _read_answer(instance: JsonValue, prediction: JsonValue, version: str, at: str) -> LoggedAnswer | None:
    if not isinstance(instance, dict) or not isinstance(prediction, dict):
        return None
    inputs, label, score = instance.get("inputs", instance), prediction.get("label"), prediction.get("score")
    novelty = prediction.get("novelty")
    encoded = inputs.get("b64") if isinstance(inputs, dict) else None
    if not isinstance(encoded, str) or not isinstance(label, str) or not isinstance(score, float | int):
        return None
    try:
        picture = base64.b64decode(encoded.translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        return None
    if sniff_format(picture) is None:
        return None
    return LoggedAnswer(
        picture=picture,
        label=label,
        score=float(score),
        novelty=float(novelty) if isinstance(novelty, float | int) else 0.0,
        version=version,
        at=at,
    )


def _items(text: JsonValue, key: str) -> Sequence[JsonValue]:
    value = _parse(text) if isinstance(text, str) else None
    items = value.get(key) if isinstance(value, dict) else None
    return items if isinstance(items, list) else []


def _parse(text: str | bytes) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError):  # a line that was cut short, or a body that was no JSON
        return None
    return value
