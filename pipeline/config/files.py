"""Classifier files: finding them and reading them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.config.classifier import Classifier
from pipeline.config.problems import show, suggest
from pipeline.config.settings import PROJECT_ROOT, Settings
from pipeline.config.yaml_text import parse_yaml
from pipeline.errors import ConfigError


def read_classifier(path: Path) -> Classifier:
    """Read one YAML file; its relative paths are looked for beside it, then in the project's root.

    Raises:
        ConfigError: naming the file, the key and the fix.
    """
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}", origin=str(path)) from error
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path}: expected a mapping with `name` and `dataset`. Received: {show(value)}", origin=str(path)
        )
    gate = Classifier.from_dict(value, origin=str(path)).gate
    if gate.override_by is not None:
        raise ConfigError(
            f"{path}: `gate.override_by` and `gate.override_reason` are parameters of one run, not of a "
            "file: an override that stands is no gate. Remove them.",
            origin=str(path),
        )
    dataset = value["dataset"]
    sources = [source for source in (dataset.get("source"), *(dataset.get("sources") or [])) if source]
    model = value.get("model") or {}
    places = [(source, "uri") for source in sources]
    places += [(model, "weights"), (model.get("head") or {}, "module")]
    if isinstance(model.get("backbone"), dict):
        places += [(model["backbone"], key) for key in ("keras", "onnx", "weights")]
    for section, leaf in places:
        if section.get(leaf):
            section[leaf] = absolute_uri(section[leaf], (path.parent, PROJECT_ROOT))
    return Classifier.from_dict(value, origin=str(path))


def absolute_uri(uri: str, bases: Sequence[Path]) -> str:
    """Return a relative path as an absolute one under the first base that has it, anything else unchanged."""
    path = Path(uri).expanduser()
    if "://" in uri or uri == "imagenet" or path.is_absolute():
        return uri if "://" in uri else str(path)
    candidates = [Path(os.path.normpath(base.absolute() / path)) for base in bases]
    return str(next((path for path in candidates if path.exists()), candidates[0]))


def classifier_files(settings: Settings) -> list[Path]:
    """Return the YAML files of every classifier directory, shipped ones first."""
    paths: list[Path] = []
    for directory in settings.classifier_directories:
        paths += sorted(path for path in directory.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))
    return paths


def find_classifier_file(name: str, settings: Settings) -> Path | None:
    """Return the YAML file of the classifier of this name; None if there is none that can be read."""
    # Most are named like their classifier, and then no other is read.
    for path in sorted(classifier_files(settings), key=lambda path: path.stem != name):
        with contextlib.suppress(ConfigError):
            if read_classifier(path).name == name:
                return path
    return None


def find_classifier(name: str, settings: Settings) -> Classifier:
    """Return the classifier of this name.

    Raises:
        ConfigError: if no YAML has it; the message lists the names there are and the broken files.
    """
    names, broken = [], []
    for path in classifier_files(settings):
        try:
            classifier = read_classifier(path)
        except ConfigError as error:
            if path.stem == name:
                raise
            broken.append(str(error))
            continue
        if classifier.name == name:
            return classifier
        names.append(classifier.name)
    listed = ", ".join(sorted(names)) or "none"
    message = f"no classifier is named {show(name)}{suggest(name, names)}; known: {listed}. Add NAME.yaml to "
    message += "dags/classifiers or to a directory of GRAFT_CLASSIFIERS."
    raise ConfigError(message + ("" if not broken else f" Broken: {'; '.join(broken)}"), classifier=name)
