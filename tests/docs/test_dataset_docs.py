from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.config import ExpectConfig
from pipeline.preprocess.reasons import REASONS

DOCS = Path(__file__).resolve().parents[2] / "docs"
SECTION = (DOCS / "classifiers.md").read_text().split("## What happens to pictures")[1].split("\n## ")[0]
PAGE = (DOCS / "datasets.md").read_text()


def test_the_list_of_reasons_is_closed() -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", SECTION, re.M))
    assert documented == REASONS


def test_every_rule_of_the_code_has_a_reason_of_the_list() -> None:
    from pipeline.pixels import host
    from pipeline.preprocess import reasons

    named = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    assert named | set(host.REASONS) == set(REASONS)


@pytest.mark.parametrize("key", sorted(ExpectConfig.model_fields))
def test_every_rule_of_the_data_gate_is_explained(key: str) -> None:
    assert f"{key}:" in PAGE.split("## The data gate")[1]


@pytest.mark.parametrize(
    "issue", ["near_duplicates", "odd_size", "odd_aspect_ratio", "small_class", "class_imbalance"]
)
def test_every_warning_is_explained(issue: str) -> None:
    assert f"`{issue}`" in PAGE
