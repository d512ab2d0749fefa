"""The `dataset` section: sources and split."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from pipeline.config.expect import ExpectConfig
from pipeline.config.gate import ChangeAction
from pipeline.config.sources import Label, SourceConfig
from pipeline.config.strict import Strict
from pipeline.types import JsonDict


class FetchConfig(Strict):
    """How pictures are downloaded."""

    chunks: int = Field(2, ge=1, le=64, description="Tasks that share the work of one run.")
    concurrency: int = Field(16, ge=1, le=64, description="Downloads at the same time in one task.")
    requests_per_second: float = Field(
        20.0, gt=0, description="Requests that one host gets in a second, from all tasks together."
    )
    max_picture_bytes: int = Field(
        15_000_000, ge=1024, le=100_000_000, description="A larger picture file is refused."
    )
    deadline_seconds: float = Field(120.0, gt=0, description="A picture that takes longer is refused.")
    min_bytes_per_second: int = Field(
        1024, ge=0, description="A slower server is refused, after the first five seconds."
    )
    honour_opt_outs: bool = Field(
        True, description="Whether pictures marked `noai` or `noindex` by X-Robots-Tag are left alone."
    )


class SplitConfig(Strict):
    """Which pictures are for testing, which for training."""

    method: Literal["hash", "random", "given"] = Field(
        "hash",
        description="`hash`: a test set that a source brings is kept, all else goes by content, sticky over "
        "later dataset versions. `given`: a source must bring one. "
        "`random`: scikit-learn's train_test_split, as in the article.",
    )
    test_fraction: float = Field(0.2, gt=0, lt=1, description="Share of the pictures kept for the test.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Salt of `hash`, random_state of `random`.")


class MergeInto(Strict):
    """Where the pictures of small classes go."""

    merge_into: Label = Field(description="The class that takes their pictures; it may be a new one.")


SmallClasses: TypeAlias = Literal["drop", "fail"] | MergeInto


class WindowConfig(Strict):
    """Which pictures are recent enough to be used."""

    days: int | None = Field(None, ge=1, description="Pictures retrieved in so many days before the newest.")
    pictures: int | None = Field(None, ge=1, description="So many of the pictures retrieved last.")
    min_test: int = Field(
        100, ge=1, description="Older test pictures stay until the window has so many test pictures."
    )

    @model_validator(mode="after")
    def _has_one_bound(self) -> WindowConfig:
        if (self.days is None) == (self.pictures is None):
            raise ValueError("a window is `days` or `pictures`; give one of them")
        return self


class DatasetConfig(Strict):
    """The pictures of a classifier."""

    source: SourceConfig | None = Field(None, description="Where the pictures come from.")
    sources: list[SourceConfig] | None = Field(
        None, min_length=1, description="Several places that pictures come from, instead of `source`."
    )
    fetch: FetchConfig = Field(
        default_factory=FetchConfig, description="How pictures are downloaded from the network."
    )
    split: SplitConfig = Field(
        default_factory=SplitConfig, description="Which pictures are for testing, which for training."
    )
    split_changed: ChangeAction = Field(
        "require_approval",
        description="What happens when the test pictures are chosen in another way than the champion's were.",
    )
    as_of: Annotated[str, Field(pattern=r"^d_[0-9a-f]+$")] | None = Field(
        None,
        description="A dataset version to train on as it is, instead of what the sources have now.",
    )
    bits: Literal[8, 10, 12, 14, 16] = Field(
        16,
        description="How many of 16 bits the levels of gray PNG and TIFF use, as those of microscopes and "
        "X-ray devices: training and predictions keep the highest eight of them.",
    )
    merge_mirrored: bool = Field(
        True, description="Whether a mirrored or turned copy counts as a near duplicate of its original."
    )
    small_classes: SmallClasses = Field(
        "drop",
        description="What happens to classes of fewer than two different pictures, which can be trained or "
        "tested but not both: `drop`, `fail`, or `{merge_into: LABEL}`. Classes that the sources list by "
        "name are not dropped.",
    )
    window: WindowConfig | None = Field(
        None, description="Use only the pictures retrieved last; all of them by default."
    )
    expect: ExpectConfig = Field(
        default_factory=ExpectConfig,
        description="Checks of a new dataset version, and what happens when one fails.",
    )

    @model_validator(mode="after")
    def _has_pictures_of_two_classes(self) -> DatasetConfig:
        if self.source is not None and self.sources is not None:
            raise ValueError("`dataset.source` and `dataset.sources` are alternatives; keep one of them")
        if self.source is None and self.sources is None:
            raise ValueError("`dataset.source` is missing; add it, or several as a list `dataset.sources`")
        declared = [source.declared_classes for source in self.all_sources]
        labels = {label for labels in declared for label in labels or []}
        if None not in declared and len(labels) < 2:
            raise ValueError(
                "a classifier needs at least two classes; `classes`, `label` and `queries` name "
                f"{', '.join(sorted(labels)) or 'none'}"
            )
        return self

    @model_validator(mode="after")
    def _feedback_never_tests(self) -> DatasetConfig:
        if self.split.method == "random" and any(source.type == "feedback" for source in self.all_sources):
            raise ValueError(
                "a source of type `feedback` only trains, and `split.method: random` would test with it too; "
                "set `split.method: hash`"
            )
        return self

    @property
    def all_sources(self) -> list[SourceConfig]:
        """The sources, be it one or several."""
        return [self.source] if self.source is not None else list(self.sources or [])

    @property
    def has_one_source(self) -> bool:
        """Whether a single source gives all pictures."""
        return len(self.all_sources) == 1

    @property
    def has_one_layout(self) -> bool:
        """Whether all pictures but uploads and feedback are of one source, whose classes stay."""
        return sum(source.type not in ("uploads", "feedback") for source in self.all_sources) <= 1

    @property
    def uses_network(self) -> bool:
        """Whether any source downloads pictures one by one."""
        return any(source.is_network for source in self.all_sources)

    @property
    def named_classes(self) -> list[str]:
        """The classes that the sources name, in their order."""
        return list(
            dict.fromkeys(label for source in self.all_sources for label in source.declared_classes or [])
        )

    def order_classes(self, labels: Iterable[str]) -> list[str]:
        """Return the labels in class order: those the sources name, as they name them, then others sorted."""
        named = self.named_classes
        return [*named, *sorted(set(labels) - {*named, ""})]

    def describe_sources(self) -> JsonDict:
        """Return the source's section, or the types and the list of several; passwords are left out."""
        sections = [source.model_dump(mode="json", exclude_none=True) for source in self.all_sources]
        for section in sections:
            if "uri" in section:
                section["uri"] = re.sub(r"(?<=://)[^/@]*@", "", section["uri"])
        if len(sections) == 1:
            return sections[0]
        return {"type": ", ".join(section["type"] for section in sections), "sources": sections}
