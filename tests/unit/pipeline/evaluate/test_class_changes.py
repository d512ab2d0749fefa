"""Classes that were renamed, merged, split or exchanged: what the gate compares then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.artifacts.class_changes import ClassChanges
from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.folders import DatasetVersionFolder
from pipeline.artifacts.gate import GateDecision
from pipeline.config import GateConfig
from pipeline.evaluate.champion import Champion
from pipeline.evaluate.evaluation import evaluate_model
from pipeline.evaluate.gate import decide_gate
from pipeline.evaluate.predictions import PredictionJob
from pipeline.evaluate.ratchet import ServedVersion
from pipeline.storage import Storage
from pipeline.types import JsonObject
from tests.fakes import dataset

OLD, NEW = "gs://graft/datasets/d/d_0", "gs://graft/datasets/d/d_1"
PICTURES = 80
Labels = dict[str, str]


def changes(before: str, after: str) -> ClassChanges:
    """Return how classes changed whose pictures had one list of labels and have another."""
    old, new = before.split(), after.split()
    return ClassChanges.between(sorted({*old}), sorted({*new}), zip(old, new, strict=True))


class TestClassChanges:
    @pytest.mark.parametrize(
        ("before", "after", "text", "known"),
        [
            ("a b", "a b", "", "a b"),
            ("a b", "A B", "renamed a to A, b to B", "A B"),
            ("a a b", "c c b", "renamed a to c", "b c"),
            ("a b c", "d d c", "merged a into d, b into d", "c d"),
            ("a b c", "a a c", "merged b into a", "a c"),
            ("a a a a b", "c c d d b", "added c, d; removed a", "b"),
            ("a a a b", "c c d b", "added c, d; removed a", "b"),
            ("a a b", "c b b", "added c; removed a", "b"),
            ("a a b b", "c b b b", "added c; removed a", "b"),
            ("a a b b", "b b a a", "reused the names a, b", ""),
            ("a a b b", "a b b a", "", "a b"),
            ("a a b b", "c c a a", "added c; removed b; reused the names a", ""),
            ("a b b b b", "c c c b b", "renamed a to c; reused the names c", "b"),
        ],
    )
    def test_are_told_and_leave_the_classes_that_both_know(
        self, before: str, after: str, text: str, known: str
    ) -> None:
        found = changes(before, after)
        assert found.text == text
        assert found.comparable(sorted({*after.split()})) == tuple(known.split())

    def test_are_read_back_and_read_from_older_files(self) -> None:
        found = changes("a b c", "d d c")
        assert ClassChanges.from_dict(json.loads(json.dumps(found.to_dict()))) == found
        old: JsonObject = {"added": ["c"], "removed": ["a"], "renamed": {"a": "c"}}
        assert ClassChanges.from_dict(old).successors == {"a": "c"}

    def test_one_picture_with_another_label_does_not_reuse_a_name(self) -> None:
        moves = [("b", "a"), *[("b", "b")] * 5]  # every other picture of class a is a new one
        assert ClassChanges.between("ab", "ab", moves).text == ""

    def test_a_picture_of_a_label_that_is_no_class_tells_nothing(self) -> None:
        assert ClassChanges.between("a", "b", [("a", "x"), ("a", "x"), ("a", "b")]).renamed == {"a": "b"}


class World:
    """Test pictures that two dataset versions have, and models that were asked about them."""

    def __init__(self, home: Path, old: Sequence[str], new: Sequence[str]) -> None:
        self.storage = Storage({"graft": home})
        self.keys = [f"p{number:02d}" for number in range(PICTURES)]
        self.old, self.new = self._labels(old), self._labels(new)
        self._write(OLD, self.old)
        self._write(NEW, self.new)

    def _labels(self, names: Sequence[str]) -> Labels:
        return {key: names[number % len(names)] for number, key in enumerate(self.keys)}

    def _write(self, uri: str, labels: Mapping[str, str]) -> None:
        dataset.write_rows(self.storage, uri, *(dataset.row(key, label) for key, label in labels.items()))

    def ask(self, job: str, labels: Labels, wrong: int) -> PredictionJob:
        """Write the answers of a model that takes so many pictures of each class for another."""
        classes = tuple(dict.fromkeys(labels.values()))
        rows, seen = [], dict.fromkeys(classes, 0)
        for key, label in labels.items():
            place = (classes.index(label) + (seen[label] < wrong)) % len(classes)
            seen[label] += 1
            outputs = [0.9 if index == place else 0.1 / (len(classes) - 1) for index in range(len(classes))]
            rows.append(json.dumps({"key": key, "outputs": outputs, "label": classes[place]}))
        path = f"gs://graft/jobs/{job}/predictions"
        self.storage.write_bytes(f"{path}/prediction.results-00000-of-00001", "\n".join(rows).encode())
        return PredictionJob(job=job, output_path=path, predictions=len(rows))

    def evaluate(
        self,
        *,
        wrong: int,
        champion_wrong: int = 0,
        dataset_uri: str | None = OLD,
        best_wrong: int | None = None,
    ) -> Evaluation:
        champion = self.ask("champion", self.old, champion_wrong)
        before, better = tuple(dict.fromkeys(self.old.values())), []
        if best_wrong is not None:
            best = self.ask("best", self.old, best_wrong).output_path
            served = ServedVersion(
                version="v_best", accuracy=1.0, classes=before, output_path=best, dataset_uri=dataset_uri
            )
            better.append(served)
        return evaluate_model(
            DatasetVersionFolder(self.storage, NEW),
            classes=tuple(dict.fromkeys(self.new.values())),
            candidate_job=self.ask("candidate", self.new, wrong),
            champion=Champion(
                version="v_1",
                job=champion.job,
                output_path=champion.output_path,
                classes=before,
                dataset_uri=dataset_uri,
            ),
            better=better,
        )


def decide(found: Evaluation) -> GateDecision:
    return decide_gate(found, GateConfig.model_validate({"min_accuracy": 0.3}))


def keys(decision: GateDecision) -> list[str]:
    return [reason.partition(":")[0] for reason in decision.reasons]


class TestGate:
    def test_refuses_a_worse_model_when_every_class_was_renamed(self, tmp_path: Path) -> None:
        found = World(tmp_path, ("cat", "dog"), ("Cat", "Dog")).evaluate(wrong=10)
        decision = decide(found)
        assert keys(decision) == ["not_worse", "class_drop"]
        assert found.champion is not None
        assert (found.champion.accuracy, found.shared) == (1.0, None)
        assert found.comparison is not None
        assert (found.comparison.changed, len(found.comparison.lost)) == (20, 20)
        difference = found.comparison.differences["accuracy"]
        assert difference.ci95 is not None
        assert difference.ci95[0] < difference.value == -0.25 < difference.ci95[1]
        assert found.class_changes is not None
        assert found.class_changes.text == "renamed cat to Cat, dog to Dog"
        assert "it does not know" not in found.note
        assert "changed their label" not in found.note

    def test_takes_as_good_a_model_when_every_class_was_renamed(self, tmp_path: Path) -> None:
        found = World(tmp_path, ("cat", "dog"), ("Cat", "Dog")).evaluate(wrong=1, champion_wrong=1)
        assert decide(found).accepted
        assert not decide(found).waits_for_person

    def test_asks_a_person_when_it_cannot_tell_what_renamed_classes_were(self, tmp_path: Path) -> None:
        found = World(tmp_path, ("cat", "dog"), ("Cat", "Dog")).evaluate(wrong=10, dataset_uri=None)
        decision = decide(found)
        waiting = [rule for rule in decision.rules if rule.verdict == "pending"]
        assert [rule.key for rule in waiting] == ["compared_pictures"]
        assert "does not know the classes Cat, Dog as they are now" in waiting[0].text
        assert not any("first version" in rule.text for rule in decision.rules)

    def test_asks_a_person_when_names_were_exchanged(self, tmp_path: Path) -> None:
        found = World(tmp_path, ("cat", "dog"), ("dog", "cat")).evaluate(wrong=10)
        assert decide(found).waits_for_person
        assert found.class_changes is not None
        assert found.class_changes.reused == ("dog", "cat")

    def test_holds_merged_classes_against_what_the_champion_calls_either(self, tmp_path: Path) -> None:
        world = World(tmp_path, ("cat", "kitten", "dog"), ("cat", "cat", "dog"))
        found = world.evaluate(wrong=10)
        assert found.champion is not None
        assert found.champion.accuracy == 1.0
        assert keys(decide(found)) == ["not_worse", "class_drop"]

    def test_compares_the_rest_when_a_class_was_split(self, tmp_path: Path) -> None:
        world = World(tmp_path, ("cat", "cat", "dog", "emu"), ("cat", "kitten", "dog", "emu"))
        found = world.evaluate(wrong=2)
        assert found.shared is not None
        assert (found.shared.classes, found.shared.pictures) == (("cat", "dog", "emu"), 60)
        assert set(found.shared.slices["label"]) == {"cat", "dog", "emu"}
        assert found.shared.trained_on == 0
        assert found.shared.candidate is not None
        assert found.shared.champion is not None
        assert (found.shared.candidate.accuracy, found.shared.champion.accuracy) == (0.9, 1.0)
        assert found.shared.slices["label"]["cat"].champion is not None
        comparison = found.shared.comparison
        assert comparison is not None
        assert (comparison.pictures, len(comparison.gained), len(comparison.lost)) == (60, 0, 6)
        assert comparison.differences["accuracy"].value == pytest.approx(-0.1)
        assert comparison.differences["accuracy"].ci95 is not None

    def test_ratchet_holds_a_renamed_class_against_the_best_of_late(self, tmp_path: Path) -> None:
        world = World(tmp_path, ("cat", "dog"), ("Cat", "Dog"))
        found = world.evaluate(wrong=10, champion_wrong=9, best_wrong=0)
        assert found.reference is not None
        assert found.reference.comparison.pictures == PICTURES
        assert keys(decide(found)) == ["ratchet"]

    def test_ratchet_leaves_out_a_version_whose_classes_it_cannot_tell(self, tmp_path: Path) -> None:
        world = World(tmp_path, ("cat", "dog"), ("Cat", "Dog"))
        assert world.evaluate(wrong=10, best_wrong=0, dataset_uri=None).reference is None
