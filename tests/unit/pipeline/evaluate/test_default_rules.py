"""The rules that are always in force, and those that ask a person: a decision table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from pipeline.artifacts.class_changes import ClassChanges
from pipeline.artifacts.evaluation import (
    Chance,
    ClassPairs,
    Comparison,
    Evaluation,
    Reference,
    SharedClasses,
    SplitChanges,
)
from pipeline.artifacts.gate import GateDecision, Rule, Verdict
from pipeline.config import GateConfig
from pipeline.config.gate import ChangeAction
from pipeline.evaluate import chance as chance_module
from pipeline.evaluate.answers import Answers
from pipeline.evaluate.chance import measure_chance
from pipeline.evaluate.gate import decide_gate
from pipeline.evaluate.pairing import find_class_changes
from tests.fakes.evaluation import evaluation, metrics, pairs, part

OFF = {"defaults": dict.fromkeys(("informative", "not_worse", "class_drop", "ratchet"), False)}
PERSON = {"override_by": "Ada", "override_reason": "the camera was broken"}


def off(*names: str) -> dict[str, Any]:
    return {"defaults": dict.fromkeys(names, False)}


def compared(gained: int, lost: int, pictures: int, group_size: int = 1, **more: Any) -> Evaluation:
    comparison = replace(pairs(gained, lost, pictures, group_size), changed=more.pop("changed", 40), **more)
    return evaluation(champion=metrics(), comparison=comparison)


def by_class(**classes: tuple[int, int, int]) -> Evaluation:
    """An evaluation whose classes have so many pictures gained, lost and in all."""
    compared_classes = {
        label: ClassPairs(gained=gained, lost=lost, pictures=pictures)
        for label, (gained, lost, pictures) in classes.items()
    }
    return compared(4, 4, 100, classes=compared_classes)


def shared(
    gained: int = 0,
    lost: int = 0,
    pictures: int = 40,
    trained_on: int = 0,
    classes: tuple[str, ...] = ("cat",),
    **more: Any,
) -> Evaluation:
    """An evaluation that is better on all pictures, and on those that can be compared as told."""
    values: dict[str, Any] = {
        "candidate": metrics(0.8),
        "champion": metrics(0.98),
        "comparison": pairs(gained, lost, pictures) if pictures else None,
        **more,
    }
    part_of_it = SharedClasses(classes=classes, pictures=pictures, trained_on=trained_on, **values)
    return evaluation(metrics(0.9), metrics(0.6), comparison=pairs(30, 10, 80), shared=part_of_it)


def against(gained: int, lost: int, pictures: int = 100, changed: int = 5) -> Evaluation:
    """An evaluation with a more accurate version of last year beside the champion."""
    found = compared(0, 0, 100, changed=changed)
    return replace(found, reference=Reference(version="v_best", comparison=pairs(gained, lost, pictures)))


def changed_classes(**changes: Any) -> Evaluation:
    return evaluation(champion=metrics(), comparison=pairs(0, 0, 40), class_changes=ClassChanges(**changes))


def chance(
    p_value: float | None, support: int = 20, predicted: int = 20, lowest: float = 0.001
) -> Evaluation:
    classes = {"dog": {"support": support, "predicted": predicted}}
    found = None if p_value is None else Chance(p_value=p_value, lowest_p_value=lowest)
    return evaluation(metrics(classes=classes), chance=found)


@dataclass(frozen=True)
class Case:
    """What is evaluated, the gate, and the keys of the rules that fail or wait for a person."""

    name: str
    found: Evaluation
    gate: dict[str, Any] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


ADDED = changed_classes(added=("emu",))
TABLE = (
    Case("answers that depend on the labels pass", chance(0.001)),
    Case("a probability at the level passes", chance(0.05)),
    Case("a probability above the level fails", chance(0.0501), failed=("informative",)),
    Case("an evaluation from before the rule is not judged", chance(None)),
    Case("a class of eight that is never answered fails", chance(0.001, 8, 0), failed=("informative",)),
    Case("a class of seven may stay unanswered", chance(0.001, 7, 0)),
    Case("a class of eight that is answered once passes", chance(0.001, 8, 1)),
    Case("chance and a silent class are one refusal", chance(0.9, 8, 0), failed=("informative",)),
    Case("chance passes where the rule is off", chance(0.9), off("informative")),
    Case("a silent class passes where the rule is off", chance(0.001, 20, 0), off("informative")),
    Case("pictures too few to show anything are not judged", chance(0.9, lowest=0.06)),
    Case("pictures that can just show it are judged", chance(0.9, lowest=0.05), failed=("informative",)),
    Case("too few pictures save no silent class", chance(0.9, 8, 0, lowest=0.06), failed=("informative",)),
    Case("another rule that is off saves no chance model", chance(0.9), off("not_worse"), ("informative",)),
    Case("equal answers are not worse", compared(0, 0, 40, changed=0)),
    Case("two lost pictures show nothing", compared(0, 2, 40)),
    Case("three lost pictures and none gained are worse", compared(0, 3, 40), failed=("not_worse",)),
    Case("five lost and one gained show nothing", compared(1, 5, 40)),
    Case("six lost and one gained are worse", compared(1, 6, 40), failed=("not_worse",)),
    Case("three lost copies of one picture show nothing", compared(0, 3, 39, group_size=3)),
    Case("nine lost in groups of three are worse", compared(0, 9, 99, group_size=3), failed=("not_worse",)),
    Case("more gained than lost is not worse", compared(9, 4, 40)),
    Case("a first version is not compared", evaluation(chance=Chance(p_value=0.001, lowest_p_value=0.001))),
    Case("a champion that cannot be joined is not compared", evaluation(champion_version="v_9")),
    Case("worse passes where the rule is off", compared(0, 9, 40), off("not_worse")),
    Case("worse on the classes that both know fails", shared(0, 9), failed=("not_worse",)),
    Case("the champion's unknown classes do not help the candidate", shared(2, 9), failed=("not_worse",)),
    Case("as good on the classes that both know passes", shared(3, 3)),
    Case("no class in common waits for a person", shared(pictures=0, candidate=None, champion=None),
         pending=("compared_pictures",)),
    Case("nineteen pictures of classes that both know wait", shared(pictures=19),
         pending=("compared_pictures",)),
    Case("twenty pictures of classes that both know are compared", shared(pictures=20)),
    Case("a comparison of an older file is not judged", shared(0, 9, comparison=None)),
    Case(
        "a person takes a worse version",
        compared(0, 9, 40),
        PERSON,
        ("not_worse",),
    ),
    Case("a class shown far worse fails", by_class(cat=(0, 12, 20), dog=(4, 0, 80)), failed=("class_drop",)),
    Case("gains elsewhere do not help a class", by_class(cat=(0, 12, 20), dog=(60, 0, 80)),
         failed=("class_drop",)),
    Case("a class of seven is not judged", by_class(cat=(0, 7, 7), dog=(0, 0, 93))),
    Case("a class of eight is judged", by_class(cat=(0, 8, 8), dog=(0, 0, 92)), failed=("class_drop",)),
    Case("no class of eight leaves nothing to judge", by_class(cat=(0, 7, 7), dog=(0, 5, 5))),
    Case("a drop within the allowed one passes", by_class(cat=(0, 2, 50), dog=(0, 0, 50))),
    Case("a wider allowance passes", by_class(cat=(0, 12, 20), dog=(4, 0, 80)), {"max_class_drop": 0.6}),
    Case("no allowance takes no class shown worse", by_class(cat=(0, 6, 50), dog=(0, 0, 50)),
         {"max_class_drop": 0}, ("class_drop",)),
    Case("a class shown worse passes where the rule is off", by_class(cat=(0, 12, 20)), off("class_drop")),
    Case("among fifty classes more must be shown", by_class(
        cat=(0, 3, 8), **{f"c{number}": (0, 0, 8) for number in range(49)})),
    Case("worse than the best of the year fails", against(0, 9), failed=("ratchet",)),
    Case("as good as the best of the year passes", against(3, 4)),
    Case("the champion's own answers pass the ratchet", against(0, 9, changed=0)),
    Case("worse than the best passes where the rule is off", against(0, 9), off("ratchet")),
    Case("added classes pass by default", ADDED),
    Case("added classes wait where they are asked for", ADDED, {"classes_changed": "require_approval"},
         pending=("classes_changed",)),
    Case("added classes fail where they are refused", ADDED, {"classes_changed": "refuse"},
         ("classes_changed",)),
    Case("removed classes wait as well", changed_classes(removed=("emu",)),
         {"classes_changed": "require_approval"}, pending=("classes_changed",)),
    Case("a person takes other classes", ADDED, {"classes_changed": "require_approval", **PERSON},
         ("classes_changed",)),
    Case("the same classes ask nobody", compared(0, 0, 40, changed=0),
         {"classes_changed": "require_approval"}),
    Case("nineteen pictures that the champion has not seen wait", shared(pictures=19, trained_on=21),
         pending=("compared_pictures",)),
    Case("twenty pictures that it has not seen are compared", shared(pictures=20, trained_on=20)),
    Case("a small test set alone waits for nobody", replace(
        shared(pictures=10), candidate=metrics(test_pictures=10))),
    Case("a small test set of which one picture is left out waits", replace(
        shared(pictures=10, trained_on=1), candidate=metrics(test_pictures=11)),
         pending=("compared_pictures",)),
    Case("a champion that has seen them all waits", shared(
        pictures=0, trained_on=40, candidate=None, champion=None), pending=("compared_pictures",)),
    Case("a person takes what could not be compared", shared(pictures=19, trained_on=21), PERSON,
         ("compared_pictures",)),
    Case("every default may be off", replace(
        against(0, 9), chance=Chance(p_value=0.9, lowest_p_value=0.001)), OFF),
)  # fmt: skip


def decide(found: Evaluation, **gate: Any) -> GateDecision:
    return decide_gate(found, GateConfig.model_validate({"min_accuracy": 0.1, **gate}))


def rule_of(decision: GateDecision, key: str) -> Rule:
    [rule] = [rule for rule in decision.rules if rule.key == key]
    return rule


def test_the_table_has_fifty_named_cases() -> None:
    assert len({case.name for case in TABLE}) == len(TABLE) >= 50


@pytest.mark.parametrize("case", TABLE, ids=[case.name for case in TABLE])
def test_decision(case: Case) -> None:
    decision = decide(case.found, **case.gate)
    assert tuple(reason.partition(":")[0] for reason in decision.reasons) == case.failed
    waiting = tuple(rule.key for rule in decision.rules if rule.verdict is Verdict.PENDING)
    assert waiting == case.pending
    assert decision.waits_for_person is bool(case.pending)
    assert decision.accepted is (not case.failed or "override_by" in case.gate)
    assert GateDecision.from_dict(decision.to_dict()) == decision


class TestReasons:
    @pytest.mark.parametrize(
        ("found", "reason"),
        [
            (
                chance(0.3, 8, 0),
                "informative: answers regardless of the labels hit as often with probability 0.3; "
                "no picture is taken for dog",
            ),
            (
                compared(0, 9, 40),
                "not_worse: on 40 pictures accuracy differs by -0.2250 from the champion, with 95 % "
                "confidence by at most -0.1359, which is below 0",
            ),
            (
                by_class(cat=(0, 12, 20), dog=(0, 12, 20), emu=(0, 3, 7)),
                "class_drop: recall dropped, beyond the 0.1 allowed: cat by at least 0.3422, dog by at least "
                "0.3422; not judged, with fewer than 8 pictures: emu",
            ),
            (
                by_class(fox=(0, 3, 7), emu=(0, 3, 7), dog=(0, 12, 20), cat=(0, 0, 20), ape=(0, 3, 7)),
                "class_drop: recall dropped, beyond the 0.1 allowed: dog by at least 0.3422; not judged, "
                "with fewer than 8 pictures: ape, emu, fox",
            ),
            (
                against(0, 9),
                "ratchet: on 100 pictures accuracy differs by -0.0900 from v_best, the most accurate version "
                "of the last 365 days, with 95 % confidence by at most -0.0531, which is below 0",
            ),
        ],
    )
    def test_name_what_was_shown(self, found: Evaluation, reason: str) -> None:
        assert decide(found).reasons == (reason,)

    @pytest.mark.parametrize(
        ("found", "text"),
        [
            (
                chance(0.001),
                "informative: answers regardless of the labels hit as often with probability 0.001",
            ),
            (
                compared(0, 2, 40),
                "not_worse: on 40 pictures accuracy differs by -0.0500 from the champion, with 95 % "
                "confidence by at most +0.0165, which is not below 0",
            ),
            (
                by_class(cat=(0, 2, 50), dog=(0, 0, 50)),
                "class_drop: no class is shown to have dropped by more than 0.1",
            ),
            (against(0, 9, changed=0), "ratchet: every answer is the champion's"),
            (
                against(3, 4),
                "ratchet: on 100 pictures accuracy differs by -0.0100 from v_best, the most accurate version "
                "of the last 365 days, with 95 % confidence by at most +0.0388, which is not below 0",
            ),
        ],
    )
    def test_of_what_passed_name_what_was_seen(self, found: Evaluation, text: str) -> None:
        rule = rule_of(decide(found), text.partition(":")[0])
        assert (rule.text, rule.verdict) == (text, Verdict.PASSED)

    def test_of_a_silent_class_alone_say_nothing_of_chance(self) -> None:
        found = chance(0.9, 8, 0, lowest=0.06)
        assert decide(found).reasons == ("informative: no picture is taken for dog",)

    def test_of_chance_come_before_those_of_silent_classes(self) -> None:
        silent = metrics(classes={"cat": {"predicted": 0}, "dog": {"predicted": 0}})
        assert decide(replace(chance(0.3, 8, 0), candidate=silent)).reasons == (
            "informative: answers regardless of the labels hit as often with probability 0.3; "
            "no picture is taken for cat; no picture is taken for dog",
        )

    def test_round_a_probability_and_name_classes_by_the_alphabet(self) -> None:
        assert "with probability 0.123; " in decide(chance(0.12345, 8, 0)).reasons[0]
        few = {f"c{number}": (0, 0, 7) for number in range(9, 0, -1)}
        [reason] = decide(by_class(dog=(0, 12, 20), cat=(0, 12, 20), **few)).reasons
        assert reason.index("cat by at least") < reason.index("dog by at least")
        assert reason.endswith("pictures: c1, c2, c3, c4, c5, c6, c7, c8, c9")

    def test_of_a_class_shown_worse_by_exactly_what_is_allowed_are_none(self) -> None:
        found = by_class(cat=(0, 12, 20))
        drop = rule_of(decide(found), "class_drop").value
        assert drop is not None
        assert rule_of(decide(found, max_class_drop=-drop), "class_drop").verdict is Verdict.PASSED

    def test_of_a_bound_of_exactly_zero_are_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Bisection does not end there for counts that occur.
        monkeypatch.setattr("pipeline.evaluate.default_rules.highest_difference", lambda *_: 0.0)
        rule = rule_of(decide(compared(0, 9, 40)), "not_worse")
        assert (rule.verdict, rule.value) == (Verdict.PASSED, 0)
        assert rule.text.endswith("by at most +0.0000, which is not below 0")

    def test_of_a_class_shown_worse_end_there_where_all_are_judged(self) -> None:
        assert decide(by_class(cat=(0, 12, 20), dog=(4, 0, 80))).reasons == (
            "class_drop: recall dropped, beyond the 0.1 allowed: cat by at least 0.3422",
        )

    def test_of_other_classes_say_that_the_gate_takes_none(self) -> None:
        assert decide(ADDED, classes_changed="refuse").reasons == (
            "classes_changed: this gate takes no version with other classes: added emu",
        )

    def test_of_a_first_version_say_what_is_asked(self) -> None:
        rule = rule_of(decide(evaluation(), first_version="require_approval"), "first_version")
        assert rule.text == "first_version: waits for a person's approval: a first version of a model"

    def test_of_what_is_off_say_that_it_is(self) -> None:
        rules = [rule for rule in decide(compared(0, 9, 40), **OFF).rules if rule.key in OFF["defaults"]]
        assert [rule.text for rule in rules] == [
            f"{name}: switched off by `gate.defaults`" for name in OFF["defaults"]
        ]
        assert {rule.verdict for rule in rules} == {Verdict.SKIPPED}

    @pytest.mark.parametrize(
        ("found", "key", "why"),
        [
            (evaluation(), "not_worse", "first version: there is no champion to compare with"),
            (evaluation(), "ratchet", "first version: there is no champion to compare with"),
            (shared(0, 9, comparison=None), "class_drop", "the evaluation was written before this rule"),
            (
                shared(pictures=0, candidate=None, champion=None),
                "not_worse",
                "no test picture can be compared with the champion",
            ),
            (by_class(cat=(0, 7, 7)), "class_drop", "no class has 8 pictures to compare"),
            (
                compared(0, 0, 40),
                "ratchet",
                "no other version of the last 365 days was more accurate than the champion",
            ),
            (chance(None), "informative", "the evaluation was written before this rule"),
            (chance(1, lowest=0.2), "informative", "these test pictures are too few to show it"),
        ],
    )
    def test_of_what_is_not_judged_say_why(self, found: Evaluation, key: str, why: str) -> None:
        rule = rule_of(decide(found), key)
        assert (rule.text, rule.verdict) == (f"{key}: not judged, {why}", Verdict.SKIPPED)

    def test_of_changed_classes_name_them(self) -> None:
        found = changed_classes(added=("fox", "emu"), removed=("dog", "cat"), renamed={"dog": "fox"})
        assert rule_of(decide(found), "classes_changed").text == (
            "classes_changed: added emu; removed cat; renamed dog to fox"
        )

    @pytest.mark.parametrize(
        ("action", "verdict", "start"),
        [
            ("allow", Verdict.PASSED, "split_changed: the test set is chosen"),
            (
                "require_approval",
                Verdict.PENDING,
                "split_changed: waits for a person's approval: the test set",
            ),
            (
                "refuse",
                Verdict.FAILED,
                "split_changed: this dataset takes no other way to choose test pictures: the test set is",
            ),
        ],
    )
    def test_of_a_changed_split_say_what_moved(
        self, action: ChangeAction, verdict: Verdict, start: str
    ) -> None:
        changes = SplitChanges(before="hash", now="given", to_test=7, to_train=3)
        found = replace(evaluation(), split_changes=changes)
        gate = GateConfig.model_validate({"min_accuracy": 0.1})
        rule = rule_of(decide_gate(found, gate, split_changed=action), "split_changed")
        assert rule.verdict is verdict
        assert rule.text.startswith(start)
        assert rule.text.endswith(
            "7 training pictures of the champion test now, 3 of its test pictures train"
        )

    def test_of_too_few_compared_pictures_count_them(self) -> None:
        rule = rule_of(
            decide(shared(pictures=19, trained_on=21, classes=("cat", "dog"))), "compared_pictures"
        )
        assert rule.text == (
            "compared_pictures: waits for a person's approval: the champion was trained on 21 of the test "
            "pictures, and the other 19 are fewer than the 20 that a comparison takes"
        )

    def test_of_too_few_pictures_of_known_classes_name_the_others(self) -> None:
        rule = rule_of(decide(shared(pictures=19)), "compared_pictures")
        assert rule.text == (
            "compared_pictures: waits for a person's approval: the champion does not know the classes dog as "
            "they are now, and the other 19 are fewer than the 20 that a comparison takes"
        )
        both = rule_of(decide(shared(pictures=9, trained_on=10)), "compared_pictures")
        assert "as they are now and the champion was trained on 10 of the test pictures, and" in both.text

    def test_of_a_rule_on_the_champion_are_not_those_of_a_first_version(self) -> None:
        found = shared(pictures=0, candidate=None, champion=None)
        decision = decide(found, change={"accuracy": {"max_drop": 0.02}}, non_inferiority={"margin": 0.02})
        for key in ("change.accuracy.max_drop", "non_inferiority"):
            assert rule_of(decision, key).text == (
                f"{key}: not judged, no test picture can be compared with the champion"
            )

    def test_carry_the_bound_that_was_judged(self) -> None:
        rule = rule_of(decide(compared(0, 9, 40)), "not_worse")
        assert (rule.value, rule.limit) == (pytest.approx(-0.1359, abs=1e-4), 0)
        rule = rule_of(decide(chance(0.3)), "informative")
        assert (rule.value, rule.limit) == (0.3, 0.05)
        worst = rule_of(decide(by_class(cat=(0, 12, 20), dog=(4, 0, 80))), "class_drop")
        assert (worst.subject, worst.limit) == ("cat", -0.1)
        assert worst.value == pytest.approx(-0.3422, abs=1e-4)

    def test_carry_the_bound_of_the_worst_class_whatever_its_name(self) -> None:
        worst = rule_of(decide(by_class(cat=(4, 0, 80), dog=(0, 12, 20))), "class_drop")
        assert (worst.subject, worst.value) == ("dog", pytest.approx(-0.3422, abs=1e-4))

    def test_of_a_small_allowed_drop_are_as_short_as_can_be(self) -> None:
        decision = decide(by_class(cat=(0, 2, 50), dog=(0, 12, 20)), max_class_drop=0.0123456789)
        assert decision.reasons[0].startswith("class_drop: recall dropped, beyond the 0.0123457 allowed: dog")
        passed = decide(by_class(cat=(0, 0, 50)), max_class_drop=0.0123456789)
        assert rule_of(passed, "class_drop").text.endswith("to have dropped by more than 0.0123457")

    def test_carry_the_bound_of_the_class_nearest_to_failing_where_none_does(self) -> None:
        decision = decide(by_class(cat=(0, 2, 50), dog=(4, 0, 50), emu=(0, 7, 7)))
        rule = rule_of(decision, "class_drop")
        assert (rule.verdict, rule.subject, rule.limit) == (Verdict.PASSED, "cat", -0.1)
        assert rule.value == pytest.approx(0.0342, abs=1e-4)
        assert decision.thresholds["class_drop"] == -0.1
        assert rule.text == (
            "class_drop: no class is shown to have dropped by more than 0.1; not judged, with fewer than 8 "
            "pictures: emu"
        )


class TestRulesOnTheChampion:
    """A gate's own rules on the champion look at what can be compared, as the defaults do."""

    def test_hold_the_drop_to_the_shared_classes(self) -> None:
        decision = decide(shared(2, 2), change={"accuracy": {"max_drop": 0.05}})
        assert decision.reasons == (
            "change.accuracy.max_drop: the drop of accuracy 0.18 is above the limit 0.05",
        )

    def test_hold_non_inferiority_to_the_shared_classes(self) -> None:
        decision = decide(shared(2, 9), non_inferiority={"margin": 0.05}, **OFF)
        assert [reason.partition(":")[0] for reason in decision.reasons] == ["non_inferiority"]
        assert "with these 40 pictures" in decision.reasons[0]

    def test_hold_a_slices_drop_to_the_shared_classes(self) -> None:
        parts = {"source": {"web": part(0.5, champion={"accuracy": 0.9})}}
        decision = decide(shared(2, 2, slices=parts), slices=[{"by": "source", "max_drop": 0.1}])
        assert decision.reasons == (
            "slices.source.accuracy.max_drop: the drop of accuracy of source=web 0.4 is above the limit 0.1",
        )

    def test_hold_a_slices_floor_to_all_pictures(self) -> None:
        found = replace(
            shared(2, 2, slices={"source": {"web": part(0.9)}}), slices={"source": {"web": part(0.5)}}
        )
        decision = decide(found, slices=[{"by": "source", "min": 0.7}])
        assert decision.reasons == (
            "slices.source.accuracy.min: accuracy of source=web 0.5 is below the limit 0.7",
        )

    def test_are_skipped_where_nothing_is_shared(self) -> None:
        found = shared(pictures=0, candidate=None, champion=None)
        rules = decide(found, change={"accuracy": {"max_drop": 0}}, non_inferiority={"margin": 0.1}).rules
        assert {rule.key for rule in rules if rule.is_skipped} >= {
            "change.accuracy.max_drop",
            "non_inferiority",
        }


class TestLowerBound:
    @pytest.mark.parametrize(("limit", "failed"), [(0.7, ()), (0.8, ("absolute.accuracy.min_lower_bound",))])
    def test_judges_the_interval_where_min_judges_the_estimate(
        self, limit: float, failed: tuple[str, ...]
    ) -> None:
        gate = GateConfig.model_validate({"absolute": {"accuracy": {"min_lower_bound": limit, "min": 0.9}}})
        decision = decide_gate(evaluation(), gate)
        assert tuple(reason.partition(":")[0] for reason in decision.reasons) == failed

    def test_of_a_metric_without_an_interval_fails(self) -> None:
        [reason] = decide(evaluation(), absolute={"loss": {"min_lower_bound": 0}}).reasons
        assert "the lower end of the 95 % interval of loss is undefined" in reason


def answers(truth: list[int], predicted: list[int], groups: list[int] | None = None) -> Answers:
    width = max(*truth, *predicted) + 1
    return Answers(
        keys=tuple(map(str, range(len(truth)))),
        classes=tuple(f"c{number}" for number in range(width)),
        truth=np.array(truth),
        probabilities=np.eye(width)[predicted],
        predicted=np.array(predicted),
        groups=np.array(groups or range(len(truth))),
    )


class TestChance:
    @pytest.mark.parametrize(("many", "few"), [(18, 2), (90, 10)])
    def test_a_perfect_model_of_unequal_classes_is_told_from_one_that_says_one_class(
        self, many: int, few: int
    ) -> None:
        truth = [0] * many + [1] * few
        assert measure_chance(answers(truth, truth)).p_value < 0.02
        assert measure_chance(answers(truth, [0] * (many + few))).p_value == 1

    def test_equals_the_exact_test_of_two_classes(self) -> None:
        from scipy.stats import fisher_exact

        truth, predicted = [0] * 12 + [1] * 8, [0] * 9 + [1] * 3 + [0] * 3 + [1] * 5
        exact = fisher_exact([[9, 3], [3, 5]], alternative="greater").pvalue
        assert measure_chance(answers(truth, predicted)).p_value == pytest.approx(exact, abs=0.02)

    @pytest.mark.parametrize("right", [4, 3, 2])
    def test_is_exact_for_small_sets(self, right: int) -> None:
        from scipy.stats import fisher_exact

        truth = [0] * 4 + [1] * 4
        predicted = [*[0] * right, *[1] * (4 - right), *[0] * (4 - right), *[1] * right]
        table = [[right, 4 - right], [4 - right, right]]
        found = measure_chance(answers(truth, predicted))
        assert found.p_value == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
        assert found.lowest_p_value == pytest.approx(1 / 70)

    def test_copies_of_one_picture_count_once(self) -> None:
        truth = [0, 0, 0, 1, 1, 1] * 2
        groups = [number // 3 for number in range(12)]
        assert measure_chance(answers(truth, truth)).p_value < 0.01
        assert measure_chance(answers(truth, truth, groups)).p_value == pytest.approx(1 / 6)

    def test_of_many_pictures_of_one_class_and_one_of_another_is_exact(self) -> None:
        truth = [1, *[0] * 3000]
        assert measure_chance(answers(truth, truth)) == Chance(
            p_value=1 / 3001, lowest_p_value=pytest.approx(1 / 3001)
        )
        assert measure_chance(answers(truth, [0, 1, *[0] * 2999])).p_value == 1

    def test_tries_every_order_of_three_classes_once(self) -> None:
        truth = [0, 1, 1, 2, 2]
        found = [measure_chance(answers(truth, predicted)) for predicted in (truth, [0, 1, 2, 1, 2])]
        assert [each.p_value for each in found] == pytest.approx([1 / 30, self.share_of_orders(3)])
        assert found[0].lowest_p_value == pytest.approx(1 / 30)

    def share_of_orders(self, hits: int) -> float:
        """How many of the orders of two labels twice and one once hit so often."""
        from itertools import permutations

        orders = set(permutations([0, 1, 1, 2, 2]))
        good = [order for order in orders if sum(map(int.__eq__, order, (0, 1, 2, 1, 2))) >= hits]
        return len(good) / len(orders)

    def test_deals_five_thousand_times_and_fewer_to_a_larger_set(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert chance_module.MOST_CELLS == 20_000_000
        monkeypatch.setattr(chance_module, "MOST_CELLS", 200_000)  # as 6,000 and 30,000 pictures, but quicker
        p_values = [
            measure_chance(answers(truth, truth)).p_value
            for truth in ([0, 1] * 20, [0, 1] * 30, [0, 1] * 150)
        ]
        assert p_values == [1 / 5000, 1 / 3334, 1 / 1000]

    def test_gives_a_group_the_label_of_its_first_picture(self) -> None:
        truth = [0, 1, 0, 1, 0, 1, 0, 1]
        found = measure_chance(answers(truth, [0] * 4 + [1] * 4, [number // 2 for number in range(8)]))
        assert found == Chance(p_value=1, lowest_p_value=pytest.approx(1))

    def test_is_the_same_each_time(self) -> None:
        random = np.random.default_rng(0)
        found = answers(random.integers(0, 3, 50).tolist(), random.integers(0, 3, 50).tolist())
        assert measure_chance(found) == measure_chance(found)


class TestClassChanges:
    LABELS = {"a": "cat", "b": "cat", "c": "fox", "d": "fox", "e": "dog"}

    def find(self, classes: tuple[str, ...], before: tuple[str, ...], **old: str) -> ClassChanges | None:
        return find_class_changes(classes, before, labels=self.LABELS, champion_labels=old)

    def test_of_the_same_classes_are_none(self) -> None:
        assert self.find(("cat", "dog"), ("dog", "cat")) is None

    def test_name_added_and_removed_ones(self) -> None:
        assert self.find(("cat", "fox"), ("cat", "dog"), e="dog") == ClassChanges(
            added=("fox",), removed=("dog",)
        )

    def test_a_class_whose_pictures_have_another_label_now_was_renamed(self) -> None:
        found = self.find(("cat", "fox"), ("cat", "dog"), c="dog", d="dog", a="cat")
        assert found is not None
        assert found.renamed == {"dog": "fox"}
        assert found.text == "renamed dog to fox"

    def test_half_of_the_pictures_are_no_rename(self) -> None:
        found = self.find(("cat", "fox"), ("cat", "dog"), a="dog", c="dog")
        assert found is not None
        assert found.renamed == {}


def test_comparison_counts_each_class_and_what_changed() -> None:
    from pipeline.evaluate.compare import compare_pairs

    comparison = compare_pairs(
        ["a", "b", "c"],
        [True, False, False],
        [False, True, False],
        groups=[0, 1, 1],
        labels=["cat", "dog", "dog"],
        changed=3,
    )
    assert comparison.classes == {
        "cat": ClassPairs(pictures=1, gained=1, lost=0),
        "dog": ClassPairs(pictures=2, gained=0, lost=1, design_effect=1.0),
    }
    assert comparison.changed == 3
    assert Comparison.from_dict(comparison.to_dict()) == comparison


def test_comparison_counts_the_copies_of_a_class_as_one_picture() -> None:
    from pipeline.evaluate.compare import compare_pairs

    candidate = [False] * 12 + [True] * 12
    comparison = compare_pairs(
        list(map(str, range(24))),
        candidate,
        [True] * 24,
        groups=[*[number // 6 for number in range(12)], *range(2, 14)],
        labels=["cat"] * 12 + ["dog"] * 12,
        changed=12,
    )
    assert comparison.classes["cat"] == ClassPairs(pictures=12, gained=0, lost=12, design_effect=6.0)
    assert comparison.classes["dog"] == ClassPairs(pictures=12, gained=0, lost=0, design_effect=1.0)
