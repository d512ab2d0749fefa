"""The `model` section of a YAML is changed, and nothing else."""

from __future__ import annotations

import pytest

from pipeline.config.edit import edit_model, model_section
from pipeline.errors import ConfigError

HEAD = "name: toys\ndataset: {source: {type: sample}}\n"
LOGISTIC = {"model.head.type": "logistic"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD, f"{HEAD}model:\n  head:\n    type: logistic\n"),
        (HEAD.rstrip("\n"), f"{HEAD}model:\n  head:\n    type: logistic\n"),
        (f"model:\n{HEAD}", f"model:\n  head:\n    type: logistic\n{HEAD}"),
        (
            f"model: {{epochs: 3,\n  seed: 1}}  # flow\n# next\n{HEAD}",
            f"model:\n  epochs: 3\n  seed: 1\n  head:\n    type: logistic\n# next\n{HEAD}",
        ),
        (
            f"{HEAD}model:\n  head:\n    units: 4\n  epochs: 3\n\n# gate\ngate: {{min_accuracy: 0.9}}\n",
            f"{HEAD}model:\n  head:\n    units: 4\n    type: logistic\n  epochs: 3\n"
            "\n# gate\ngate: {min_accuracy: 0.9}\n",
        ),
    ],
)
def test_every_other_line_stays(text: str, expected: str) -> None:
    assert edit_model(text, LOGISTIC) == expected


def test_the_section_alone() -> None:
    text = f"{HEAD}model: {{backbone: efficientnet_lite0}}\n"
    section = "model:\n  backbone: efficientnet_lite2\n  head:\n    type: logistic\n"
    assert model_section(text, {"model.backbone": "efficientnet_lite2", **LOGISTIC}) == section


@pytest.mark.parametrize(
    "text",
    [
        "{name: toys, dataset: {source: {type: sample}}, model: {epochs: 3}}\n",
        f"{HEAD}model: &m\n  epochs: 3\nnotify: [{{to: log, on: *m}}]\n",
    ],
)
def test_a_section_that_cannot_be_replaced_by_itself_is_named(text: str) -> None:
    with pytest.raises(ConfigError):
        edit_model(text, LOGISTIC)


def test_what_is_no_classifier_is_not_written() -> None:
    with pytest.raises(ConfigError, match="epochs"):
        edit_model(HEAD, {"model.epochs": 0})
