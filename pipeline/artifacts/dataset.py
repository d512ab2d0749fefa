"""A dataset version as a whole, and which of a dataset's versions is the latest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from pipeline.artifacts.codec import as_object, build_record, strip_format
from pipeline.artifacts.folders import DatasetFolder, DatasetVersionFolder
from pipeline.errors import ObjectNotFound
from pipeline.pixels.spec import ALL_BITS
from pipeline.types import JsonObject, JsonValue

LATEST_FORMAT = 1  # of latest.json, and of what carries over: split registry, takedowns, decisions
FORMAT = 1  # of dataset.json and the manifest beside it


class DataOutcome(StrEnum):
    """What a run does after the data gate; the strictest broken rule decides."""

    OK = "ok"
    WARN = "warn"
    SKIP = "skip"
    FAIL = "fail"

    @property
    def is_held(self) -> bool:
        """True if the version is held back and nothing is trained."""
        return self in (DataOutcome.SKIP, DataOutcome.FAIL)


EXPORT_LABELS = "labels.json"  # beside the exported NPZ files


@dataclass(frozen=True, slots=True, kw_only=True)
class DataVerdict:
    """The data gate's decision.

    Args:
        outcome: What the run does.
        reasons: Every rule that was broken, led by its key and what was asked for.
    """

    outcome: DataOutcome = DataOutcome.OK
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain JSON values."""
        return {"outcome": str(self.outcome), "reasons": list(self.reasons)}

    @classmethod
    def from_dict(cls, value: JsonObject) -> DataVerdict:
        """Read what `to_dict` wrote; a version without a verdict was let through."""
        reasons = value.get("reasons", ())
        return cls(
            outcome=DataOutcome(str(value.get("outcome", DataOutcome.OK))),
            reasons=tuple(map(str, reasons)) if isinstance(reasons, Sequence) else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSettings:
    """The `split` section of the classifier, as the version was made with it."""

    method: str
    test_fraction: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """A dataset version as a whole: `dataset.json`.

    Args:
        dataset: The classifier's name.
        version: Digest of the rows and the classes.
        classes: The label of class 0, of class 1, and so on.
        pictures: Kept pictures by class.
        train: Training pictures by class.
        test: Test pictures by class.
        rejected: Pictures that were not kept, by reason.
        source: The `source` section of the classifier.
        split: Its `split` section.
        run_id: The run that made the version.
        created_at: When, UTC.
        warnings: What a user should know about it.
        found: Pictures that the source named, kept or not.
        licenses: Kept pictures by licence.
        mix: Kept pictures by where they came from.
        requests: HTTP requests that the run took to read the source.
        previous: The version that the data gate compared it with.
        expect: The data gate's verdict in the run that made the version.
        bits: How many bits of 16-bit gray files it uses.
    """

    dataset: str
    version: str
    classes: Sequence[str]
    pictures: Mapping[str, int]
    train: Mapping[str, int]
    test: Mapping[str, int]
    rejected: Mapping[str, int]
    source: JsonObject
    split: SplitSettings
    run_id: str
    created_at: str
    warnings: Sequence[str] = ()
    found: int = 0
    licenses: Mapping[str, int] = field(default_factory=dict)
    mix: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0
    previous: str | None = None
    expect: DataVerdict = DataVerdict()
    bits: int = ALL_BITS

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain JSON values; earlier releases read those of versions that use all bits."""
        values = {"format": FORMAT, **asdict(self), "expect": self.expect.to_dict()}
        return values if self.bits != ALL_BITS else {name: values[name] for name in values if name != "bits"}

    @classmethod
    def from_dict(cls, value: JsonObject) -> DatasetInfo:
        """Read what `to_dict` wrote; counts come in the order of the classes again."""
        value = strip_format(value, FORMAT, cls)
        split = build_record(SplitSettings, as_object(value.get("split")))
        expect = DataVerdict.from_dict(as_object(value.get("expect")))
        info = build_record(cls, value, split=split, expect=expect)

        def ordered(counts: Mapping[str, int]) -> dict[str, int]:
            return {label: counts[label] for label in info.classes}

        return replace(
            info, pictures=ordered(info.pictures), train=ordered(info.train), test=ordered(info.test)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestVersion:
    """The pointer to a dataset's latest version: `latest.json`.

    Args:
        version: The last version that the data gate let through; None before the first.
        held: A version that it held back since then.
    """

    version: str | None = None
    held: str | None = None

    @property
    def versions(self) -> list[str]:
        """Both, without those that are None."""
        return [version for version in (self.version, self.held) if version is not None]


def read_info(version: DatasetVersionFolder) -> DatasetInfo:
    """Read what a dataset version is as a whole.

    Raises:
        ObjectNotFound: if there is no such version, or it was not finished.
    """
    return DatasetInfo.from_dict(version.storage.read_json(version.info))


def write_info(info: DatasetInfo, version: DatasetVersionFolder) -> None:
    """Write `dataset.json`, which completes the version."""
    version.storage.write_json(version.info, info.to_dict())


def read_latest(dataset: DatasetFolder) -> LatestVersion:
    """Read which version is the latest; both fields are None before the first."""
    try:
        value = dataset.storage.read_json(dataset.latest)
        return build_record(LatestVersion, strip_format(value, LATEST_FORMAT, LatestVersion))
    except ObjectNotFound:
        return LatestVersion()


def write_latest(dataset: DatasetFolder, version: str, *, held: bool = False) -> None:
    """Make a version the latest, or name it as held back beside the latest."""
    old = read_latest(dataset)
    new = replace(old, held=version) if held else LatestVersion(version=version)
    if new != old:
        named = {name: value for name, value in asdict(new).items() if value is not None}
        dataset.storage.write_json(dataset.latest, {"format": LATEST_FORMAT, **named})


def list_versions(dataset: DatasetFolder) -> list[str]:
    """Return the finished versions of a dataset, oldest first."""
    return [info.version for info in list_infos(dataset)]


def list_infos(dataset: DatasetFolder) -> list[DatasetInfo]:
    """Return every finished version of a dataset, oldest first."""
    uris = (uri for uri in dataset.storage.list_uris(f"{dataset.uri}/") if uri.endswith("/dataset.json"))
    infos = [DatasetInfo.from_dict(dataset.storage.read_json(uri)) for uri in uris]
    return sorted(infos, key=lambda info: (info.created_at, info.version))
