"""The thresholds of a classifier's YAML, read as they are and replaced by those of a page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.classifier import Classifier
from pipeline.config.edit import edit_section
from pipeline.config.files import find_classifier_file, read_classifier
from pipeline.config.serving import ServingConfig
from pipeline.config.settings import Settings
from pipeline.config.yaml_file import locked, replace_text
from pipeline.config.yaml_text import parse_yaml
from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenServing:
    """The `serving` section of a classifier's file.

    Args:
        serving: The section, with its defaults.
        digest: SHA-256 of the file, which tells whether it was changed since.
    """

    serving: ServingConfig
    digest: str


def read_serving(name: str, settings: Settings) -> WrittenServing | None:
    """Return the `serving` section of a classifier's file; None if there is no file, or it is broken."""
    path = find_classifier_file(name, settings)
    if path is None:
        return None
    try:
        return WrittenServing(serving=read_classifier(path).serving, digest=_digest(path.read_bytes()))
    except (OSError, ConfigError):
        return None


def write_thresholds(name: str, thresholds: Mapping[str, float], settings: Settings, *, digest: str) -> Path:
    """Put thresholds in place of those of a classifier's YAML; return the file.

    Args:
        name: The classifier.
        thresholds: Probabilities by class.
        settings: Where its file is.
        digest: SHA-256 of the file that the person has seen.

    Raises:
        ConfigError: if there is no file, it was changed since, its section cannot be replaced by itself, or
            it cannot be written.
    """
    path = find_classifier_file(name, settings)
    if path is None:
        raise ConfigError(f"No file of a classifier directory is {name}'s, so no thresholds were written.")
    try:
        with locked(path.resolve().parent):
            _write(path, thresholds, digest)
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{path} was not changed: {error}") from error
    return path


def _write(path: Path, thresholds: Mapping[str, float], digest: str) -> None:
    data = path.read_bytes()
    if _digest(data) != digest:
        raise ConfigError("somebody has changed it since the page was shown. Look at the page again.")
    text = data.decode("utf-8")
    value = parse_yaml(text)
    old = Classifier.from_dict(value if isinstance(value, dict) else {}, origin=str(path)).serving
    if dict(old.thresholds) != dict(thresholds):
        replace_text(
            path.resolve(), text, edit_section(text, "serving", {"serving.thresholds": dict(thresholds)})
        )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
