"""The decision table of the gate, its reasons and its record.

Mutants of `gate` that no test kills: a default of `split_changed` that is no `ChangeAction`. It asks a person
all the same, and mypy refuses it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipeline.artifacts.evaluation import FIRST_VERSION, Evaluation, SharedClasses, SplitChanges
from pipeline.artifacts.gate import GateDecision, Override, Rule, Verdict
from pipeline.config import GateConfig
from pipeline.evaluate.compare import difference_interval
from pipeline.evaluate.default_rules import RULES
from pipeline.evaluate.gate import decide_gate
from pipeline.evaluate.report import verdict_line
from tests.fakes.evaluation import evaluation, metrics, pairs, part

PERSON = {"override_by": "Ada", "override_reason": "the camera was broken"}
NO_LABELS = evaluation(champion_version="v_9", note="champion v_9 carries no metadata")


@dataclass(frozen=True)
class Case:
    """One row of the decision table: what is known, the gate, and the keys of the rules that fail."""

    name: str
    found: Evaluation
    gate: dict[str, Any]
    failed: list[str] = field(default_factory=list)
    accepted: bool | None = None  # only where it is not simply "nothing failed"


def absolute(name: str, **limit: float) -> dict[str, Any]:
    return {"absolute": {name: limit}}


def change(name: str, **limit: float) -> dict[str, Any]:
    return {"change": {name: limit}}


def sure(margin: float, **more: float) -> dict[str, Any]:
    return {"non_inferiority": {"margin": margin, **more}}


def slices(**rule: Any) -> dict[str, Any]:
    return {"slices": [{"by": "source", **rule}]}


BETTER = evaluation(metrics(0.9), metrics(0.8), comparison=pairs(8, 4, 40))
WORSE = evaluation(metrics(0.8, loss=0.5), metrics(0.9, loss=0.25), comparison=pairs(2, 6, 40))
SAME = evaluation(metrics(), metrics(), comparison=pairs(0, 0, 1000))
SMALL = evaluation(metrics(), metrics(), comparison=pairs(0, 0, 20))
GROUPED = evaluation(metrics(), metrics(), comparison=pairs(0, 0, 200, group_size=50))
SLICED = evaluation(
    champion=metrics(),
    slices={
        "source": {
            "web": part(0.9, champion={"accuracy": 0.95}),
            "zoo": part(0.6, 4, champion={"accuracy": 0.9}),
        }
    },
)
NO_RECALL = evaluation(metrics(classes={"dog": {"support": 0, "recall": None, "precision": None}}))
SILENT = evaluation(metrics(classes={"dog": {"predicted": 0, "precision": None, "f1": 0.0}}))

TABLE = [
    Case("accuracy at its floor passes", evaluation(), {"min_accuracy": 0.9}),
    Case("accuracy under its floor fails", evaluation(), {"min_accuracy": 0.91}, ["absolute.accuracy.min"]),
    Case("loss at its ceiling passes", evaluation(), {"max_loss": 0.2}),
    Case("loss over its ceiling fails", evaluation(), {"max_loss": 0.19}, ["absolute.loss.max"]),
    Case(
        "accuracy over a maximum fails",
        evaluation(),
        absolute("accuracy", max=0.8),
        ["absolute.accuracy.max"],
    ),
    Case("loss under a minimum fails", evaluation(), absolute("loss", min=0.3), ["absolute.loss.min"]),
    Case("macro F1 at its floor passes", evaluation(), absolute("macro_f1", min=0.88)),
    Case(
        "macro F1 under its floor fails",
        evaluation(),
        absolute("macro_f1", min=0.9),
        ["absolute.macro_f1.min"],
    ),
    Case("a band of calibration error passes", evaluation(), absolute("ece", min=0.0, max=0.05)),
    Case(
        "calibration error over its ceiling fails",
        evaluation(),
        absolute("ece", max=0.04),
        ["absolute.ece.max"],
    ),
    Case(
        "Brier score over its ceiling fails", evaluation(), absolute("brier", max=0.1), ["absolute.brier.max"]
    ),
    Case("top 3 accuracy passes", evaluation(), absolute("top_3_accuracy", min=1.0)),
    Case(
        "an undefined metric fails",
        evaluation(metrics(roc_auc=None)),
        absolute("roc_auc", min=0.0),
        ["absolute.roc_auc.min"],
    ),
    Case(
        "a metric that is no number fails a floor",
        evaluation(metrics(loss=math.nan)),
        absolute("loss", min=0),
        ["absolute.loss.min"],
    ),
    Case(
        "a metric that is no number fails a ceiling",
        evaluation(metrics(loss=math.nan)),
        {"max_loss": 9},
        ["absolute.loss.max"],
    ),
    Case("an endless loss fails", evaluation(metrics(loss=math.inf)), {"max_loss": 9}, ["absolute.loss.max"]),
    Case(
        "both bounds of one metric can fail only one at a time",
        evaluation(),
        absolute("accuracy", min=0.95, max=0.99),
        ["absolute.accuracy.min"],
    ),
    Case(
        "two metrics fail together",
        evaluation(),
        {"min_accuracy": 0.95, "max_loss": 0.1},
        ["absolute.accuracy.min", "absolute.loss.max"],
    ),
    Case("enough test pictures pass", evaluation(), {"min_test_pictures": 40}),
    Case("too few test pictures fail", evaluation(), {"min_test_pictures": 41}, ["min_test_pictures"]),
    Case(
        "too few test pictures hide no other failure",
        evaluation(),
        {"min_test_pictures": 41, "min_accuracy": 0.95},
        ["min_test_pictures", "absolute.accuracy.min"],
    ),
    Case("a better accuracy keeps any drop", BETTER, change("accuracy", max_drop=0)),
    Case("a drop at its limit passes", WORSE, change("accuracy", max_drop=0.11)),
    Case(
        "a drop over its limit fails", WORSE, change("accuracy", max_drop=0.05), ["change.accuracy.max_drop"]
    ),
    Case("an equal accuracy passes a drop of nothing", SAME, change("accuracy", max_drop=0)),
    Case("a loss that rises is a drop", WORSE, change("loss", max_drop=0.2), ["change.loss.max_drop"]),
    Case("a loss that rises within its limit passes", WORSE, change("loss", max_drop=0.25)),
    Case(
        "a loss that falls keeps any drop",
        evaluation(metrics(loss=0.1), metrics()),
        change("loss", max_drop=0),
    ),
    Case("a relative drop within its limit passes", WORSE, change("accuracy", max_relative_drop=0.12)),
    Case(
        "a relative drop over its limit fails",
        WORSE,
        change("accuracy", max_relative_drop=0.11),
        ["change.accuracy.max_relative_drop"],
    ),
    Case("a doubled loss passes a relative drop of one", WORSE, change("loss", max_relative_drop=1)),
    Case(
        "a doubled loss fails a relative drop of nine tenths",
        WORSE,
        change("loss", max_relative_drop=0.9),
        ["change.loss.max_relative_drop"],
    ),
    Case(
        "absolute and relative drop fail together",
        WORSE,
        change("accuracy", max_drop=0.05, max_relative_drop=0.05),
        ["change.accuracy.max_drop", "change.accuracy.max_relative_drop"],
    ),
    Case(
        "a rise from a champion's zero fails a relative drop",
        evaluation(metrics(ece=0.1), metrics(ece=0.0)),
        change("ece", max_relative_drop=5),
        ["change.ece.max_relative_drop"],
    ),
    Case(
        "no rise from a champion's zero passes a relative drop",
        evaluation(metrics(ece=0.0), metrics(ece=0.0)),
        change("ece", max_relative_drop=0),
    ),
    Case(
        "a change of a metric that the champion lacks fails",
        evaluation(metrics(), metrics(roc_auc=None)),
        change("roc_auc", max_drop=1),
        ["change.roc_auc.max_drop"],
    ),
    Case(
        "a change of a metric that the candidate lacks fails",
        evaluation(metrics(roc_auc=None), metrics()),
        change("roc_auc", max_drop=1),
        ["change.roc_auc.max_drop"],
    ),
    Case(
        "a change alone refuses a first version",
        evaluation(),
        change("accuracy", max_drop=1),
        ["change.accuracy.max_drop"],
    ),
    Case(
        "a change is skipped for a first version with a floor",
        evaluation(),
        {**change("accuracy", max_drop=0), "min_accuracy": 0.9},
    ),
    Case(
        "a change is skipped for a champion without labels",
        NO_LABELS,
        {**change("loss", max_drop=0), "min_accuracy": 0.9},
    ),
    Case(
        "a champion without labels does not pass for a comparison",
        NO_LABELS,
        change("loss", max_drop=0),
        ["change.loss.max_drop"],
    ),
    Case("equal models of many pictures are shown to be as good", SAME, sure(0.01)),
    Case("equal models of few pictures are not shown to be as good", SMALL, sure(0.05), ["non_inferiority"]),
    Case("a wide margin takes few pictures", SMALL, sure(0.15)),
    Case("less confidence takes fewer pictures", SMALL, sure(0.05, confidence=0.8)),
    Case("pictures of few groups count for less", GROUPED, sure(0.05), ["non_inferiority"]),
    Case(
        "a gain over a champion's zero passes a relative drop",
        evaluation(metrics(0.9), metrics(0.0)),
        change("accuracy", max_relative_drop=0),
    ),
    Case(
        "an area that is undefined for a class fails",
        evaluation(metrics(classes={"dog": {"roc_auc": None}})),
        {"per_class": {"roc_auc": {"min": 0}}},
        ["per_class.roc_auc.min"],
    ),
    Case("a better model passes", BETTER, sure(0.05)),
    Case(
        "a judged comparison lets small slices be skipped",
        evaluation(metrics(), metrics(), comparison=pairs(8, 4, 40), slices=SLICED.slices),
        {**sure(0.05), **slices(min=0.7, min_pictures=50)},
    ),
    Case(
        "an undefined metric has been looked at, so skipped rules do not fail beside it",
        evaluation(metrics(roc_auc=None)),
        {**absolute("roc_auc", min=0.5), **sure(0.05)},
        ["absolute.roc_auc.min"],
    ),
    Case("a worse model fails", WORSE, sure(0.05), ["non_inferiority"]),
    Case("non-inferiority alone refuses a first version", evaluation(), sure(0.5), ["non_inferiority"]),
    Case(
        "non-inferiority is skipped for a first version with a floor",
        evaluation(),
        {**sure(0.01), "max_loss": 1},
    ),
    Case(
        "a number of pictures is a rule of its own for a first version",
        evaluation(),
        {**sure(0.01), "min_test_pictures": 2},
    ),
    Case("every class over its floor passes", evaluation(), {"per_class": {"recall": {"min": 0.9}}}),
    Case(
        "each class under its floor fails by itself",
        evaluation(),
        {"per_class": {"recall": {"min": 0.95}}},
        ["per_class.recall.min", "per_class.recall.min"],
    ),
    Case(
        "one weak class fails",
        evaluation(metrics(classes={"dog": {"f1": 0.4}})),
        {"per_class": {"f1": {"min": 0.5}}},
        ["per_class.f1.min"],
    ),
    Case(
        "a class without pictures has no recall and fails",
        NO_RECALL,
        {"per_class": {"recall": {"min": 0}}},
        ["per_class.recall.min"],
    ),
    Case(
        "a class without pictures has no precision and fails",
        NO_RECALL,
        {"per_class": {"precision": {"min": 0}}},
        ["per_class.precision.min"],
    ),
    Case(
        "a class that is never said has a precision of nothing",
        SILENT,
        {"per_class": {"precision": {"min": 0.1}}},
        ["per_class.precision.min", "informative"],
    ),
    Case(
        "a class that is never said passes a floor of nothing",
        SILENT,
        {"per_class": {"precision": {"min": 0}}, "defaults": {"informative": False}},
    ),
    Case("every slice over its floor passes", SLICED, slices(min=0.6)),
    Case("a slice under its floor fails", SLICED, slices(min=0.7), ["slices.source.accuracy.min"]),
    Case(
        "a slice over its ceiling fails", SLICED, slices(metric="loss", max=0.3), ["slices.source.loss.max"]
    ),
    Case("a small slice is not judged", SLICED, slices(min=0.7, min_pictures=5)),
    Case(
        "a slice of just enough pictures is judged",
        SLICED,
        slices(min=0.7, min_pictures=4),
        ["slices.source.accuracy.min"],
    ),
    Case(
        "a person overrides any rule of a later version",
        BETTER,
        {"min_test_pictures": 41, "first_version": "refuse", **PERSON},
        ["min_test_pictures"],
        accepted=True,
    ),
    Case(
        "only small slices judge nothing",
        SLICED,
        slices(min=0.7, min_pictures=50),
        ["slices.source.accuracy.min"] * 2,
    ),
    Case(
        "a slice that lost too much fails", SLICED, slices(max_drop=0.2), ["slices.source.accuracy.max_drop"]
    ),
    Case("slices that lost little pass", SLICED, slices(max_drop=0.31)),
    Case(
        "a slice's rise of loss is its drop",
        evaluation(champion=metrics(), slices={"source": {"web": part(0.5, champion={"loss": 0.2})}}),
        slices(metric="loss", max_drop=0.1),
        ["slices.source.loss.max_drop"],
    ),
    Case(
        "a slice that was not measured fails", evaluation(), slices(min=0.1), ["slices.source.accuracy.min"]
    ),
    Case("a slice without a limit is only shown", SLICED, {"slices": ["source"], "min_accuracy": 0.5}),
    Case(
        "a slice's drop is skipped without a champion",
        evaluation(slices={"source": {"web": part(0.9)}}),
        {**slices(max_drop=0), "min_accuracy": 0.9},
    ),
    Case("a small model passes", evaluation(size_mb=20.0), {"size_mb": 20}),
    Case("a large model fails", evaluation(size_mb=20.1), {"size_mb": 20}, ["size_mb"]),
    Case("a model of unknown size fails", evaluation(), {"size_mb": 20}, ["size_mb"]),
    Case("latency is left to the smoke test", evaluation(), {"latency_ms": {"p95": 50}}),
    Case(
        "latency is a rule of its own for a first version",
        evaluation(),
        {"latency_ms": {"p95": 50}, **change("accuracy", max_drop=0)},
    ),
    Case(
        "a bound exactly at the margin passes",
        WORSE,
        sure(-difference_interval(2, 6, 40, confidence=2 * 0.95 - 1)[0]),
    ),
    Case(
        "a class that was not measured fails",
        replace(evaluation(), classes=("cat", "dog", "emu")),
        {"per_class": {"recall": {"min": 0}}},
        ["per_class.recall.min"],
    ),
    Case(
        "a class that was not measured has no precision and fails",
        replace(evaluation(), classes=("cat", "dog", "emu")),
        {"per_class": {"precision": {"min": 0}}},
        ["per_class.precision.min"],
    ),
    Case(
        "a first version passes its absolute rules",
        evaluation(),
        {"min_accuracy": 0.9, "first_version": "absolute_only"},
    ),
    Case(
        "a first version waits for a person",
        evaluation(),
        {"min_accuracy": 0.9, "first_version": "require_approval"},
    ),
    Case(
        "a person lets a first version in",
        evaluation(),
        {"min_accuracy": 0.9, "first_version": "require_approval", **PERSON},
        ["first_version"],
        accepted=True,
    ),
    Case(
        "a second version needs no approval",
        BETTER,
        {"min_accuracy": 0.9, "first_version": "require_approval"},
    ),
    Case(
        "a second version is not refused as a first", BETTER, {"min_accuracy": 0.9, "first_version": "refuse"}
    ),
    Case(
        "a champion without labels is no first version",
        NO_LABELS,
        {"min_accuracy": 0.9, "first_version": "refuse"},
    ),
    Case(
        "a first version can be refused",
        evaluation(),
        {"min_accuracy": 0.9, "first_version": "refuse"},
        ["first_version"],
    ),
    Case(
        "nobody overrides a refusal of first versions",
        evaluation(),
        {"min_accuracy": 0.9, "first_version": "refuse", **PERSON},
        ["first_version"],
        accepted=False,
    ),
    Case(
        "nobody overrides a refusal of first versions, whatever else fails",
        evaluation(),
        {"min_accuracy": 0.95, "first_version": "refuse", **PERSON},
        ["absolute.accuracy.min", "first_version"],
        accepted=False,
    ),
    Case(
        "a person overrides a failed rule",
        evaluation(),
        {"min_accuracy": 0.95, **PERSON},
        ["absolute.accuracy.min"],
        accepted=True,
    ),
    Case(
        "a person overrides every failed rule",
        WORSE,
        {"max_loss": 0.1, **sure(0.01), **PERSON},
        ["absolute.loss.max", "non_inferiority"],
        accepted=True,
    ),
    Case(
        "a person overrides a later version of a gate that refuses first ones",
        WORSE,
        {"max_loss": 0.1, "first_version": "refuse", **PERSON},
        ["absolute.loss.max"],
        accepted=True,
    ),
    Case("an override that is not needed is none", evaluation(), {"min_accuracy": 0.5, **PERSON}),
]


def decide(found: Evaluation, **gate: Any) -> GateDecision:
    return decide_gate(found, GateConfig.model_validate(gate))


def keys(decision: GateDecision) -> list[str]:
    return [reason.partition(":")[0] for reason in decision.reasons]


def own_rules(decision: GateDecision) -> list[Rule]:
    """The rules that the gate itself has, without those that are always in force."""
    return [rule for rule in decision.rules if rule.key not in RULES]


def test_the_table_has_sixty_named_cases() -> None:
    assert len({case.name for case in TABLE}) == len(TABLE) >= 60


@pytest.mark.parametrize("case", TABLE, ids=[case.name for case in TABLE])
def test_decision(case: Case) -> None:
    decision = decide(case.found, **case.gate)
    assert keys(decision) == case.failed
    assert decision.accepted is (not case.failed if case.accepted is None else case.accepted)
    assert (decision.override is not None) is bool(case.failed and decision.accepted)
    again = GateDecision.from_dict(json.loads(json.dumps(decision.to_dict())))
    assert (again.reasons, again.waits_for_person) == (decision.reasons, decision.waits_for_person)
    for rule in decision.rules:
        assert rule.text.startswith(f"{rule.key}: ")


class TestReasons:
    @pytest.mark.parametrize(
        ("gate", "reason"),
        [
            ({"min_accuracy": 0.95}, "absolute.accuracy.min: accuracy 0.9 is below the limit 0.95"),
            ({"max_loss": 0.1}, "absolute.loss.max: loss 0.2 is above the limit 0.1"),
            (
                absolute("ece", max=0.04),
                "absolute.ece.max: ece 0.0512346 is above the limit 0.04",
            ),
            ({"min_test_pictures": 41}, "min_test_pictures: 40 test pictures, the limit is 41"),
            ({"size_mb": 2}, "size_mb: the model's megabytes 3 is above the limit 2"),
            (
                {"per_class": {"f1": {"min": 0.92}}},
                "per_class.f1.min: f1 of cat 0.9 is below the limit 0.92",
            ),
            (
                slices(min=0.95),
                "slices.source.accuracy.min: accuracy of source=web 0.5 is below the limit 0.95",
            ),
            (
                change("accuracy", max_drop=0.05),
                "change.accuracy.max_drop: the drop of accuracy 0.1 is above the limit 0.05",
            ),
            (
                change("accuracy", max_relative_drop=0.05),
                "change.accuracy.max_relative_drop: the drop of accuracy as a share 0.1 is above the limit "
                "0.05",
            ),
            (
                slices(max_drop=0.05),
                "slices.source.accuracy.max_drop: the drop of accuracy of source=web 0.3 is above the limit "
                "0.05",
            ),
        ],
    )
    def test_say_rule_value_and_limit(self, gate: dict[str, Any], reason: str) -> None:
        found = evaluation(
            metrics(ece=0.05123456),
            metrics(1.0),
            size_mb=3.0,
            slices={"source": {"web": part(0.5, champion={"accuracy": 0.8})}},
        )
        assert decide(found, **gate).reasons[0] == reason

    def test_of_a_rule_that_passed_say_so_too(self) -> None:
        decision = decide(evaluation(), min_accuracy=0.5, max_loss=1)
        assert [rule.text for rule in own_rules(decision)] == [
            "min_test_pictures: 40 test pictures, the limit is 1",
            "absolute.accuracy.min: accuracy 0.9 is not below the limit 0.5",
            "absolute.loss.max: loss 0.2 is not above the limit 1",
        ]

    def test_of_an_undefined_value_say_so(self) -> None:
        decision = decide(evaluation(metrics(roc_auc=None)), **absolute("roc_auc", min=0.5))
        assert decision.reasons == (
            "absolute.roc_auc.min: roc_auc is undefined on these pictures; the limit is 0.5",
        )
        assert (own_rules(decision)[-1].limit, own_rules(decision)[-1].value) == (0.5, None)

    def test_of_a_value_that_is_no_number_say_that_it_is_undefined(self) -> None:
        assert decide(evaluation(metrics(loss=math.nan)), max_loss=9).reasons == (
            "absolute.loss.max: loss is undefined on these pictures; the limit is 9",
        )

    def test_of_a_first_version_that_a_person_lets_in_name_what_needed_one(self) -> None:
        gate = {"min_accuracy": 0.5, "first_version": "require_approval", **PERSON}
        assert decide(evaluation(), **gate).reasons == (
            "first_version: needs a person: a first version of a model",
        )

    def test_of_a_class_without_pictures_name_it(self) -> None:
        rule = own_rules(decide(NO_RECALL, per_class={"recall": {"min": 0.5}}))[-1]
        assert rule.text == (
            "per_class.recall.min: recall of dog is undefined on these pictures; the limit is 0.5"
        )
        assert (rule.subject, rule.limit, rule.value) == ("dog", 0.5, None)

    @pytest.mark.parametrize(("bound", "limit"), [("min", 0.1), ("max", 0.9)])
    def test_of_a_slice_that_was_not_measured_name_its_metric(self, bound: str, limit: float) -> None:
        assert decide(evaluation(), **slices(**{bound: limit})).reasons == (
            f"slices.source.accuracy.{bound}: accuracy is undefined on these pictures; the limit is {limit}",
        )

    def test_of_a_slice_whose_champion_is_unknown_name_it(self) -> None:
        found = evaluation(slices={"source": {"web": part(0.9)}})
        rule = own_rules(decide(found, min_accuracy=0.5, **slices(max_drop=0.1)))[-1]
        assert rule.text == f"slices.source.accuracy.max_drop: not judged, {FIRST_VERSION}"
        assert (rule.key, rule.subject) == ("slices.source.accuracy.max_drop", "source=web")
        assert (rule.limit, rule.verdict) == (0.1, Verdict.SKIPPED)

    def test_of_non_inferiority_tell_difference_bound_margin_and_the_risk(self) -> None:
        decision = decide(WORSE, **sure(0.05))
        assert decision.reasons == (
            "non_inferiority: accuracy differs by -0.1000 from the champion's, with 0.95 confidence by at "
            "least -0.2262, which is below the margin -0.05; with these 40 pictures a model just as good as "
            "the champion is refused 83 % of the time",
        )
        passed = decide(SAME, **sure(0.01)).rules[1]
        assert "with 0.95 confidence by" in passed.text
        assert "with 0.9877 confidence by" in decide(WORSE, **sure(0.05, confidence=0.98765)).reasons[0]
        assert "which is not below the margin -0.01; with these 1000 pictures" in passed.text
        assert "is refused 0 % of the time" in passed.text

    def test_of_non_inferiority_round_a_margin_of_many_digits(self) -> None:
        [reason] = decide(WORSE, **sure(1 / 7)).reasons
        assert "which is below the margin -0.142857; with these 40 pictures" in reason

    def test_of_latency_tell_when_it_is_judged(self) -> None:
        assert own_rules(decide(evaluation(), latency_ms={"p95": 80}))[-1].text == (
            "latency_ms.p95: judged by the smoke test, before the version gets traffic"
        )

    @pytest.mark.parametrize("missing", ["candidate", "champion"])
    def test_of_a_drop_between_figures_of_which_one_is_missing_say_that_it_is_not_judged(
        self, missing: str
    ) -> None:
        both = {"candidate": metrics(), "champion": metrics()}
        shared = SharedClasses(classes=("cat",), pictures=20, **{**both, missing: None})  # type: ignore[arg-type]
        found, gate = replace(BETTER, shared=shared), {"min_accuracy": 0.5, **change("loss", max_drop=0)}
        [rule] = [rule for rule in decide(found, **gate).rules if rule.key == "change.loss.max_drop"]
        assert rule.verdict is Verdict.SKIPPED

    def test_of_non_inferiority_count_groups_as_one(self) -> None:
        [reason] = decide(GROUPED, **sure(0.05)).reasons
        alone = decide(evaluation(metrics(), metrics(), comparison=pairs(0, 0, 200)), **sure(0.05))
        assert reason.endswith("just as good as the champion is refused 100 % of the time")
        assert own_rules(alone)[-1].text.endswith("just as good as the champion is refused 0 % of the time")

    def test_of_skipped_rules_tell_why(self) -> None:
        decision = decide(evaluation(), min_accuracy=0.5, **change("loss", max_drop=0), **sure(0.1))
        rules = own_rules(decision)
        assert [rule.text for rule in rules if rule.is_skipped] == [
            f"change.loss.max_drop: not judged, {FIRST_VERSION}",
            f"non_inferiority: not judged, {FIRST_VERSION}",
        ]
        assert [rule.limit for rule in rules if rule.is_skipped] == [0, -0.1]
        [reason] = decide(evaluation(), **sure(0.1)).reasons
        assert (
            reason == f"non_inferiority: not judged, {FIRST_VERSION}, and no other rule looks at this model"
        )

    def test_of_small_slices_tell_their_size(self) -> None:
        rules = own_rules(decide(SLICED, **slices(min=0.5, min_pictures=5)))
        assert rules[-1].text == "slices.source.accuracy.min: not judged, source=zoo has only 4 pictures"
        assert (rules[-1].subject, rules[-1].limit, rules[-1].verdict) == ("source=zoo", 0.5, Verdict.SKIPPED)

    def test_of_a_first_version_tell_what_to_do(self) -> None:
        [reason] = decide(evaluation(), min_accuracy=0.5, first_version="refuse").reasons
        assert reason == "first_version: this gate takes no first version from a run"

    def test_of_a_first_version_that_waits_for_a_person_are_none_yet(self) -> None:
        decision = decide(evaluation(), min_accuracy=0.5, first_version="require_approval")
        assert (decision.accepted, decision.waits_for_person) == (True, True)
        assert decision.rules[-1].text.startswith("first_version: waits for a person's approval")
        assert GateDecision.from_dict(decision.to_dict()).waits_for_person
        for first in (evaluation(), BETTER):
            gate = {"min_accuracy": 0.5, "first_version": "require_approval", **PERSON}
            assert not decide(first, **gate).waits_for_person


class TestRules:
    def test_carry_value_limit_interval_and_subject(self) -> None:
        found = evaluation(
            metrics(0.8), metrics(), comparison=pairs(2, 6, 40, loss=[-0.1, 0.2]), size_mb=3.0,
            slices={"source": {"web": part(0.5, champion={"accuracy": 0.8})}},
        )  # fmt: skip
        decision = decide(
            found,
            absolute={"macro_f1": {"min": 0.5}, "accuracy": {"min": 0.5}},
            change={
                "accuracy": {"max_drop": 0.2, "max_relative_drop": 0.2},
                "loss": {"max_drop": 1},
                "macro_f1": {"max_drop": 1},
            },
            non_inferiority={"margin": 0.3},
            per_class={"recall": {"min": 0.5}, "roc_auc": {"min": 0.5}},
            size_mb=5,
            latency_ms={"p95": 80},
            slices=[
                {"by": "source", "min": 0.1, "max_drop": 0.5},
                {"by": "source", "metric": "loss", "max": 1},
            ],
        )
        assert decision.accepted
        rows = {(rule.key, rule.subject): rule for rule in own_rules(decision)}
        low, high = pairs(2, 6, 40).interval
        expected = {
            ("min_test_pictures", None): (40, 1, None),
            ("absolute.accuracy.min", None): (0.8, 0.5, metrics(0.8).accuracy_ci95),
            ("absolute.macro_f1.min", None): (0.88, 0.5, (0.8, 0.95)),
            ("change.accuracy.max_drop", None): (pytest.approx(0.1), 0.2, (-high, -low)),
            ("change.accuracy.max_relative_drop", None): (pytest.approx(1 / 9), 0.2, None),
            ("change.loss.max_drop", None): (0.0, 1, (-0.1, 0.2)),
            ("change.macro_f1.max_drop", None): (0.0, 1, None),
            ("per_class.recall.min", "cat"): (0.9, 0.5, (0.7, 0.97)),
            ("per_class.recall.min", "dog"): (0.9, 0.5, (0.7, 0.97)),
            ("per_class.roc_auc.min", "cat"): (0.95, 0.5, None),
            ("per_class.roc_auc.min", "dog"): (0.95, 0.5, None),
            ("slices.source.accuracy.min", "source=web"): (0.5, 0.1, (0.4, 0.6)),
            ("slices.source.accuracy.max_drop", "source=web"): (pytest.approx(0.3), 0.5, None),
            ("slices.source.loss.max", "source=web"): (0.5, 1, None),
            ("size_mb", None): (3.0, 5, None),
            ("latency_ms.p95", None): (None, 80, None),
        }
        sure_of = rows.pop(("non_inferiority", None))
        assert {name: (rule.value, rule.limit, rule.interval) for name, rule in rows.items()} == expected
        assert (sure_of.value, sure_of.limit) == (-0.1, -0.3)
        assert sure_of.interval == pytest.approx((-0.2262, 0.0186), abs=1e-3)
        verdicts = {rule.verdict for name, rule in rows.items() if name[0] != "latency_ms.p95"}
        assert verdicts == {Verdict.PASSED}
        assert rows["latency_ms.p95", None].verdict is Verdict.PENDING
        assert GateDecision.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision

    def test_a_rise_of_the_loss_has_the_interval_of_the_rise(self) -> None:
        found = evaluation(metrics(), metrics(), comparison=pairs(2, 6, 40, macro_f1=[-0.3, 0.1]))
        rules = own_rules(decide(found, **change("macro_f1", max_drop=1)))
        assert rules[-1].interval == (-0.1, 0.3)

    def test_a_slices_rise_of_the_loss_is_its_value(self) -> None:
        found = evaluation(champion=metrics(), slices={"source": {"web": part(0.5, champion={"loss": 0.2})}})
        rule = own_rules(decide(found, **slices(metric="loss", max_drop=0.1)))[-1]
        assert rule.value == pytest.approx(0.3)

    def test_come_in_the_order_of_the_documentation(self) -> None:
        decision = decide(
            evaluation(size_mb=1.0), latency_ms={"p95": 9}, size_mb=3, per_class={"f1": {"min": 0}},
            min_accuracy=0.1, slices=[{"by": "source", "min": 0}], first_version="refuse",
            **sure(0.1), **change("loss", max_drop=1),
        )  # fmt: skip
        assert [rule.key for rule in decision.rules] == [
            *("min_test_pictures", "absolute.accuracy.min", "change.loss.max_drop", "non_inferiority"),
            *("per_class.f1.min", "per_class.f1.min", "slices.source.accuracy.min", "size_mb"),
            *("latency_ms.p95", "informative", "not_worse", "class_drop", "ratchet", "first_version"),
        ]

    def test_of_several_metrics_come_by_their_names(self) -> None:
        found = evaluation(metrics(), metrics(), comparison=pairs(0, 0, 40))
        decision = decide(
            found,
            absolute={"loss": {"max": 9}, "accuracy": {"min": 0}},
            change={"loss": {"max_drop": 1}, "brier": {"max_drop": 1}},
            per_class={"recall": {"min": 0}, "f1": {"min": 0}},
        )
        assert [rule.key for rule in own_rules(decision)][1:] == [
            *("absolute.accuracy.min", "absolute.loss.max"),
            *("change.brier.max_drop", "change.loss.max_drop"),
            *("per_class.f1.min", "per_class.f1.min", "per_class.recall.min", "per_class.recall.min"),
        ]


class TestWaitingForAPerson:
    def test_is_for_a_first_version_that_needs_approval(self) -> None:
        assert decide(evaluation(), min_accuracy=0.5, first_version="require_approval").waits_for_person

    @pytest.mark.parametrize(
        ("found", "gate"),
        [
            (evaluation(), {"latency_ms": {"p95": 9}}),  # the smoke test is waited for, not a person
            (evaluation(), {"min_accuracy": 0.5, "first_version": "refuse"}),
            (evaluation(), {"min_accuracy": 0.5, "first_version": "require_approval", **PERSON}),
            (BETTER, {"min_accuracy": 0.5, "first_version": "require_approval"}),
        ],
        ids=["latency", "refused", "overridden", "later version"],
    )
    def test_is_for_nothing_else(self, found: Evaluation, gate: dict[str, Any]) -> None:
        assert not decide(found, **gate).waits_for_person


class TestDecision:
    def test_records_thresholds_and_that_there_is_no_baseline(self) -> None:
        decision = decide(evaluation(), min_accuracy=0.5)
        assert decision.thresholds == {"min_test_pictures": 1, "absolute.accuracy.min": 0.5}
        assert decision.baseline is None
        assert decision.note == FIRST_VERSION

    def test_carries_headline_metrics_of_both(self) -> None:
        decision = decide(WORSE, min_accuracy=0.5)
        assert decision.metrics == WORSE.candidate.headline()
        assert WORSE.champion is not None
        assert decision.baseline == WORSE.champion.headline()
        assert (decision.metrics.per_class, decision.baseline.per_class) == ({}, {})

    def test_records_which_defaults_are_off_and_tells_it(self) -> None:
        off = decide(BETTER, min_accuracy=0.5, defaults={"ratchet": False, "informative": False})
        assert off.switched_off == ("informative", "ratchet")
        assert verdict_line(off) == "accepted (switched off: informative, ratchet)"
        assert decide(BETTER, min_accuracy=0.5).switched_off == ()

    def test_asks_a_person_about_another_split_unless_told_otherwise(self) -> None:
        changes = SplitChanges(before="hash", now="given", to_test=7, to_train=3)
        decision = decide(replace(BETTER, split_changes=changes), min_accuracy=0.5)
        assert decision.waits_for_person
        assert decision.rules[-1].key == "split_changed"

    def test_records_who_overrode_and_why(self) -> None:
        decision = decide(evaluation(), min_accuracy=0.95, override_by=" Ada ", override_reason=" broken ")
        assert decision.override == Override(by="Ada", reason="broken")
        assert decision.reasons == ("absolute.accuracy.min: accuracy 0.9 is below the limit 0.95",)
        assert GateDecision.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision

    @pytest.mark.parametrize("missing", ["override_by", "override_reason"])
    def test_takes_no_override_without_a_person_and_a_reason(self, missing: str) -> None:
        gate = GateConfig.model_validate({"min_accuracy": 0.95, **PERSON})
        unchecked = gate.model_copy(update={missing: None})
        decision = decide_gate(evaluation(), unchecked)
        assert (decision.accepted, decision.override) == (False, None)

    def test_from_before_there_were_rules_is_read(self) -> None:
        old = decide(evaluation(), min_accuracy=0.95).to_dict()
        del old["rules"], old["override"]
        decision = GateDecision.from_dict(old)
        assert (decision.rules, decision.override) == ((), None)
