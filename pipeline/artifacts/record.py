"""The base of records that are dataclasses: plain JSON values out, checked values in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self, cast

from pipeline.artifacts.formats import check_format
from pipeline.artifacts.integrity import check_record, damaged, sign_record
from pipeline.errors import ObjectNotFound, RecordInvalid
from pipeline.storage import Storage
from pipeline.types import JsonDict, JsonObject

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record that a bucket or XCom keeps as JSON.

    The keys are the names of the fields. Other keys are ignored, so that a file of the same format number may
    hold more than this version of Graft reads.
    """

    FORMAT: ClassVar[int | None] = None  # written with the record where it has one
    FORMAT_KEY: ClassVar[str] = "format"
    IS_SIGNED: ClassVar[bool] = False  # whether it is written with a digest of its own, against damage
    OMITS_DEFAULTS: ClassVar[bool] = False  # whether a field that has its default has no key

    def to_dict(self) -> JsonDict:
        """Return plain JSON values."""
        value: JsonDict = _adapter(type(self)).dump_python(
            self, mode="json", exclude_defaults=self.OMITS_DEFAULTS
        )
        return value if self.FORMAT is None else {self.FORMAT_KEY: self.FORMAT, **value}

    @classmethod
    def from_dict(cls, value: JsonObject) -> Self:
        """Read what `to_dict` wrote, now or in an earlier version.

        Raises:
            FormatTooNew: if a newer version of Graft wrote it.
            RecordInvalid: if it is no such record, naming the fields that are wrong.
        """
        from pydantic import ValidationError

        if cls.FORMAT is not None:
            number = value.get(cls.FORMAT_KEY, 0)
            check_format(cls.__name__, number if isinstance(number, int) else cls.FORMAT + 1, cls.FORMAT)
        try:
            return cast("Self", _adapter(cls).validate_python(value))
        except ValidationError as error:
            raise RecordInvalid(f"This is no {cls.__name__}: {error}") from error

    @classmethod
    def read(cls, storage: Storage, uri: str) -> Self:
        """Read a record from a bucket.

        Raises:
            DamagedObject: if it is not what was written, naming it.
        """
        try:
            value = storage.read_json(uri)
        except ValueError as error:  # no JSON, or no UTF-8
            raise damaged(uri, str(error)) from error
        return cls.from_dict(check_record(value, uri))

    @classmethod
    def find(cls, storage: Storage, uri: str) -> Self | None:
        """Return a record from a bucket, None where there is none."""
        try:
            return cls.read(storage, uri)
        except ObjectNotFound:
            return None

    def write(self, storage: Storage, uri: str) -> None:
        """Write the record to a bucket."""
        value = self.to_dict()
        storage.write_json(uri, sign_record(value) if self.IS_SIGNED else value)


_ADAPTERS: dict[type[Record], TypeAdapter[Record]] = {}  # one takes milliseconds to make


def _adapter(record: type[Record]) -> TypeAdapter[Record]:
    from pydantic import TypeAdapter

    if record not in _ADAPTERS:
        _ADAPTERS[record] = TypeAdapter(record)
    return _ADAPTERS[record]
