"""The glossary has every section of the YAML, every artifact and every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.config import Classifier

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
TERMS = [
    term.strip().replace("**", "")
    for line in GLOSSARY.splitlines()
    if line.startswith("| ") and not line.startswith("| term")
    for term in line.split("|")[1].split(",")
]


def test_every_term_is_defined_once() -> None:
    assert sorted(TERMS) == sorted(set(TERMS))


@pytest.mark.parametrize(
    "section", [name for name in Classifier.model_fields if name not in ("name", "description")]
)
def test_every_section_of_the_yaml_is_defined(section: str) -> None:
    assert f"`{section}`" in TERMS


HOW_RECORDS_ARE_READ = ("__init__", "codec", "formats", "integrity")  # no artifacts themselves


@pytest.mark.parametrize(
    "module",
    sorted({path.stem for path in (ROOT / "pipeline" / "artifacts").glob("*.py")} - {*HOW_RECORDS_ARE_READ}),
)
def test_every_artifact_is_defined(module: str) -> None:
    words = {
        "dataset": "dataset version",
        "model_record": "lineage",
        "folders": "workspace",
        "steps": "run summary",
    }
    words |= {"training": "training record", "pack": "pack index", "finetuning": "fine-tuning"}
    words |= {"takedowns": "takedown", "uploads": "upload"}
    words |= {"model_files": "model directory", "held_out_answers": "held-out answers"}
    assert words.get(module, module.replace("_", " ")) in TERMS


def test_every_page_is_defined() -> None:
    pages = re.findall(r"^\| \*([^*]+)\* \| `/graft/", (ROOT / "docs" / "pages.md").read_text(), re.MULTILINE)
    assert len(pages) >= 7
    assert {f"*{page}*" for page in pages} <= set(TERMS)
