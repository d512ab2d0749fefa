"""Records of the files that training jobs share: converted trunks, and templates of SavedModels.

Each carries a digest of itself: an offset that is one digit off would write a model that answers wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

from pipeline.artifacts.codec import as_object, build_record, strip_format
from pipeline.artifacts.integrity import digest_of
from pipeline.errors import RecordInvalid
from pipeline.types import JsonObject, JsonValue

FORMAT = 1
RECORD_DIGEST = "record_sha256"  # of a record, over all its other keys; `sha256` is that of its file
RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkRecord:
    """What is known of a backbone's TFLite conversion, which answers as TensorFlow does.

    Args:
        sha256: Of the flat buffer.
        features: TensorFlow's pooled features of the noise picture, `noise_picture` of `trainer.trunk`.
        largest_difference: Between LiteRT's pooled features and TensorFlow's, as a share of the largest one.
        made_by: Versions of what converted it.
        format: Of this record.
    """

    sha256: str
    features: tuple[float, ...]
    largest_difference: float
    made_by: Mapping[str, str]
    format: int = FORMAT

    def to_dict(self) -> JsonObject:
        """Return plain JSON values, and a digest of them."""
        return _sign(asdict(self))

    @classmethod
    def from_dict(cls, value: JsonObject) -> TrunkRecord:
        """Read what `to_dict` wrote.

        Raises:
            RecordInvalid: if it is not what was written, or of an earlier release and has no digest.
        """
        plain = _check(value, cls)
        return build_record(cls, plain, features=_read_numbers(plain.get("features")))


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRecord:
    """Where in a template's `saved_model.pb` the numbers are that differ from model to model.

    Args:
        sha256: Of the file.
        offsets: Where the bytes of each array begin, by the array's name.
        sizes: How many bytes each array has.
        files: The small files that belong to the SavedModel, by path, as base64.
        made_by: Versions of what exported it.
        format: Of this record.
    """

    sha256: str
    offsets: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    files: Mapping[str, str]
    made_by: Mapping[str, str]
    format: int = FORMAT

    def to_dict(self) -> JsonObject:
        """Return plain JSON values, and a digest of them."""
        return _sign(asdict(self))

    @classmethod
    def from_dict(cls, value: JsonObject) -> TemplateRecord:
        """Read what `to_dict` wrote.

        Raises:
            RecordInvalid: if it is not what was written, or of an earlier release and has no digest.
        """
        plain = _check(value, cls)
        offsets = plain.get("offsets")
        if not isinstance(offsets, Mapping):
            raise RecordInvalid(f"TemplateRecord cannot be read: offsets are {offsets!r:.100}.")
        places = {name: tuple(map(int, _read_numbers(each))) for name, each in offsets.items()}
        return build_record(cls, plain, offsets=places)


def _sign(value: JsonObject) -> JsonObject:
    return {**value, RECORD_DIGEST: digest_of(value)}


def _check(value: JsonObject, record: type[RecordT]) -> JsonObject:
    """Return the fields of a record whose digest is right."""
    signed = {name: field for name, field in as_object(value).items() if name != RECORD_DIGEST}
    plain = strip_format(signed, FORMAT, record)
    if not signed or value.get(RECORD_DIGEST) != digest_of(signed):
        raise RecordInvalid(
            f"{record.__name__} is damaged: its `{RECORD_DIGEST}` is not that of its other keys."
        )
    return plain


def _read_numbers(value: JsonValue) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)):
        raise RecordInvalid(f"A record holds {value!r:.100} where a list of numbers was expected.")
    return tuple(number for number in value if isinstance(number, (int, float)))
