from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import (
    RUN_PARAMS,
    SHIPPED_CLASSIFIERS,
    Classifier,
    Settings,
    find_classifier,
    parameter_schema,
    parameter_value,
    read_classifier,
    with_params,
)
from pipeline.errors import ConfigError

SMALL: dict[str, Any] = {"name": "toys", "dataset": {"source": {"type": "folder", "uri": "/pictures"}}}


def changed(**sections: Any) -> dict[str, Any]:
    return {**SMALL, **sections}


def classifier_of(**sections: Any) -> Classifier:
    return Classifier.from_dict(changed(**sections))


class TestDefaults:
    def test_are_the_articles_head_and_a_sticky_split(self) -> None:
        small = Classifier.from_dict(SMALL)
        assert small.dataset.split.model_dump() == {"method": "hash", "test_fraction": 0.2, "seed": 0}
        assert (small.model.backbone, small.model.head.units, small.model.epochs) == (
            "efficientnet_lite0",
            1024,
            20,
        )
        assert small.gate.limits["accuracy"].min == 0.8
        assert small.schedule is None

    def test_what_was_said_goes_round_and_nothing_else(self) -> None:
        assert Classifier.from_dict(SMALL).to_dict() == SMALL
        full = changed(
            gate={"absolute": {"loss": {"max": 0.5}}}, model={"head": {"units": 8}}, schedule="@daily"
        )
        assert Classifier.from_dict(full).to_dict() == full


class TestRefusals:
    @pytest.mark.parametrize(
        ("sections", "match"),
        [
            ({"colour": 1}, "unknown key `colour`"),
            ({"model": {"head": {"unit": 5}}}, r"unknown key `model\.head\.unit`; remove it or correct"),
            (
                {"retrain": {"quiet_seconds": 5}},
                r"`retrain\.quiet_seconds` is called `retrain\.debounce_seconds` now; rename it",
            ),
            ({"name": "to-ys"}, "`name`.*Received: 'to-ys'"),
            ({"dataset": {}}, r"`dataset\.source` is missing; add it"),
            ({"dataset": {"source": {"type": "web"}}}, "`dataset.source.type` .*folder, npz, .*: 'web'"),
            ({"dataset": {"source": {"type": "folder"}}}, "a `folder` source needs `uri`"),
            ({"dataset": {"source": {"type": "sample", "uri": "x"}}}, "a `sample` source takes no `uri`"),
            ({"dataset": {"source": {"type": "npz", "uri": "x"}}}, "needs `classes`"),
            ({"dataset": {"source": {"type": "sample", "classes": ["a"]}}}, "at least two classes"),
            ({"dataset": {"source": {"type": "sample", "classes": ["a", "a"]}}}, "a label twice"),
            ({"dataset": {**SMALL["dataset"], "split": {"test_fraction": 1}}}, r"`.*\.test_fraction`"),
            ({"model": {"epochs": 0}}, r"`model\.epochs`.*Received: 0"),
            ({"gate": {}}, "the gate has no rule"),
            ({"gate": {"absolute": {"accuracy": {}}}}, "a limit needs `min`, `max` or `min_lower_bound`"),
            ({"gate": {"absolute": {"f1": {"min": 1}}}}, "'accuracy', 'loss', 'macro_f1'"),
            ({"gate": {"change": {"loss": {}}}}, "a change needs `max_drop` or `max_relative_drop`"),
            ({"gate": {"non_inferiority": {"margin": 0}}}, r"`gate\.non_inferiority\.margin`"),
            ({"gate": {"slices": ["size"]}}, "the gate has no rule"),
            ({"gate": {"slices": [{"by": "size", "most": 1}]}}, r"unknown key `gate\.slices\[0\]\.most`"),
            ({"gate": {"slices": "size", "size_mb": 9}}, r"`gate\.slices`"),
            ({"gate": {"first_version": "refuse"}}, "the gate has no rule"),
            ({"gate": {"size_mb": 9, "override_by": "Ada"}}, "needs both `override_by`"),
            ({"gate": {"size_mb": 9, "override_by": "Ada", "override_reason": " "}}, "needs both"),
            ({"gate": {"min_accuracy": 0.9, "absolute": {"accuracy": {"min": 0.8}}}}, "say the same thing"),
            ({"schedule": "sometimes"}, "cron line of five fields or one of @once"),
        ],
    )  # fmt: skip
    def test_names_the_key_and_the_fix(self, sections: dict[str, Any], match: str) -> None:
        with pytest.raises(ConfigError, match=match):
            classifier_of(**sections)

    def test_all_wrong_keys_are_said_at_once(self) -> None:
        with pytest.raises(ConfigError, match=r"(?s)`one`.*`two`"):
            classifier_of(one=1, two=2)


class TestGate:
    def test_shorthands_and_limits_are_one(self) -> None:
        gate = classifier_of(
            gate={"min_accuracy": 0.9, "max_loss": 0.3, "absolute": {"accuracy": {"max": 1}}}
        ).gate
        assert {name: (limit.min, limit.max) for name, limit in gate.limits.items()} == {
            "accuracy": (0.9, 1.0),
            "loss": (None, 0.3),
        }

    @pytest.mark.parametrize(
        "gate",
        [
            {"change": {"ece": {"max_relative_drop": 0.1}}},
            {"non_inferiority": {"margin": 0.02}},
            {"per_class": {"recall": {"min": 0.5}}},
            {"slices": ["label", {"by": "size", "min": 0.5}]},
            {"latency_ms": {"p95": 50}},
            {"size_mb": 30},
        ],
    )
    def test_each_kind_of_rule_is_enough(self, gate: dict[str, Any]) -> None:
        config = classifier_of(gate=gate).gate
        assert config.limits == {}
        assert classifier_of(gate=config.model_dump(exclude_unset=True)).gate == config

    def test_a_slice_may_be_a_name(self) -> None:
        gate = classifier_of(gate={"slices": ["license"], "min_accuracy": 0.5}).gate
        assert [(rule.by, rule.has_limit) for rule in gate.slices] == [("license", False)]

    def test_an_override_is_of_one_run_and_not_of_a_file(self, tmp_path: Path) -> None:
        base = Classifier.from_dict(SMALL)
        override = {"gate.override_by": "Ada", "gate.override_reason": "demo"}
        assert with_params(base, override).gate.override_by == "Ada"
        with pytest.raises(ConfigError, match="needs both"):
            with_params(base, {"gate.override_by": "Ada"})
        path = tmp_path / "toys.yaml"
        gate = {"min_accuracy": 0.5, "override_by": "Ada", "override_reason": "always"}
        path.write_text(yaml.safe_dump(changed(gate=gate)))
        with pytest.raises(ConfigError, match="parameters of one run, not of a file"):
            read_classifier(path)

    def test_a_number_of_pictures_alone_is_a_rule(self) -> None:
        assert classifier_of(gate={"min_test_pictures": 5}).gate.limits == {}


class TestRunParameters:
    @pytest.mark.parametrize("name", RUN_PARAMS)
    def test_each_has_a_description_and_a_value(self, name: str) -> None:
        assert parameter_schema(name)["description"]
        parameter_value(Classifier.from_dict(SMALL), name)

    def test_change_one_value_and_keep_the_rest(self) -> None:
        base = classifier_of(model={"epochs": 5, "seed": 3})
        new = with_params(
            base, {"model.epochs": 7, "dataset.split.method": "random", "model.batch_size": None}
        )
        assert new.to_dict()["model"] == {"epochs": 7, "seed": 3}
        assert new.dataset.split.method == "random"
        assert base.model.epochs == 5

    def test_may_be_shortened_while_only_one_ends_so(self) -> None:
        assert with_params(Classifier.from_dict(SMALL), {"epochs": 3}).model.epochs == 3
        with pytest.raises(
            ConfigError, match=r"`seed` is ambiguous; use one of dataset\.split\.seed, model\.seed"
        ):
            with_params(Classifier.from_dict(SMALL), {"seed": 3})

    def test_unknown_one_lists_the_known(self) -> None:
        with pytest.raises(
            ConfigError,
            match=r"unknown parameter `model\.epoch` \(did you mean `model\.epochs`\?\); known: dataset",
        ):
            with_params(Classifier.from_dict(SMALL), {"model.epoch": 3})

    @pytest.mark.parametrize("names", [("epochs", "model.epochs"), ("model.epochs", "epochs")])
    def test_one_that_is_given_twice_is_refused(self, names: tuple[str, str]) -> None:
        with pytest.raises(
            ConfigError, match="`{}` and `{}` are the same parameter; give it once".format(*names)
        ):
            with_params(Classifier.from_dict(SMALL), dict.fromkeys(names, 3))

    @pytest.mark.parametrize(
        ("section", "key"), [("model", "model.epochs"), ("dataset.split", "dataset.split.seed")]
    )
    def test_a_section_in_the_place_of_a_parameter_names_its_keys(self, section: str, key: str) -> None:
        with pytest.raises(ConfigError, match=rf"`{section}` is a section.*with dots: .*{key}"):
            with_params(Classifier.from_dict(SMALL), {section: {"epochs": 3}})

    def test_a_bad_value_names_the_run(self) -> None:
        with pytest.raises(ConfigError, match=r"parameters of toys: `model\.epochs`.*Received: -1"):
            with_params(Classifier.from_dict(SMALL), {"model.epochs": -1})

    def test_a_shorthand_replaces_the_long_form(self) -> None:
        base = classifier_of(gate={"absolute": {"accuracy": {"min": 0.9, "max": 1.0}, "loss": {"max": 1.0}}})
        limits = with_params(base, {"gate.min_accuracy": 0.5, "gate.max_loss": 2.0}).gate.limits
        assert (limits["accuracy"].min, limits["accuracy"].max, limits["loss"].max) == (0.5, 1.0, 2.0)

    def test_the_default_gate_survives_another_rule(self) -> None:
        changed_gate = with_params(Classifier.from_dict(SMALL), {"gate.min_test_pictures": 9}).gate
        assert changed_gate.limits["accuracy"].min == 0.8
        assert changed_gate.min_test_pictures == 9

    def test_every_parameter_takes_its_own_value(self) -> None:
        base = Classifier.from_dict(SMALL)
        same = with_params(base, {name: parameter_value(base, name) for name in RUN_PARAMS})
        assert same.model_dump() == base.model_dump()


class TestFiles:
    @pytest.mark.parametrize("name", ["surfaces", "opera_capitol"])
    def test_shipped_classifiers_are_good_and_named_by_their_file(self, name: str) -> None:
        assert read_classifier(SHIPPED_CLASSIFIERS / f"{name}.yaml").name == name

    def test_opera_capitol_is_the_articles_split(self) -> None:
        dataset = read_classifier(SHIPPED_CLASSIFIERS / "opera_capitol.yaml").dataset
        assert dataset.split.model_dump() == {"method": "random", "test_fraction": 0.2, "seed": 42}
        assert dataset.source.classes == ["opera house", "capitol"]

    @pytest.mark.parametrize(
        ("text", "match"),
        [("a: [", "not readable as YAML"), ("- a\n", "expected a mapping"), ("", "Received: None")],
    )
    def test_broken_yaml_names_the_file(self, tmp_path: Path, text: str, match: str) -> None:
        path = tmp_path / "broken.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=rf"(?s)broken\.yaml.*{match}"):
            read_classifier(path)

    def test_relative_paths_are_looked_for_beside_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "pictures").mkdir()
        path = tmp_path / "toys.yaml"
        path.write_text(yaml.safe_dump(changed(dataset={"source": {"type": "folder", "uri": "pictures"}})))
        assert read_classifier(path).dataset.source.uri == str(tmp_path / "pictures")

    @pytest.mark.parametrize("uri", ["gs://demo/pictures", "https://host/a.npz", "/absolute"])
    def test_other_addresses_stay_as_they_are(self, tmp_path: Path, uri: str) -> None:
        path = tmp_path / "toys.yaml"
        path.write_text(yaml.safe_dump(changed(dataset={"source": {"type": "folder", "uri": uri}})))
        assert read_classifier(path).dataset.source.uri == uri


class TestFinding:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        (tmp_path / "toys.yaml").write_text(yaml.safe_dump(SMALL))
        (tmp_path / "notes.txt").write_text("no classifier")
        return Settings(home=tmp_path, classifiers=str(tmp_path))

    def test_further_directories_are_searched(self, settings: Settings) -> None:
        assert find_classifier("toys", settings).name == "toys"
        assert find_classifier("surfaces", settings).name == "surfaces"

    def test_unknown_name_lists_the_known_and_the_broken(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "bad.yaml").write_text("nam: x")
        with pytest.raises(
            ConfigError, match=r"no classifier is named 'none'; known: .*toys.*Broken: .*bad\.yaml"
        ):
            find_classifier("none", settings)

    def test_a_broken_file_harms_only_its_own_name(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "bad.yaml").write_text("nam: x")
        assert find_classifier("toys", settings).name == "toys"
        with pytest.raises(ConfigError, match=r"bad\.yaml: .*unknown key `nam`"):
            find_classifier("bad", settings)

    def test_environment_sets_the_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir("/")
        monkeypatch.setenv("GRAFT_HOME", "state")
        monkeypatch.setenv("GRAFT_BUCKET", "other")
        settings = Settings()
        assert settings.home == Path("/state")
        assert settings.workspace == "gs://other"


def test_the_sample_says_that_its_accuracy_is_no_achievement() -> None:
    description = read_classifier(SHIPPED_CLASSIFIERS / "surfaces.yaml").description
    assert "An easy sample, tiles of three photographs" in description
