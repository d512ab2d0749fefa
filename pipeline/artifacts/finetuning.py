"""Fine-tuning: what a training job is told of it, and what it records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.artifacts.codec import as_object, build_record
from pipeline.types import JsonObject

MAX_INPUT_BYTES = 4 * 2**30  # of feature maps or pixels, which a job holds in memory
Inputs = Literal["maps", "pictures"]
Blocks = int | Literal["all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneParameters:
    """How the last blocks of a backbone are trained.

    Args:
        blocks: How many of the last blocks; `all` for the whole network, 0 for the head alone.
        on: `maps`: the cached feature maps that the first trained block is fed. `pictures`: the pixels.
        epochs: Passes over the training pictures, at most.
        learning_rate: Adam's step size.
        augments: Whether pictures are altered anew in each epoch.
    """

    blocks: Blocks
    on: Inputs
    epochs: int
    learning_rate: float
    augments: bool

    @property
    def num_blocks(self) -> int | None:
        """How many blocks; None for the whole network."""
        return None if self.blocks == "all" else self.blocks

    @property
    def changes_network(self) -> bool:
        """Whether more than the head is trained."""
        return self.blocks != 0

    def to_text(self) -> str:
        """Return the argument of a job."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> FinetuneParameters:
        """Read what `to_text` wrote."""
        return build_record(cls, as_object(json.loads(text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneRecord:
    """What fine-tuning did.

    Args:
        blocks: As in `FinetuneParameters`.
        on: As in `FinetuneParameters`.
        learning_rate: As in `FinetuneParameters`.
        augments: As in `FinetuneParameters`.
        trained_parameters: Numbers that were trained, those of the head included.
        history: Loss and accuracy of each epoch, as Keras's `History` has them.
        epochs_run: Epochs of this history.
        best_epoch: The epoch, from 1, whose weights were kept, or to which all pictures then trained.
        weights: URI of the weights of the network as it is now.
        base_weights: URI of the weights that it began from.
        base_features: URIs of the features of the network that it began from.
        resumed_after: How many epochs were done before the program was last started, by this job or another.
        input_bytes: Size of the feature maps or pixels.
        peak_memory_bytes: Of the process that trained.
        cpu_seconds: Of that process, over all threads.
    """

    blocks: Blocks
    on: Inputs
    learning_rate: float
    augments: bool
    trained_parameters: int
    history: Mapping[str, list[float]]
    epochs_run: int
    best_epoch: int
    weights: str
    base_weights: str
    base_features: tuple[str, ...]
    resumed_after: int
    input_bytes: int
    peak_memory_bytes: int
    cpu_seconds: float

    @classmethod
    def from_dict(cls, value: JsonObject) -> FinetuneRecord:
        """Read the record from its JSON.

        Raises:
            RecordInvalid: if a field is missing or unknown.
        """
        uris = value.get("base_features")
        return build_record(cls, value, base_features=tuple(uris) if isinstance(uris, list | tuple) else ())

    @property
    def line(self) -> str:
        """The work in one clause."""
        blocks = {0: "the head alone", 1: "the last block", "all": "the whole network"}
        what = blocks.get(self.blocks, f"the last {self.blocks} blocks")
        where = "feature maps" if self.on == "maps" else "pictures"
        resumed = f", resumed after epoch {self.resumed_after}" if self.resumed_after else ""
        return (
            f"{what} on {where}, {self.trained_parameters} numbers, {self.epochs_run} epochs of which epoch "
            f"{self.best_epoch} was kept, learning rate {self.learning_rate:g}{resumed}; "
            f"{self.peak_memory_bytes / 2**20:.0f} MiB of memory at most"
        )
