"""The file of a new classifier: written as a person would write it, checked first, never over another."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import yaml

from pipeline.config.classifier import Classifier
from pipeline.config.files import classifier_files, read_classifier
from pipeline.config.problems import show
from pipeline.config.settings import Settings
from pipeline.config.yaml_text import parse_yaml
from pipeline.errors import ClassifierExists, ConfigError
from pipeline.types import JsonObject


def write_yaml(value: JsonObject, comments: Iterable[str] = ()) -> str:
    """Return a classifier as YAML: comments, then a block for each section, in their order."""
    head = "".join(f"# {' '.join(line.split())}\n" for line in comments)  # a label may hold a line break
    blocks = (
        yaml.safe_dump({key: section}, sort_keys=False, allow_unicode=True, width=100)
        for key, section in value.items()
    )
    return head + "".join(blocks)


def check_text(text: str, *, origin: str = "the YAML") -> Classifier:
    """Return the classifier that a text is the YAML of.

    Raises:
        ConfigError: with each wrong key, and how to fix it.
    """
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{origin} is not readable: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{origin}: expected a mapping with `name` and `dataset`. Received: {show(value)}")
    return Classifier.from_dict(value, origin=origin)


def create_classifier_file(text: str, directory: Path, settings: Settings) -> Path:
    """Write the YAML of a new classifier; of several at once with one name, one is written.

    Args:
        text: The YAML.
        directory: Where to; it is made if need be. The file is named like the classifier.
        settings: Tell where the other classifiers are.

    Raises:
        ClassifierExists: if there is a classifier of this name, or a file.
        ConfigError: if the text is none, or cannot be written.
    """
    name = check_text(text).name
    path = directory / f"{name}.yaml"
    _refuse_taken(name, settings)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Checked as the file that it will be, and complete from the moment that it has its name.
        handle, part = tempfile.mkstemp(prefix=f".{name[:80]}.", suffix=".part", dir=directory)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            _check_file(Path(part), path)
            os.chmod(part, 0o644)
            os.link(part, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)
    except FileExistsError:
        raise ClassifierExists(
            f"{path} is there already; choose another name, or change that file."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def _check_file(part: Path, path: Path) -> None:
    try:
        read_classifier(part)
    except ConfigError as error:
        raise ConfigError(error.message.replace(str(part), str(path))) from error


def _refuse_taken(name: str, settings: Settings) -> None:
    for path in classifier_files(settings):
        if path.stem == name or _name_in(path) == name:
            raise ClassifierExists(
                f"{name} is the name of {path} already; choose another one, or add pictures to that one."
            )


def _name_in(path: Path) -> str | None:
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a broken file has an error of its own
        return None
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) else None
