"""The choice of a model comparison in the classifier's YAML: shown, kept in the bucket, and written there."""

from __future__ import annotations

from pathlib import Path

import yaml

from pipeline.artifacts.model_comparison import ModelComparison
from pipeline.artifacts.workspace import Workspace
from pipeline.config import ModelConfig, Settings, read_classifier, with_params
from pipeline.config.edit import edit_model, model_section
from pipeline.config.files import find_classifier_file
from pipeline.config.yaml_file import locked, replace_text
from pipeline.errors import ConfigError, ObjectNotFound


def keep_section(workspace: Workspace, comparison: ModelComparison, settings: Settings) -> str:
    """Keep the `model` section of the choice in the bucket, unless it is the present one, and return it."""
    section = choice_section(comparison, settings)
    uri = workspace.classifier(comparison.classifier).comparison_yaml
    if comparison.choice.is_present:
        workspace.storage.delete(uri)
    else:
        workspace.storage.write_bytes(uri, section.encode())
    return section


def choice_section(comparison: ModelComparison, settings: Settings) -> str:
    """Return the `model` section of the choice as YAML.

    It has the words of the classifier's file, paths for instance, unless the file has another model by now.
    """
    path = find_classifier_file(comparison.classifier, settings)
    if path and _same(read_classifier(path).model, _present(comparison)):
        text = path.read_text(encoding="utf-8")
    else:
        text = yaml.safe_dump({"model": comparison.model}, sort_keys=False, allow_unicode=True)
    return model_section(text, comparison.choice.parameters)


def write_last_choice(workspace: Workspace, name: str, settings: Settings) -> Path:
    """Put the choice of a classifier's last comparison into its YAML; the errors are those of `write_choice`.

    Raises:
        ObjectNotFound: if nothing was compared yet.
    """
    comparison = ModelComparison.find(workspace.storage, workspace.classifier(name).comparison)
    if comparison is None:
        raise ObjectNotFound(f"No models of {name} were compared yet; `graft compare {name}` does it.")
    return write_choice(comparison, settings)


def write_choice(comparison: ModelComparison, settings: Settings) -> Path:
    """Replace the `model` section of the classifier's YAML by that of the choice; return the file.

    Nothing is written if the file has the choice already.

    Raises:
        ConfigError: if there is no file, its model is not the one that was compared, its section cannot be
            replaced by itself, or it cannot be written.
    """
    name = comparison.classifier
    path = find_classifier_file(name, settings)
    if path is None:
        raise ConfigError(f"No file of a classifier directory is {name}'s, so its choice was not written.")
    try:
        with locked(path.resolve().parent):
            _write(path, comparison)
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{path} was not changed: {error}") from error
    return path


def _write(path: Path, comparison: ModelComparison) -> None:
    text, classifier = path.read_bytes().decode("utf-8"), read_classifier(path)
    present, parameters = _present(comparison), comparison.choice.parameters
    compared = classifier.model_copy(update={"model": present})
    if _same(classifier.model, with_params(compared, parameters).model):
        return
    if not _same(classifier.model, present):
        raise ConfigError(
            "its `model` is not the one that was compared. Compare again, or put the section in by hand."
        )
    replace_text(path.resolve(), text, edit_model(text, parameters))


def _present(comparison: ModelComparison) -> ModelConfig:
    """Return the model that the classifier had when its models were compared."""
    return ModelConfig.model_validate(comparison.model)


def _same(one: ModelConfig, other: ModelConfig) -> bool:
    return one.model_dump() == other.model_dump()
