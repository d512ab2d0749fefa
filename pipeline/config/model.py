"""The `model` section: backbone, head, training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline.config.finetune import FinetuneConfig
from pipeline.config.network import NetworkConfig
from pipeline.config.strict import Strict
from pipeline.config.tune import OF_EPOCHS, OF_OUR_HEADS, TuneConfig
from pipeline.types import JsonValue

MAX_EPOCHS = 10_000


class HeadConfig(Strict):
    """The layers that are trained."""

    type: Literal["dense", "logistic", "module"] = Field(
        "dense",
        description="`dense`: a hidden layer, then one output a class. `logistic`: logistic regression on "
        "features of length one. `module`: what the file `module` builds; naming that file is enough.",
    )
    units: int = Field(
        1024, ge=1, le=16384, description="Width of the hidden layer between features and classes."
    )
    module: str = Field(
        "",
        description="A Python file of your own that builds the head instead: a path or `gs://` URI. Its code "
        "runs in the training job.",
    )

    @property
    def kind(self) -> Literal["dense", "logistic", "module"]:
        """The type; a head of which only the file is named is a `module`."""
        return "module" if self.module else self.type

    @model_validator(mode="after")
    def _a_module_has_a_file(self) -> HeadConfig:
        if self.type == "module" and not self.module:
            raise ValueError("`type: module` needs `module`: the path or `gs://` URI of a Python file")
        if self.module and self.type != "module" and "type" in self.model_fields_set:
            raise ValueError(
                f"`module` builds a head that is not `type: {self.type}`; remove one of them, or set "
                "`type: module`"
            )
        return self


class EarlyStoppingConfig(Strict):
    """When training ends before its last epoch."""

    patience: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Stop after so many epochs without a better validation loss; 0: never.",
    )


class AugmentationConfig(Strict):
    """Altered copies of each training picture, always the same ones, so that their features are cached."""

    views: int = Field(
        0, ge=0, le=32, description="Altered copies of each picture: flipped, cropped, lighter or darker."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Another seed alters them otherwise.")


def _tag_backbone(value: JsonValue | NetworkConfig) -> str:
    return "network" if isinstance(value, dict | NetworkConfig) else "name"


class ModelConfig(Strict):
    """The frozen network and how its new head is trained."""

    backbone: Annotated[
        Annotated[str, Tag("name")] | Annotated[NetworkConfig, Tag("network")], Discriminator(_tag_backbone)
    ] = Field(
        "efficientnet_lite0",
        description="The frozen network: `efficientnet_lite0`, `efficientnet_lite1`, `efficientnet_lite2` or "
        "`inception_v3`; or a section that names a file of your own.",
    )
    weights: str = Field(
        "imagenet", description="`imagenet`, or a path or `gs://` URI of a weights file for the backbone."
    )
    head: HeadConfig = Field(default_factory=HeadConfig, description="The layers that are trained.")
    epochs: int = Field(20, ge=1, le=MAX_EPOCHS, description="Passes over the training pictures' features.")
    batch_size: int = Field(32, ge=1, le=65_536, description="Pictures in one training step.")
    learning_rate: float = Field(0.001, gt=0, le=10, description="Step size of the Adam optimiser.")
    seed: int = Field(
        42, ge=0, le=2**31 - 1, description="Seeds the head's first weights and the order of pictures."
    )
    validation_fraction: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Share of the training pictures that judges each epoch; the best epoch is kept. 0: none.",
    )
    validation: Literal["fraction", "given"] = Field(
        "fraction",
        description="`fraction`: pictures that judge are drawn, see `validation_fraction`. `given`: the "
        "validation part that a source brings.",
    )
    early_stopping: EarlyStoppingConfig = Field(
        default_factory=EarlyStoppingConfig, description="When training ends before its last epoch."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="`balanced`: a class counts as much as any other, however few its pictures."
    )
    calibration: Literal["temperature", "none"] = Field(
        "temperature",
        description="`temperature`: one temperature, fitted on training pictures, makes probabilities mean "
        "what they say; no label changes. `none`: those of the softmax as it was trained.",
    )
    augmentation: AugmentationConfig = Field(
        default_factory=AugmentationConfig, description="Altered copies of each training picture."
    )
    warm_start: bool = Field(
        False, description="Begin from the head of the version that serves, if its backbone is the same."
    )
    tune: TuneConfig | None = Field(
        None, description="A study that finds values of parameters; the best ones train. Without it: none."
    )
    finetune: FinetuneConfig | None = Field(
        None, description="Blocks of the backbone that Keras trains together with the head; none by default."
    )

    @property
    def backbone_name(self) -> str:
        """Name of the frozen network; that of its file for one of the user's own."""
        return self.backbone.name if isinstance(self.backbone, NetworkConfig) else self.backbone

    @field_validator("tune")
    @classmethod
    def _a_model_may_have_what_is_tried(
        cls, tune: TuneConfig | None, info: ValidationInfo
    ) -> TuneConfig | None:
        head = info.data.get("head")
        if tune is None or not isinstance(head, HeadConfig):
            return tune
        without = {"logistic": OF_EPOCHS, "module": OF_OUR_HEADS}.get(head.kind, frozenset())
        if unused := sorted(without & tune.parameters.keys()):
            raise ValueError(f"a head of the type `{head.kind}` has no `{unused[0]}`; remove it")
        if info.data.get("warm_start") and "head.units" in tune.parameters:
            raise ValueError(
                "`warm_start` begins from a head of one width; remove it, or `parameters.head.units`"
            )
        section = {
            name: value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value
            for name, value in info.data.items()
        }
        tune.check_model(cls, section)
        return tune

    @model_validator(mode="after")
    def _a_file_brings_its_weights(self) -> ModelConfig:
        if isinstance(self.backbone, NetworkConfig) and self.weights != "imagenet":
            raise ValueError(
                "`weights` are those of a backbone with a name, and the file of `backbone` brings its own; "
                "remove `weights`"
            )
        return self

    @model_validator(mode="after")
    def _patience_needs_a_judge(self) -> ModelConfig:
        has_judges = self.validation == "given" or bool(self.validation_fraction)
        if self.early_stopping.patience and not has_judges:
            raise ValueError(
                "`early_stopping.patience` needs pictures that judge: set `validation_fraction`, e.g. 0.15"
            )
        if self.validation == "given" and self.validation_fraction:
            raise ValueError(
                "`validation: given` and `validation_fraction` are alternatives; keep one of them"
            )
        return self

    @model_validator(mode="after")
    def _only_dense_heads_begin_from_another(self) -> ModelConfig:
        if self.head.kind == "module" and self.warm_start:
            raise ValueError(
                "`warm_start` begins from a head of known layers; remove it, or `head.module`, which builds "
                "others"
            )
        if self.head.kind == "logistic" and self.warm_start:
            raise ValueError(
                "`warm_start` begins from a dense head, and `head.type: logistic` finds its optimum from any "
                "start; remove one of them"
            )
        return self

    @model_validator(mode="after")
    def _finetuning_fits(self) -> ModelConfig:
        if self.finetune is None:
            return self
        if self.tune is not None:
            raise ValueError(
                "`tune` judges heads on frozen features, and `finetune` changes the features; tune first, "
                "write the values that it found, and then set `finetune` without `tune`"
            )
        if isinstance(self.backbone, NetworkConfig):
            raise ValueError(
                "`finetune` trains blocks of a backbone with a name, and a network of your own stays frozen; "
                "remove one of them"
            )
        if self.head.kind != "dense":
            raise ValueError(
                f"`finetune` trains a dense head together with the network, not `type: {self.head.kind}`; "
                "remove one of them"
            )
        if self.warm_start:
            raise ValueError(
                "`warm_start` begins from a head of the same weights, and `finetune` makes new ones each "
                "time; remove one of them"
            )
        return self
