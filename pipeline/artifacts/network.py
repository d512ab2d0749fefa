"""The record of a network of the user's own: what jobs must know of it, beside its staged weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pipeline.artifacts.codec import build_record, strip_format
from pipeline.artifacts.workspace import Workspace
from pipeline.types import JsonObject

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRecord:
    """What was found in a network's file.

    Args:
        name: Of the file.
        height: Rows of its input, pixels.
        width: Columns of its input, pixels.
        feature_width: Length of its pooled features.
        output: The layer or tensor that the features are the output of.
        has_map: Whether the features are the mean of a feature map over its places.
        largest_difference: Between LiteRT's features and the file's, as a share of the largest feature.
        made_by: Versions of what converted it.
        format: Of this record.
    """

    name: str
    height: int
    width: int
    feature_width: int
    output: str
    has_map: bool
    largest_difference: float
    made_by: Mapping[str, str]
    format: int = FORMAT

    def to_dict(self) -> JsonObject:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: JsonObject) -> NetworkRecord:
        """Read what `to_dict` wrote.

        Raises:
            FormatTooNew: if a newer version of Graft wrote it.
            RecordInvalid: if it is another record.
        """
        return build_record(cls, strip_format(value, FORMAT, cls))

    def write(self, workspace: Workspace, digest: str) -> None:
        """Write the record of the weights that have this digest."""
        workspace.storage.write_json(workspace.network(digest), self.to_dict())

    @classmethod
    def read(cls, workspace: Workspace, digest: str) -> NetworkRecord:
        """Read the record of the weights that have this digest.

        Raises:
            ObjectNotFound: if there is none.
            FormatTooNew: if a newer version of Graft wrote it.
        """
        return cls.from_dict(workspace.storage.read_json(workspace.network(digest)))
