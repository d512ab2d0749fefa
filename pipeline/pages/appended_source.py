"""The sources that pages append to a classifier's YAML when a person first gives them pictures."""

from __future__ import annotations

from pipeline.config import Settings
from pipeline.config.files import find_classifier_file, read_classifier
from pipeline.config.yaml_edit import AppendedType, append_source
from pipeline.errors import ConfigError


def add_source(name: str, kind: AppendedType, settings: Settings) -> str:
    """Make a type a source of the classifier; return what to do by hand where that fails."""
    path = find_classifier_file(name, settings)
    if path is None:
        problem = f"no file of a classifier directory is {name}'s."
    else:
        try:
            append_source(path, kind)
        except ConfigError as error:
            problem = error.message
        else:
            return ""
    return f"The pictures are kept, but no run uses them yet: {problem}"


def has_source(name: str, kind: AppendedType, settings: Settings) -> bool | None:
    """Return True if the classifier's file has a source of a type; None if it has no file."""
    path = find_classifier_file(name, settings)
    if path is None:
        return None
    return any(source.type == kind for source in read_classifier(path).dataset.all_sources)
