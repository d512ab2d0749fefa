"""Live traffic in the queue: the least certain and most novel first, whatever the log holds."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.feedback import Feedback, list_feedback
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import ConfigError
from pipeline.pages.artifact_cache import ArtifactCache
from pipeline.pages.feedback import decide_feedback, read_feedback
from pipeline.pages.live_traffic import queue_traffic
from pipeline.storage import Storage
from tests.fakes.pictures import noise, png

LOG = "gs://graft/request_logs/project.set.table"


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(Workspace(Storage({"graft": tmp_path}), "gs://graft"))


def row(*answers: tuple[int, str, float, float | None]) -> str:
    """One logged request: seed of the picture, label, score and novelty of each instance."""
    encoded = [base64.b64encode(png(noise(seed))).decode() for seed, *_ in answers]
    instances = [{"key": str(number), "inputs": {"b64": text}} for number, text in enumerate(encoded)]
    said: list[dict[str, Any]] = [
        {"label": label, "score": score, "outputs": [score]}
        | ({} if novelty is None else {"novelty": novelty})
        for _, label, score, novelty in answers
    ]
    value = {
        "model": "toys",
        "model_version": "v1",
        "time": "2026-01-01T00:00:00+00:00",
        "raw_data": json.dumps({"instances": instances}),
        "raw_prediction": json.dumps({"predictions": said}),
    }
    return json.dumps(value)


def log(cache: ArtifactCache, *lines: str, model: str = "toys", name: str = "20260101T000000-a") -> None:
    cache.storage.write_bytes(f"{LOG}/{model}/v1/{name}.jsonl", "\n".join(lines).encode())


def scores(cache: ArtifactCache) -> list[float | None]:
    return [record.score for record in read_feedback(cache, "toys").waiting]


def test_the_least_certain_and_most_novel_come_first(cache: ArtifactCache) -> None:
    log(
        cache,
        row((1, "ant", 0.99, 0.1), (2, "ant", 0.4, 0.1)),
        row((3, "bee", 0.95, 0.9), (4, "", 0.6, None)),
    )
    log(cache, row((5, "ant", 0.1, 0.9)), model="other")
    assert queue_traffic(cache, "toys") == 4
    assert scores(cache) == [0.95, 0.4, 0.6, 0.99]
    [first, *_] = read_feedback(cache, "toys").waiting
    assert (first.label, first.origin, first.novelty, first.confirmed) == ("bee", "traffic", 0.9, None)
    folder = cache.workspace.feedback("toys")
    assert cache.storage.read_bytes(folder.picture(first.id)) == png(noise(3))


def test_only_so_many_are_taken_at_once_and_none_twice(
    cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.pages.live_traffic.TAKEN", 2)
    log(cache, *(row((seed, "ant", seed / 10, 0.0)) for seed in range(1, 8)), row((1, "ant", 0.1, 0.0)))
    assert [queue_traffic(cache, "toys") for _ in range(5)] == [2, 2, 2, 1, 0]
    assert scores(cache) == [seed / 10 for seed in range(1, 8)]


def test_what_people_said_comes_first_and_decisions_stay(cache: ArtifactCache) -> None:
    log(cache, row((1, "ant", 0.1, 0.0), (2, "ant", 0.2, 0.0)))
    queue_traffic(cache, "toys")
    folder = cache.workspace.feedback("toys")
    said = Feedback(id="0" * 64, label="ant", origin="api", who="ann", request_id="", at="2026-02-01")
    said.write(cache.storage, folder.record(said.id))
    first, second, _ = read_feedback(cache, "toys").waiting
    assert (first.origin, second.score) == ("api", 0.1)
    decide_feedback(cache, "toys", second.id, confirmed=False, label="", by="bob")
    assert queue_traffic(cache, "toys") == 0
    assert [record.confirmed for record in list_feedback(folder) if record.id == second.id] == [False]


def test_what_is_no_logged_picture_is_left_out(cache: ArtifactCache) -> None:
    good = row((1, "ant", 0.1, 0.0))
    no_picture = json.dumps({**json.loads(good), "raw_data": json.dumps({"instances": [{"b64": "eHh4"}]})})
    unlabelled = json.dumps({**json.loads(good), "raw_prediction": json.dumps({"predictions": [[0.1, 0.9]]})})
    errors = json.dumps({**json.loads(good), "raw_prediction": json.dumps({"error": "x"})})
    log(cache, "", "null", "[1]", good[:-9], no_picture, unlabelled, errors, "[" * 5000, good)
    assert queue_traffic(cache, "toys") == 1


def test_without_a_log_the_setting_is_named(cache: ArtifactCache) -> None:
    with pytest.raises(ConfigError, match="requestLoggingConfig"):
        queue_traffic(cache, "toys")
