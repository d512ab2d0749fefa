from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from pipeline.backbones.table import BACKBONES
from pipeline.config import RUN_PARAMS, SOURCE_SECTIONS, Classifier, GateConfig, Settings
from pipeline.engine.runtimes import RUNTIMES
from pipeline.engine.settings import EngineSettings

ROOT = Path(__file__).resolve().parents[2]
CLASSIFIERS_PAGE = (ROOT / "docs" / "classifiers.md").read_text()
YAML_PAGES = {path.stem: path.read_text() for path in (ROOT / "docs" / "yaml").glob("*.md")}
ENGINE_PAGE = (ROOT / "docs" / "engine.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize("key", sorted(keys(Classifier)))
def test_every_key_of_a_classifier_is_documented(key: str) -> None:
    section = key.partition(".")[0]
    assert f"## `{key}" in YAML_PAGES[section] if section in YAML_PAGES else f"`{key}`" in CLASSIFIERS_PAGE


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_of(part)


def bounds(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys that hold numbers within bounds, and the bounds in words."""
    words = {"ge": "{:,} or more", "gt": "above {:,}", "le": "{:,} or less", "lt": "below {:,}"}
    for name, field in model.model_fields.items():
        found = {
            word: getattr(each, word) for each in field.metadata for word in words if hasattr(each, word)
        }
        if {"ge", "le"} <= found.keys():
            yield f"{prefix}{name}", "{ge:,} to {le:,}".format(**found)
        elif found:
            yield f"{prefix}{name}", ", ".join(words[word].format(value) for word, value in found.items())
        if name not in ("source", "sources"):
            for inner in dict.fromkeys(models_of(field.annotation)):
                yield from bounds(inner, f"{prefix}{name}.")


@pytest.mark.parametrize(("key", "text"), sorted(bounds(Classifier)))
def test_every_bound_is_documented(key: str, text: str) -> None:
    page = YAML_PAGES[key.partition(".")[0]]
    assert text in page.split(f"## `{key}`\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("type", sorted(SOURCE_SECTIONS))
def test_every_bound_of_a_source_is_documented(type: str) -> None:
    section = YAML_PAGES["sources"].split(f"## `type: {type}`")[1].split("\n## ")[0]
    for key, text in bounds(SOURCE_SECTIONS[type]):
        (entry,) = re.findall(rf"^\* `{key}` \((.*?)\): ", section, re.M | re.S)
        assert text in " ".join(entry.split())


@pytest.mark.parametrize("name", RUN_PARAMS)
def test_every_run_parameter_is_documented(name: str) -> None:
    section = CLASSIFIERS_PAGE.split("## Parameters of one run")[1].split("##")[0]
    assert f"`{name}`" in section


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented(name: str) -> None:
    assert f"`GRAFT_{name.upper()}`" in CLASSIFIERS_PAGE


def test_the_example_in_the_documentation_is_valid() -> None:
    text = CLASSIFIERS_PAGE.split("```yaml")[1].split("```")[0]
    assert Classifier.from_dict(yaml.safe_load(text)).gate.limits["accuracy"].min == 0.95


def test_the_example_in_the_readme_is_valid() -> None:
    value = yaml.safe_load((ROOT / "README.md").read_text().split("```yaml")[1].split("```")[0])
    assert "gate" not in value  # the default one protects what serves
    classifier = Classifier.from_dict(value)
    assert (classifier.schedule, classifier.gate.min_accuracy) == ("@weekly", 0.8)
    assert classifier.gate.defaults.switched_off == ()


@pytest.mark.parametrize("type", sorted(SOURCE_SECTIONS))
def test_every_source_has_an_example_and_its_keys_are_documented(type: str) -> None:
    section = CLASSIFIERS_PAGE.split(f"### `{type}`")[1].split("\n## ")[0].split("\n### ")[0]
    example = yaml.safe_load(section.split("```yaml")[1].split("```")[0])
    sources = [*example, {"type": "sample"}]
    assert example[0]["type"] == type
    assert Classifier.from_dict({"name": "m", "dataset": {"sources": sources}}).dataset.sources
    for key in SOURCE_SECTIONS[type].model_fields:
        assert f"`{key}`" in CLASSIFIERS_PAGE.split("## Sources")[1].split("\n## ")[0]


@pytest.mark.parametrize("model", [Classifier, *SOURCE_SECTIONS.values(), GateConfig, Settings])
def test_every_field_has_a_description_for_the_form(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_link_only_to_what_exists(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name", sorted(EngineSettings.model_fields))
def test_every_setting_of_the_engine_is_documented(name: str) -> None:
    assert f"`GRAFT_ENGINE_{name.upper()}`" in ENGINE_PAGE


@pytest.mark.parametrize("name", sorted(RUNTIMES))
def test_every_runtime_is_documented(name: str) -> None:
    assert f"`{name}`" in ENGINE_PAGE


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_is_documented(name: str) -> None:
    assert f"`{name}`" in CLASSIFIERS_PAGE or name in CLASSIFIERS_PAGE


def yaml_blocks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each block of YAML that is a classifier, or sections of one, with the page and its number."""
    for page in PAGES:
        for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.S | re.M)):
            value = yaml.safe_load(text)
            if isinstance(value, dict) and value.keys() <= Classifier.model_fields.keys():
                yield f"{page.name}-{number}", value


@pytest.mark.parametrize("value", [pytest.param(value, id=where) for where, value in yaml_blocks()])
def test_every_example_of_yaml_is_valid(value: dict[str, Any]) -> None:
    dataset = value.get("dataset", {})
    source = {} if {"source", "sources"} & dataset.keys() else {"source": {"type": "sample"}}
    Classifier.from_dict({"name": "m"} | value | {"dataset": dataset | source})
