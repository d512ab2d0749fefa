"""Format numbers of records: a file without one was written before there were any, and is read."""

from __future__ import annotations

from pipeline.errors import FormatTooNew


def check_format(record: str, number: int, newest: int) -> None:
    """Make sure that this version of Graft reads a record.

    Args:
        record: What the record is called in the message.
        number: The one in the file.
        newest: The newest number that is read.

    Raises:
        FormatTooNew: if the file is of a newer format.
    """
    FormatTooNew.check(record, number, newest)
