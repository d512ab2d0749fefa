"""The options of a comparison: backbones x heads x values of parameters, over a classifier's YAML."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.artifacts.model_comparison import Setting
from pipeline.artifacts.training import TrainingSpec
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import BACKBONES, find_backbone
from pipeline.config import Classifier, full_name, parameter_value, with_params
from pipeline.errors import ConfigError, WeightsNotFound
from pipeline.submission.staged_weights import check_packaged
from pipeline.submission.training_spec import build_training_spec

MAX_OPTIONS = 100
HEADS = ("dense", "logistic")
BACKBONE, HEAD, WEIGHTS = "model.backbone", "model.head.type", "model.weights"
MODULE, WARM_START = "model.head.module", "model.warm_start"
OWN_OPTIONS = (BACKBONE, HEAD)  # of the command line
OF_EPOCHS = frozenset(  # what logistic regression has no use for
    f"model.{name}"
    for name in ("epochs", "batch_size", "learning_rate", "head.units", "early_stopping.patience")
) | {"model.validation_fraction"}
_OF_PICTURES = ("backbone", "head_module", "validation_fraction", "views", "views_seed")
Parameters = Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A model that a classifier could have.

    Args:
        classifier: The classifier with it.
        parameters: What differs from the classifier's YAML, by dotted keys.
        name: Backbone, head and what else differs.
    """

    classifier: Classifier
    parameters: Parameters
    name: str

    def training_spec(self, *, pack_index: str, weights: str, workspace: str, module: str) -> TrainingSpec:
        """Return what a job is told; a head begins anew, because the one that serves has seen all pictures.

        Args:
            pack_index: URI of the pack index.
            weights: URI of the staged weights.
            workspace: URI of the workspace.
            module: URI of the staged file of a custom head; empty for others.
        """
        return build_training_spec(
            self.classifier, pack_index=pack_index, weights=weights, workspace=workspace, head_module=module
        )

    @property
    def key(self) -> tuple[str, ...]:
        """What two options must share to be the same model."""
        model = self.classifier.model
        spec = self.training_spec(pack_index="", weights="", workspace="", module=model.head.module)
        shared = {**spec.head_parameters(), **{name: getattr(spec, name) for name in _OF_PICTURES}}
        return (model.weights, *(f"{name}={value}" for name, value in sorted(shared.items())))


def make_options(
    classifier: Classifier,
    *,
    backbones: Sequence[str],
    heads: Sequence[str],
    grid: Mapping[str, Sequence[Setting]],
) -> list[Option]:
    """Return the classifier's present model, and every combination that is another one.

    Args:
        classifier: The classifier's YAML.
        backbones: Names of the backbone table; the present one if there are none.
        heads: Types of heads; the present one if there are none.
        grid: Values of other parameters of the `model` section, by name.

    Raises:
        ConfigError: for a parameter or a value that a model cannot have, and for too many options.
    """
    if classifier.model.finetune:
        raise ConfigError(
            "heads are compared on features of a frozen network; remove `model.finetune` from the YAML to "
            "compare what it would begin from"
        )
    present = Option(classifier=classifier, parameters={}, name=_name(classifier, {}))
    options = {present.key: present}
    axes: list[list[Parameters]] = [
        [{BACKBONE: name} for name in backbones] or [{}],
        [{HEAD: name} for name in heads] or [{}],
    ]
    for key, values in _full_names(grid).items():
        axes.append([{key: value} for value in values])
    for number, parts in enumerate(itertools.product(*axes), start=1):
        if number > MAX_OPTIONS:
            raise ConfigError(f"more than {MAX_OPTIONS} options; compare fewer values at once")
        merged = {name: value for part in parts for name, value in part.items()}
        option = _make_option(classifier, merged)
        options.setdefault(option.key, option)
    return list(options.values())


def available_backbones(workspace: Workspace, names: Iterable[str] = BACKBONES) -> list[str]:
    """Return the backbones whose weights are installed or staged."""
    return [name for name in names if _is_available(workspace, name)]


def _is_available(workspace: Workspace, name: str) -> bool:
    backbone = find_backbone(name)
    try:
        check_packaged(workspace, backbone, "imagenet")
    except WeightsNotFound:
        return False
    return bool(backbone.weights_package)  # others would be downloaded


def _full_names(grid: Mapping[str, Sequence[Setting]]) -> dict[str, Sequence[Setting]]:
    named: dict[str, Sequence[Setting]] = {}
    for short, values in grid.items():
        name = full_name(short)
        if not name.startswith("model.") or name in (*OWN_OPTIONS, WEIGHTS, WARM_START, MODULE):
            raise ConfigError(
                f"`{name}` cannot be compared; give parameters of `model` such as `model.epochs=10,40`, and "
                "`--backbone` and `--head` for those two",
                unknown=[name],
            )
        named[name] = values
    return named


def _make_option(classifier: Classifier, wanted: Parameters) -> Option:
    parameters = dict(_with_companions(classifier, wanted))
    changed = with_params(classifier, parameters)
    return Option(classifier=changed, parameters=parameters, name=_name(changed, parameters))


def _with_companions(classifier: Classifier, wanted: Parameters) -> Iterator[tuple[str, Setting]]:
    """Yield what differs from the YAML, and what then has to differ, too."""
    model = classifier.model
    if wanted.get(BACKBONE, model.backbone) != model.backbone:
        yield BACKBONE, wanted[BACKBONE]
        if model.weights != "imagenet" and WEIGHTS not in wanted:
            yield WEIGHTS, "imagenet"
    if wanted.get(HEAD, model.head.kind) != model.head.kind:
        yield HEAD, wanted[HEAD]
        if model.head.module:
            yield MODULE, ""
        if model.warm_start:
            yield WARM_START, False
    unused = OF_EPOCHS if wanted.get(HEAD, model.head.kind) == "logistic" else frozenset()
    for name, value in wanted.items():
        if name not in (*OWN_OPTIONS, *unused) and value != parameter_value(classifier, name):
            yield name, value


def _name(classifier: Classifier, parameters: Parameters) -> str:
    model = classifier.model
    others = {
        name.removeprefix("model."): value
        for name, value in parameters.items()
        if name not in (*OWN_OPTIONS, WEIGHTS, MODULE, WARM_START)
    }
    return " ".join(
        [model.backbone_name, model.head.kind, *(f"{key}={value}" for key, value in others.items())]
    )
