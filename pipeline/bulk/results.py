"""The CSV file of many predictions: a row for each picture, continued after an interruption."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from pipeline.bulk.answers import PicturePrediction
from pipeline.errors import ConfigError, StorageError

COLUMNS = ("file", "classifier", "version", "label", "score", "novelty", "error")


@dataclass(kw_only=True)
class ResultsFile:
    """Appends predictions to a CSV file; only one process does at a time. Use it as a context manager.

    What an earlier run has written stays, without the rows that have an error, whose pictures are asked for
    again, and without a last row that was cut short.

    Args:
        path: The file.
        classifier: Whose answers it has.
    """

    path: Path
    classifier: str
    done: set[str] = field(default_factory=set, init=False)
    version: str | None = field(default=None, init=False)  # of the rows so far
    _old: BinaryIO | None = field(default=None, init=False)
    _file: BinaryIO | None = field(default=None, init=False)

    def __enter__(self) -> ResultsFile:
        """Open the file.

        Raises:
            ConfigError: if it is another file, has the answers of another classifier, or is being written.
            StorageError: if it cannot be written.
        """
        try:
            self._open()
        except OSError as error:
            self._close()
            raise self._unwritable(error) from error
        except ConfigError:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def append(self, answers: Iterable[PicturePrediction]) -> None:
        """Write rows.

        Raises:
            StorageError: if there is no room; the next run drops a row that was cut short.
        """
        assert self._file is not None  # noqa: S101 - for mypy: entered
        try:
            self._file.write(format_answers(answers, self.classifier).encode())
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _open(self) -> None:
        self._old = self.path.open("a+b")
        self._lock(self._old)
        self._old.seek(0)
        rows = self._read_rows(self._old.read())
        kept = [row for row in rows if not row[-1]]
        self.done = {row[0] for row in kept}
        self.version = kept[-1][2] if kept else None
        path = self.path.resolve()  # a link to it stays one
        part = path.with_name(f".{path.name}.part")
        self._file = part.open("wb")
        self._lock(self._file)
        self._file.write(format_rows([COLUMNS, *kept]).encode())
        self._file.flush()
        os.replace(part, path)

    def _lock(self, file: BinaryIO) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{self.path} is being written by another `graft predict`; wait for it, or name another file."
            ) from None

    def _read_rows(self, data: bytes) -> list[list[str]]:
        """Return the whole rows of the file, without its header."""
        if not data:
            return []
        text = data.decode("utf-8", "replace")
        rows, is_whole = parse_rows(text), text.endswith("\n")
        if not rows or tuple(rows[0]) != COLUMNS:
            raise ConfigError(
                f"{self.path} is there already, and `graft predict --out` has not written it: its first line "
                f"is not {','.join(COLUMNS)}. Name another file."
            )
        rows = [row for row in (rows[1:] if is_whole else rows[1:-1]) if len(row) == len(COLUMNS)]
        others = {row[1] for row in rows} - {self.classifier}
        if others:
            raise ConfigError(
                f"{self.path} has answers of {min(others)}, not {self.classifier}; name another file."
            )
        return rows

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.path} cannot be written: {error.strerror}. The rows that are there stay: mend that and "
            "run the same command again, which goes on after them."
        )

    def _close(self) -> None:
        for file in (self._file, self._old):
            try:
                if file is not None:
                    file.close()
            except OSError:  # no room for what is left in the buffer: `append` has raised that
                continue


def format_answers(answers: Iterable[PicturePrediction], classifier: str) -> str:
    """Return the rows of answers as CSV."""
    return format_rows([_row_of(each, classifier) for each in answers])


def format_rows(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def parse_rows(text: str) -> list[list[str]]:
    """Return the rows of a CSV up to the first that is none: a quoted name may be cut short."""
    rows: list[list[str]] = []
    with suppress(csv.Error):
        rows.extend(csv.reader(io.StringIO(text, newline=""), strict=True))
    return rows


def _row_of(answer: PicturePrediction, classifier: str) -> list[str]:
    numbers = ["" if value is None else f"{value:.6f}" for value in (answer.score, answer.novelty)]
    return [answer.file, classifier, answer.version, answer.label or "", *numbers, answer.error or ""]
