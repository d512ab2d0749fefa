"""The `dataset` section: sources and split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.config.expect import ExpectConfig
from pipeline.config.strict import Strict


class SourceConfig(Strict):
    """Where the pictures come from."""

    type: Literal["folder", "npz", "sample"] = Field(
        description="`folder`: a sub-folder per class. `npz`: arrays `features` and `labels`. "
        "`sample`: the pictures that come with Graft."
    )
    uri: str | None = Field(
        None,
        description="A path, `file://`, `gs://bucket/prefix` or, for `npz`, `http(s)://` address.",
    )
    classes: list[str] | None = Field(
        None,
        description="The label of class 0, of class 1, ... `npz` needs it; others take the names found.",
    )

    @model_validator(mode="after")
    def _fits_its_type(self) -> SourceConfig:
        if self.type == "sample" and self.uri is not None:
            raise ValueError(
                "a `sample` source takes no `uri`; use `type: folder` or `type: npz` for your own pictures"
            )
        if self.type != "sample" and not self.uri:
            raise ValueError(f"a `{self.type}` source needs `uri`")
        if self.type == "npz" and not self.classes:
            raise ValueError("an `npz` source needs `classes`: the label of class 0, of class 1, ...")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError(f"`classes` has a label twice: {self.classes}")
        if self.classes is not None and len(self.classes) < 2:
            raise ValueError(f"a classifier needs at least two classes; `classes` has {len(self.classes)}")
        return self


class SplitConfig(Strict):
    """Which pictures test and which train."""

    method: Literal["hash", "random"] = Field(
        "hash",
        description="`hash`: by content, sticky over later dataset versions. "
        "`random`: scikit-learn's train_test_split, as in the article.",
    )
    test_fraction: float = Field(0.2, gt=0, lt=1, description="Share of the pictures kept for the test.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Salt of `hash`, random_state of `random`.")


class DatasetConfig(Strict):
    """The pictures of a classifier."""

    source: SourceConfig = Field(description="Where the pictures come from.")
    split: SplitConfig = Field(
        default_factory=SplitConfig, description="Which pictures test and which train."
    )
    merge_mirrored: bool = Field(
        False, description="Whether a mirrored copy counts as a near duplicate of its original."
    )
    expect: ExpectConfig = Field(
        default_factory=ExpectConfig,
        description="What a dataset version may not do unnoticed, and what happens when it does.",
    )
