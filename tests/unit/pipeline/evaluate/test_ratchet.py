"""Which version of late a candidate is held against, and on which pictures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.folders import DatasetVersionFolder
from pipeline.artifacts.history import EventType, HistoryEvent, read_history, record_event
from pipeline.artifacts.workspace import Workspace
from pipeline.evaluate.champion import Champion
from pipeline.evaluate.evaluation import evaluate_model
from pipeline.evaluate.predictions import PredictionJob
from pipeline.evaluate.ratchet import (
    MAX_VERSIONS,
    ServedVersion,
    best_served,
    find_better_versions,
    list_served_lately,
)
from pipeline.storage import Storage
from tests.fakes import dataset
from tests.fakes.model_record import decision, lineage

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CLASSES = ("cat", "dog")
DATASET = "gs://graft/datasets/m/d_1"


class World:
    """A model whose versions served one after the other, each with its accuracy."""

    def __init__(self, home: Path) -> None:
        self.workspace = Workspace(Storage({"graft": home}), "gs://graft")

    def serve(self, version: str, accuracy: float, days_ago: float, *, recorded: bool = True) -> None:
        event = HistoryEvent(event=EventType.PROMOTED, version=version, run_id=version, accuracy=accuracy)
        record_event(self.workspace, "m", event, now=NOW - timedelta(days=days_ago))
        if recorded:
            model = self.workspace.model("m", version)
            made_of = lineage(gate=decision(accuracy), evaluation_job=f"job_{version}")
            made_of.write(model.storage, model.lineage)
            model.storage.write_json(model.labels, list(CLASSES))

    def roll_back(self, version: str) -> HistoryEvent:
        event = HistoryEvent(event=EventType.ROLLED_BACK, version=version, run_id="")
        record_event(self.workspace, "m", event, now=NOW)
        return event

    def better(self, champion: str) -> list[ServedVersion]:
        return find_better_versions(self.workspace, "m", champion=champion, now=NOW)

    def predict(self, job: str, wrong: int, keys: list[str]) -> PredictionJob:
        path = self.workspace.job(job).predictions
        rows = []
        for number, key in enumerate(keys):
            is_cat = (int(key[1:]) % 2 == 0) is not (number < wrong)
            outputs = "[0.9, 0.1]" if is_cat else "[0.1, 0.9]"
            label = CLASSES[0 if is_cat else 1]
            rows.append(f'{{"key": "{key}", "outputs": {outputs}, "label": "{label}"}}')
        self.workspace.storage.write_bytes(f"{path}/prediction.results-0", "\n".join(rows).encode())
        return PredictionJob(job=job, output_path=path, predictions=len(keys))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class TestVersions:
    def test_are_those_more_accurate_than_the_champion_the_best_first(self, world: World) -> None:
        for number, accuracy in enumerate((0.90, 0.97, 0.95, 0.93)):
            world.serve(f"v_{number}", accuracy, 40 - number)
        found = world.better("v_3")
        assert [version.version for version in found] == ["v_1", "v_2"]
        assert found[0].output_path == "gs://graft/jobs/job_v_1/predictions"
        assert world.better("v_1") == []

    def test_are_told_with_what_they_are_compared_by(self, world: World) -> None:
        world.serve("v_0", 0.97, 20)
        world.serve("v_1", 0.90, 10)
        assert world.better("v_1") == [
            ServedVersion(
                version="v_0",
                accuracy=0.97,
                classes=CLASSES,
                output_path="gs://graft/jobs/job_v_0/predictions",
                dataset_uri=lineage().dataset.uri,
            )
        ]

    def test_as_accurate_as_the_champion_are_not_better(self, world: World) -> None:
        world.serve("v_0", 0.90, 20)
        world.serve("v_1", 0.90, 10)
        assert world.better("v_1") == []

    def test_are_all_where_the_champion_is_not_described(self, world: World) -> None:
        world.serve("v_0", 0.0, 30)
        world.serve("v_1", 0.01, 20)
        world.serve("v_2", 0.90, 10, recorded=False)
        assert [version.version for version in world.better("v_2")] == ["v_1"]

    @pytest.mark.parametrize("missing", ["labels", "lineage"])
    def test_without_labels_or_lineage_do_not_count(self, world: World, missing: str) -> None:
        world.serve("v_0", 0.97, 20)
        world.serve("v_1", 0.90, 10)
        world.workspace.storage.delete(getattr(world.workspace.model("m", "v_0"), missing))
        assert world.better("v_1") == []

    def test_that_served_until_a_year_ago_to_the_second_count(self, world: World) -> None:
        world.serve("v_0", 0.99, 500)
        world.serve("v_1", 0.90, 365)
        history = read_history(world.workspace, "m")
        assert list_served_lately(history, now=NOW) == ["v_1", "v_0"]
        assert list_served_lately(history, now=NOW + timedelta(seconds=1)) == ["v_1"]

    def test_that_serve_again_stand_where_they_served_last(self, world: World) -> None:
        world.serve("v_0", 0.9, 30)
        world.serve("v_1", 0.9, 20)
        world.roll_back("v_0")
        assert list_served_lately(read_history(world.workspace, "m"), now=NOW) == ["v_0", "v_1"]

    def test_of_late_are_twenty(self, world: World) -> None:
        for number in range(25):
            world.serve(f"v_{number:02d}", 0.9, 100 - number, recorded=False)
        found = list_served_lately(read_history(world.workspace, "m"), now=NOW)
        assert found == [f"v_{number:02d}" for number in range(24, 4, -1)]

    def test_that_served_more_than_a_year_ago_do_not_count(self, world: World) -> None:
        world.serve("v_0", 0.99, 800)
        world.serve("v_1", 0.97, 500)  # until 300 days ago
        world.serve("v_2", 0.90, 300)
        assert [version.version for version in world.better("v_2")] == ["v_1"]

    def test_are_at_most_twenty(self, world: World) -> None:
        for number in range(MAX_VERSIONS + 5):
            world.serve(f"v_{number:02d}", 0.99 if number == 0 else 0.90, 100 - number)
        assert world.better("v_24") == []

    def test_that_are_gone_do_not_count(self, world: World) -> None:
        world.serve("v_0", 0.99, 20, recorded=False)
        world.serve("v_1", 0.90, 10)
        assert world.better("v_1") == []

    def test_the_best_of_the_history_is_the_one_to_keep(self, world: World) -> None:
        for version, accuracy, days_ago in (("v_0", 1.0, 800), ("v_1", 0.99, 500), ("v_2", 0.90, 10)):
            world.serve(version, accuracy, days_ago)
        back = world.roll_back("v_1")
        assert best_served(read_history(world.workspace, "m"), now=NOW) == "v_1"
        assert best_served([], now=NOW) is None
        assert best_served([back], now=NOW) is None


class TestComparison:
    KEYS = [f"p{number}" for number in range(40)]

    def evaluate(self, world: World, wrong: int, answered: list[str], **changes: Any) -> Evaluation:
        rows = [dataset.row(key, CLASSES[int(key[1:]) % 2]) for key in self.KEYS]
        dataset.write_rows(world.workspace.storage, DATASET, *rows)
        served = world.predict("job_best", 0, answered)
        best = ServedVersion(version="best", accuracy=1, classes=CLASSES, output_path=served.output_path)
        champion = world.predict("champion", 5, self.KEYS)
        return evaluate_model(
            DatasetVersionFolder(world.workspace.storage, DATASET),
            classes=CLASSES,
            candidate_job=world.predict("candidate", wrong, self.KEYS),
            champion=Champion(
                version="v_1", job="champion", output_path=champion.output_path, classes=CLASSES
            ),
            better=[replace(best, **changes)],
        )

    def test_is_on_the_test_pictures_that_both_have_answered(self, world: World) -> None:
        found = self.evaluate(world, 6, [*self.KEYS[:30], "p99"]).reference
        assert found is not None
        assert (found.version, found.comparison.pictures) == ("best", 30)
        assert (len(found.comparison.lost), len(found.comparison.gained)) == (6, 0)

    def test_needs_twenty_of_them(self, world: World) -> None:
        assert self.evaluate(world, 6, self.KEYS[:19]).reference is None
        assert self.evaluate(world, 6, self.KEYS[:20]).reference is not None

    def test_is_left_out_where_the_predictions_are_gone(self, world: World) -> None:
        assert self.evaluate(world, 6, self.KEYS, output_path="gs://graft/jobs/gone/p").reference is None

    def test_leaves_out_classes_that_the_other_does_not_know(self, world: World) -> None:
        found = self.evaluate(world, 6, self.KEYS, classes=("cat", "bird")).reference
        assert found is not None
        assert list(found.comparison.classes) == ["cat"]

    def test_is_left_out_where_its_labels_are_not_its_answers(self, world: World) -> None:
        assert self.evaluate(world, 6, self.KEYS, classes=("dog", "cat")).reference is None
