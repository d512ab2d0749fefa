from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.artifacts.dataset import DataVerdict
from pipeline.config import ExpectConfig
from pipeline.preprocess.expectations import Snapshot, check_expectations

OLD = Snapshot(pictures={"ant": 100, "cat": 100}, found=210, rejected={"truncated": 10}, mix={"a": 200})
RULES = {
    "class_loss": {"pictures": {"ant": 100, "cat": 60}},
    "few_pictures": {"pictures": {"ant": 100, "cat": 100, "new": 9}},
    "quarantine": {"rejected": {"truncated": 50}},
    "source_mix": {"mix": {"a": 100, "b": 100}},
}


def check(old: Snapshot | None = OLD, expect: dict[str, Any] | None = None, **new: Any) -> DataVerdict:
    return check_expectations(replace(OLD, **new), old, ExpectConfig(**(expect or {})))


def rules_of(said: DataVerdict) -> list[str]:
    return [reason.partition(" ")[0] for reason in said.reasons]


@pytest.mark.parametrize(
    ("new", "rules"),
    [
        ({}, []),
        ({"pictures": {"ant": 130, "cat": 100}}, []),
        ({"pictures": {"ant": 70, "cat": 100}}, []),
        ({"pictures": {"ant": 69, "cat": 100}}, ["class_loss"]),
        ({"pictures": {"ant": 100}}, ["class_loss"]),
        ({"pictures": {"ant": 100, "cat": 0}}, ["few_pictures", "class_loss"]),
        ({"pictures": {"ant": 100, "cat": 100, "new": 10}}, []),
        ({"pictures": {"ant": 100, "cat": 100, "new": 9}}, ["few_pictures"]),
        ({"rejected": {"truncated": 42}}, []),
        ({"rejected": {"truncated": 43}}, ["quarantine"]),
        ({"rejected": {"truncated": 22, "not_found": 21}}, ["quarantine"]),
        ({"rejected": {"exact_duplicate": 90, "deleted": 50, "taken_down": 50}}, []),
        ({"mix": {"a": 140, "b": 60}}, []),
        ({"mix": {"a": 139, "b": 61}}, ["source_mix"]),
        ({"mix": {"b": 200}}, ["source_mix"]),
        ({"mix": {"a": 400}}, []),
        ({"found": 0, "rejected": {}, "mix": {}}, []),
    ],
)
def test_rules_are_broken_beyond_their_limits_only(new: dict[str, Any], rules: list[str]) -> None:
    said = check(**new)
    assert rules_of(said) == rules
    assert said.outcome == ("warn" if rules else "ok")


def test_the_first_version_is_compared_with_nothing() -> None:
    said = check(None, pictures={"ant": 5, "cat": 100}, mix={"b": 105})
    assert rules_of(said) == ["few_pictures"]


@pytest.mark.parametrize("action", ["warn", "skip", "fail"])
@pytest.mark.parametrize("rule", sorted(RULES))
def test_each_rule_does_what_it_is_set_to(rule: str, action: str) -> None:
    said = check(None if rule == "few_pictures" else OLD, {rule: action}, **RULES[rule])
    assert said.outcome == action
    assert said.reasons[0].startswith(f"{rule} ({action}): ")
    assert said.outcome.is_held == (action != "warn")


@pytest.mark.parametrize(
    ("actions", "outcome"),
    [
        ({}, "warn"),
        ({"quarantine": "skip"}, "skip"),
        ({"quarantine": "skip", "source_mix": "fail"}, "fail"),
        ({"few_pictures": "fail"}, "warn"),
    ],
)
def test_the_strictest_broken_rule_decides(actions: dict[str, str], outcome: str) -> None:
    broken = {**RULES["quarantine"], **RULES["source_mix"]}
    assert check(expect=actions, **broken).outcome == outcome


def test_limits_can_be_set() -> None:
    expect = {"max_class_loss": 0.5, "max_quarantine": 0.3, "max_source_mix": 0.6}
    for rule in ("class_loss", "quarantine", "source_mix"):
        assert check(expect=expect, **RULES[rule]).outcome == "ok"


def test_reasons_say_how_much_and_survive_xcom() -> None:
    said = check(pictures={"ant": 100, "cat": 60}, mix={"a": 100, "b": 100})
    assert said.reasons == (
        "class_loss (warn): cat shrank from 100 to 60 pictures (40%, over 30%)",
        "source_mix (warn): 50% of the pictures come from other sources than before, over 30%; most from b",
    )
    assert DataVerdict.from_dict(said.to_dict()) == said
    assert DataVerdict.from_dict({}).outcome == "ok"
