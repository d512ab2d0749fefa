"""The pack index: where the training pixels and the encoded test pictures of a dataset version are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from pipeline.artifacts.codec import as_object, build_record, strip_format
from pipeline.storage import Storage
from pipeline.types import JsonObject, JsonValue

FORMAT = 1


@dataclass(frozen=True, slots=True, order=True)
class ShardRow:
    """One picture of a shard.

    Args:
        id: SHA-256 of its pixels.
        label: Index of its class.
        blob: SHA-256 of its file.
    """

    id: str
    label: int
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedShard:
    """A shard of decoded training pixels, named by what it holds.

    Args:
        uri: The NPZ file; it is there once it was packed.
        digest: Of the pixel specification and the rows.
        rows: How many pictures it has.
    """

    uri: str
    digest: str
    rows: int

    @property
    def rows_uri(self) -> str:
        """The list of its pictures, there before its pixels are."""
        return self.uri.removesuffix(".npz") + ".jsonl"

    def write_rows(self, storage: Storage, rows: Sequence[ShardRow]) -> None:
        """Write the list of its pictures, unless it is there."""
        lines = (json.dumps(asdict(row), sort_keys=True) for row in rows)
        storage.create_bytes(self.rows_uri, "".join(f"{line}\n" for line in lines).encode())

    def read_rows(self, storage: Storage) -> Iterator[ShardRow]:
        """Yield its pictures."""
        for line in storage.read_bytes(self.rows_uri).splitlines():
            yield build_record(ShardRow, as_object(json.loads(line)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedTests:
    """A file of encoded test pictures, as batch prediction reads them.

    Args:
        uri: JSONL of `key` and `inputs`.
        rows: How many pictures it has.
    """

    uri: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackIndex:
    """What a training job reads first.

    Args:
        dataset: The classifier's name.
        version: The dataset version.
        spec: The pixel specification, as `PixelSpec.to_dict` has it.
        classes: The label of class 0, of class 1, and so on.
        shards: Training pixels.
        tests: Test pictures; the trainer never opens them.
        groups: URI of the groups that training pictures share; None in the indexes of early releases.
        validation: URI of the ids of training pictures that judge, as their source wants; None without any.
    """

    dataset: str
    version: str
    spec: JsonObject
    classes: Sequence[str]
    shards: Sequence[PackedShard]
    tests: Sequence[PackedTests]
    groups: str | None = None
    validation: str | None = None

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain JSON values."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, value: JsonObject) -> PackIndex:
        """Read what `to_dict` wrote."""
        value = strip_format(value, FORMAT, cls)
        shards = [build_record(PackedShard, each) for each in _objects(value.get("shards"))]
        tests = [build_record(PackedTests, each) for each in _objects(value.get("tests"))]
        return build_record(cls, value, shards=shards, tests=tests)


def read_pack_index(storage: Storage, uri: str) -> PackIndex:
    """Read a pack index.

    Raises:
        ObjectNotFound: if there is none.
    """
    return PackIndex.from_dict(as_object(storage.read_json(uri)))


def read_validation(storage: Storage, index: PackIndex) -> frozenset[str]:
    """Return the ids of the training pictures that judge, as their source wants."""
    ids: list[str] = storage.read_json(index.validation) if index.validation else []
    return frozenset(ids)


def read_groups(storage: Storage, index: PackIndex) -> Mapping[str, str]:
    """Return the group of each training picture that shares one, by picture id."""
    groups: dict[str, str] = storage.read_json(index.groups) if index.groups else {}
    return groups


def _objects(value: JsonValue) -> Iterator[JsonObject]:
    return map(as_object, value if isinstance(value, Sequence) else ())
