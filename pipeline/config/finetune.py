"""`model.finetune`: blocks of the backbone that are trained too."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.artifacts.finetuning import Blocks, FinetuneParameters
from pipeline.config.strict import Strict
from pipeline.types import JsonValue

EPOCHS, LEARNING_RATE = 8, 0.0001


def _check_blocks(value: JsonValue) -> JsonValue:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if value != "all" and not is_count:
        raise ValueError("a number of blocks, 0 for the head alone, or `all` for the whole network")
    return value


class FinetuneConfig(Strict):
    """Blocks of the backbone that Keras trains together with the head."""

    blocks: Annotated[Blocks, BeforeValidator(_check_blocks)] = Field(
        description="How many of the last blocks; `all`: the whole network; 0: the head alone, on pictures."
    )
    on: Literal["maps", "pictures"] | None = Field(
        None,
        description="`maps`: cached feature maps below the first trained block. `pictures`: the pixels; the "
        "default for `all` and 0.",
    )
    epochs: int | None = Field(
        None, ge=1, le=10_000, description="Passes over the training pictures; 8, and `model.epochs` for 0."
    )
    learning_rate: float | None = Field(
        None, gt=0, le=10, description="Step size of Adam; 0.0001, and `model.learning_rate` for 0 blocks."
    )
    augmentation: bool = Field(
        False, description="Flip, shift, zoom and brighten each picture anew in each epoch; on pictures only."
    )

    @property
    def inputs(self) -> Literal["maps", "pictures"]:
        """What the trained blocks are fed."""
        return self.on or ("pictures" if self.blocks in ("all", 0) else "maps")

    def parameters(self, *, epochs: int, learning_rate: float) -> FinetuneParameters:
        """Return what a job is told.

        Args:
            epochs: Those of the head, which hold where nothing but the head is trained.
            learning_rate: That of the head.
        """
        is_head = self.blocks == 0
        return FinetuneParameters(
            blocks=self.blocks,
            on=self.inputs,
            epochs=self.epochs or (epochs if is_head else EPOCHS),
            learning_rate=self.learning_rate or (learning_rate if is_head else LEARNING_RATE),
            augments=self.augmentation,
        )

    @model_validator(mode="after")
    def _maps_lie_below_a_block(self) -> FinetuneConfig:
        if self.inputs == "maps" and self.blocks == 0:
            raise ValueError("`blocks: 0` trains the head alone, on features as always; set `on: pictures`")
        if self.inputs == "maps" and self.blocks == "all":
            raise ValueError("below `blocks: all` there are no feature maps; set `on: pictures`")
        if self.inputs == "maps" and self.augmentation:
            raise ValueError(
                "`augmentation` alters pictures, and `on: maps` reads cached feature maps; set "
                "`on: pictures`, or `model.augmentation.views` instead"
            )
        return self
