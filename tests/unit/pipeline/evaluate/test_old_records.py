"""Records as the release before the default rules wrote them: still read, judged and described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.evaluation import Evaluation
from pipeline.artifacts.gate import Rule, Verdict
from pipeline.artifacts.model_record import Lineage
from pipeline.config import Classifier, GateConfig
from pipeline.deploy.lineage import describe_version
from pipeline.deploy.model_card import model_card
from pipeline.evaluate.gate import decide_gate
from pipeline.evaluate.report import comparison_table, evaluation_report
from pipeline.storage import Storage
from tests.fakes.rows import workspace_of

DEFAULTS = ("informative", "not_worse", "class_drop", "ratchet")


@pytest.fixture(scope="module")
def old() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(Path(__file__).with_name("old_records.json").read_text())
    return value


def test_an_old_evaluation_comes_back_with_all_that_it_held(old: dict[str, Any]) -> None:
    evaluation = Evaluation.from_dict(old["evaluation"])
    again = json.loads(json.dumps(evaluation.to_dict()))
    for name in ("job", "classes", "champion_version", "champion_job", "note", "champion_saw", "size_mb"):
        assert again[name] == old["evaluation"][name]
    for name in ("candidate", "champion"):
        assert again[name]["confusion"] == old["evaluation"][name]["confusion"]
        assert again[name]["scores"] == old["evaluation"][name]["scores"]
        assert again[name]["per_class"] == old["evaluation"][name]["per_class"]
    assert again["comparison"]["gained"] == old["evaluation"]["comparison"]["gained"]
    assert again["comparison"]["differences"] == old["evaluation"]["comparison"]["differences"]
    for value, part in old["evaluation"]["slices"]["label"].items():
        found = again["slices"]["label"][value]
        assert (found["pictures"], found["accuracy"]) == (part["pictures"], part["accuracy"])
        assert found["champion"]["accuracy"] == part["champion"]["accuracy"]
    assert evaluation.shared is not None
    assert (evaluation.shared.classes, evaluation.shared.pictures) == (("cat", "dog"), 20)
    assert (evaluation.chance, evaluation.class_changes, evaluation.reference) == (None, None, None)


def test_an_old_evaluation_is_judged_by_what_it_holds_and_says_what_it_lacks(old: dict[str, Any]) -> None:
    gate = {"min_accuracy": 0.5, "change": {"accuracy": {"max_drop": 0.04}}}
    decision = decide_gate(Evaluation.from_dict(old["evaluation"]), GateConfig.model_validate(gate))
    assert [reason.partition(":")[0] for reason in decision.reasons] == ["change.accuracy.max_drop"]
    rules: dict[str, Rule] = {rule.key: rule for rule in decision.rules}
    assert {rules[name].verdict for name in DEFAULTS} == {Verdict.SKIPPED}
    for name in DEFAULTS[:3]:
        assert rules[name].text == f"{name}: not judged, the evaluation was written before this rule"


def test_an_old_evaluation_is_told_to_people(old: dict[str, Any]) -> None:
    evaluation = Evaluation.from_dict(old["evaluation"])
    assert "| accuracy | 0.9167 | 0.7917 |" in comparison_table(evaluation)
    assert "champion v_old: accuracy 0.7917" in evaluation_report(evaluation)


def test_an_old_model_directory_is_described(old: dict[str, Any], tmp_path: Path) -> None:
    storage = Storage({"graft": tmp_path})
    model = workspace_of(storage).model("animals", "v_1")
    storage.write_json(model.lineage, old["lineage"])
    origin = describe_version(model).to_dict()
    assert (origin["run_id"], origin["dataset_version"]) == ("manual__1", "d_1")
    assert origin["accuracy"] == pytest.approx(0.916667)
    lineage = Lineage.from_dict(old["lineage"])
    assert (lineage.gate.accepted, lineage.gate.switched_off) == (False, ())
    assert [rule.key for rule in lineage.gate.rules if rule.verdict is Verdict.FAILED]
    assert lineage.classifier["name"] == "animals"
    card = model_card(
        Classifier.from_dict(lineage.classifier),
        lineage,
        Evaluation.from_dict(old["evaluation"]),
        weights_license="Apache-2.0",
        licences={},
    )
    assert "champion v_old: accuracy 0.7917" in card
