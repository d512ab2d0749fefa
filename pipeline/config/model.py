"""The `model` section: backbone, head, training."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.strict import Strict


class HeadConfig(Strict):
    """The layers that are trained."""

    units: int = Field(
        1024, ge=1, le=16384, description="Width of the hidden layer between features and classes."
    )


class ModelConfig(Strict):
    """The frozen network and how its new head is trained."""

    backbone: str = Field(
        "efficientnet_lite0", description="The frozen network: `efficientnet_lite0` or `inception_v3`."
    )
    weights: str = Field(
        "imagenet", description="`imagenet`, or a path or `gs://` URI of a weights file for the backbone."
    )
    head: HeadConfig = Field(default_factory=HeadConfig, description="The layers that are trained.")
    epochs: int = Field(20, ge=1, le=10_000, description="Passes over the training pictures' features.")
    batch_size: int = Field(32, ge=1, le=65_536, description="Pictures in one training step.")
    learning_rate: float = Field(0.001, gt=0, le=10, description="Step size of the Adam optimiser.")
    seed: int = Field(
        42, ge=0, le=2**31 - 1, description="Seeds the head's first weights and the order of pictures."
    )
