"""Writes the pages of the reference that the code tells: `make reference`. A test compares them with it.

`docs/yaml/` has a page for each section of a classifier's YAML, from the descriptions that the forms show;
`docs/errors.md` has every error, and `docs/artifacts.md` every place of a bucket.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline import errors
from pipeline.artifacts.folders import Folder
from pipeline.artifacts.workspace import Workspace
from pipeline.config import SOURCE_SECTIONS, Classifier
from pipeline.storage import Storage

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 100
BUCKET = "gs://graft"
NOTE = "<!-- Made by `make reference` from the code; a test compares. -->\n"
SECTIONS = {
    "dataset": "The pictures: their sources, their split, and the checks of each dataset version.",
    "model": "The network, the head that is trained on it, and how.",
    "gate": "What a candidate must reach before it is deployed. See [the gate](../evaluation.md#the-gate).",
    "serving": "How a deployed version answers.",
    "deploy": "Who lets a version through that passed its gate. See [approval](../runs.md#approval).",
    "retrain": "What a run does without anything new. See [change detection](../runs.md#change-detection).",
    "notify": "Who is notified of which outcomes: a list. See [notifications](../runs.md#notifications).",
}
MORE = {
    "dataset.sources": "classifiers.md#sources",
    "dataset.split.method": "splits.md#how-pictures-are-split",
    "dataset.split_changed": "splits.md#how-pictures-are-split",
    "dataset.small_classes": "splits.md#how-pictures-are-split",
    "dataset.window": "splits.md#how-pictures-are-split",
    "dataset.bits": "datasets.md#formats",
    "dataset.expect": "datasets.md#the-data-gate",
    "model.backbone": "classifiers.md#backbones",
    "model.backbone.keras": "classifiers.md#a-network-of-your-own",
    "model.head.module": "classifiers.md#custom-heads",
    "model.validation_fraction": "splits.md#validation",
    "model.calibration": "probabilities.md#calibration",
    "model.augmentation": "classifiers.md#augmentation-and-rejection",
    "model.tune": "classifiers.md#tuning",
    "model.finetune": "classifiers.md#fine-tuning",
    "serving.reject_unlike": "probabilities.md#thresholds",
    "serving.thresholds": "probabilities.md#thresholds",
    "gate.absolute": "evaluation.md#metrics",
    "gate.defaults": "evaluation.md#rules-that-are-always-in-force",
    "gate.override_by": "evaluation.md#override",
}
WORDS = {"ge": "{:,} or more", "gt": "above {:,}", "le": "{:,} or less", "lt": "below {:,}"}
KINDS = {int: "whole number", float: "number", bool: "`true` or `false`", str: "text"}


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def pages() -> dict[Path, str]:
    """Return the text of each page."""
    docs = ROOT / "docs"
    made = {docs / "yaml" / f"{name}.md": section_page(name) for name in SECTIONS}
    made[docs / "yaml" / "sources.md"] = sources_page()
    return made | {docs / "errors.md": errors_page(), docs / "artifacts.md": artifacts_page()}


def fill(text: str, indent: str = "") -> str:
    """Wrap prose at the width of the documentation; links and code stay whole."""
    words = re.findall(r"(?:`[^`]*`|\[[^\]]*\]\([^)]*\)|\S)+", text)
    bullet = re.match(r" *", text)
    lines = [bullet[0] if bullet else ""]
    for word in words:
        gap = "" if not lines[-1].strip() else " "
        if len(lines[-1]) + len(gap) + len(word) > WIDTH:
            lines.append(indent)
            gap = ""
        lines[-1] += gap + word
    return "\n".join(lines)


def section_page(name: str) -> str:
    """Return the page of a section of the YAML."""
    field = Classifier.model_fields[name]
    parts = [f"# `{name}`\n", NOTE, f"{fill(SECTIONS[name])}\n"]
    for model in dict.fromkeys(models_of(field.annotation)):
        parts += (entry(key, each) for key, each in keys_of(model, f"{name}."))
    return "\n".join(parts)


def sources_page() -> str:
    """Return the page of the sources' keys."""
    about = (
        "What `dataset.source` and the entries of `dataset.sources` have. "
        "[Sources](../classifiers.md#sources) has an example of each."
    )
    parts = ["# Sources\n", NOTE, f"{fill(about)}\n"]
    for name, section in SOURCE_SECTIONS.items():
        parts.append(f"## `type: {name}`\n")
        for key, field in section.model_fields.items():
            if key != "type":
                parts.append(fill(f"* `{key}` ({facts(field)}): {field.description}", "  "))
        parts.append("")
    return "\n".join(parts)


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_of(part)


def keys_of(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the keys of a section and of those in it, in their order."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        if name not in ("source", "sources"):
            for inner in dict.fromkeys(models_of(field.annotation)):
                yield from keys_of(inner, f"{prefix}{name}.")


def entry(key: str, field: FieldInfo) -> str:
    """Return what the page has of a key."""
    more = f" [More](../{MORE[key]})." if key in MORE else ""
    return f"## `{key}`\n\n{_capitalize(facts(field))}.\n\n{fill(f'{field.description}{more}')}\n"


def facts(field: FieldInfo) -> str:
    """Return what values a key takes, its bounds and its default."""
    limits = {word: getattr(each, word) for each in field.metadata for word in WORDS if hasattr(each, word)}
    words = [kind_of(field.annotation), bounds_of(limits), default_of(field)]
    return ", ".join(word for word in words if word)


def bounds_of(limits: Mapping[str, float]) -> str:
    """Return bounds in words."""
    if {"ge", "le"} <= limits.keys():
        return "{ge:,} to {le:,}".format(**limits)
    return ", ".join(WORDS[word].format(value) for word, value in limits.items())


def kind_of(annotation: Any) -> str:
    """Return a type in the words of YAML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        kinds = [kind_of(part) for part in arguments if part is not type(None)]
        return " or ".join(dict.fromkeys(kinds))
    if origin is not None and hasattr(annotation, "__metadata__"):
        return kind_of(arguments[0])
    if annotation in KINDS:
        return KINDS[annotation]
    return "list" if origin in (list, tuple) else "section"


def default_of(field: FieldInfo) -> str:
    """Return the default in the words of YAML."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or value in (None, "", [], {}, ()):
        return ""
    shown = (
        str(value).lower() if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else value
    )
    return f"default `{shown}`" if isinstance(value, str | bool | int | float) else ""


def errors_page() -> str:
    """Return the page of all errors."""
    about = (
        "Every error that Graft raises on purpose. `--json` prints its name as `error.type`. A *transient* "
        "error may pass: Airflow tries such a task again, and ends a task with any other error at once. An "
        "error of the engine is an answer with a status of ML Engine v1 ([engine.md](engine.md#answers))."
    )
    parts = ["# Errors\n", NOTE, f"{fill(about)}\n"]
    for depth, error in error_tree(errors.PipelineError):
        first = (inspect.getdoc(error) or "").splitlines()[0]
        transient = " *Transient.*" if error.transient else ""
        parts.append(fill(f"{'  ' * depth}* `{error.__name__}`: {first}{transient}", "  " * (depth + 1)))
    return "\n".join(parts) + "\n"


def error_tree(
    error: type[errors.PipelineError], depth: int = 0
) -> Iterator[tuple[int, type[errors.PipelineError]]]:
    """Yield an error and those below it in the module, with their depth."""
    yield depth, error
    for each in error.__subclasses__():
        if each.__module__ == errors.__name__:
            yield from error_tree(each, depth + 1)


def artifacts_page() -> str:
    """Return the page of what is in a bucket."""
    about = (
        "Where everything is in the bucket, `gs://graft` by default. Words in capitals stand for names and "
        "digests. [Formats](operate.md#formats) describes how records carry their format."
    )
    parts = ["# Artifacts\n", NOTE, f"{fill(about)}\n"]
    workspace = Workspace(Storage.from_environment({}), BUCKET)
    for title, thing in things(workspace):
        parts += [f"## {title}\n", *(fill(f"* `{place}`: {text}", "  ") for place, text in places(thing)), ""]
    return "\n".join(parts)


def things(workspace: Workspace) -> Iterator[tuple[str, Workspace | Folder]]:
    """Yield the bucket, and each of its folders with the first line of its description."""
    yield "The bucket", workspace
    dataset, job = workspace.dataset("NAME"), workspace.job("JOB")
    feedback, uploads = workspace.feedback("NAME"), workspace.uploads("NAME")
    folders: tuple[Folder, ...] = (
        *(dataset, dataset.version("VERSION"), uploads, feedback, job, workspace.model("NAME", "VERSION")),
        *(workspace.run("NAME", "RUN"), workspace.classifier("NAME")),
    )
    for folder in folders:
        yield f"`{folder.uri.removeprefix(f'{BUCKET}/')}`", folder


def places(thing: Workspace | Folder) -> Iterator[tuple[str, str]]:
    """Yield the name of each object that a place has, with the first line of its description."""
    root = f"{thing.uri}/"
    for name, member in vars(type(thing)).items():
        call = member.fget if isinstance(member, property) else member
        if name.startswith("_") or not inspect.isfunction(call):
            continue
        parameters = list(inspect.signature(call).parameters.values())[1:]
        parameters = [each for each in parameters if each.kind is not each.KEYWORD_ONLY]
        place = call(thing, *(0 if each.annotation == "int" else each.name.upper() for each in parameters))
        if isinstance(place, str) and place.startswith(root) and place != root:
            text = (inspect.getdoc(call) or "").splitlines()[0]
            text = re.sub(r"^Return the (URI|folder) (of|with|that) ", "", text)
            text = re.sub(r", with a (trailing )?slash(?=[.;])", "", text)
            yield place if thing.uri == BUCKET else place.removeprefix(root), _capitalize(text)


def _capitalize(text: str) -> str:
    return text[0].upper() + text[1:]


if __name__ == "__main__":
    main()
