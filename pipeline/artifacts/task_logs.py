"""Logs of Airflow's tasks in the bucket: what a machine wrote of one, in pieces, then in one object.

`<workspace>/airflow/logs/<path>/<part>/<offset>` are the pieces of a part while its task runs, and
`<workspace>/airflow/logs/<path>/<part>.log` is the part when it is complete. A task that was deferred has a
part of each worker that ran it. The paths are those of the files below Airflow's own folder of logs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.errors import ObjectNotFound
from pipeline.storage import Storage

WHOLE = ".log"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """What one process wrote of a log.

    Args:
        storage: Reads and writes URIs.
        uri: Of the part, without what tells its objects apart.
    """

    storage: Storage
    uri: str

    @property
    def machine(self) -> str:
        """Who wrote it."""
        return self.uri.rpartition("/")[2].partition("-")[2]

    def write_piece(self, offset: int, data: bytes) -> None:
        """Write a piece, which begins at an offset of the part."""
        self.storage.write_bytes(f"{self.uri}/{offset:015d}", data)

    def complete(self, file: BinaryIO, *, num_pieces: int) -> None:
        """Write the part whole, from where a file is now; its pieces are not needed any more."""
        self.storage.write_large(f"{self.uri}{WHOLE}", lambda target: shutil.copyfileobj(file, target))
        if num_pieces:
            self.storage.delete_tree(self.uri)

    def read_lines(self) -> Iterator[str]:
        """Yield its lines; the last one may not be complete yet."""
        rest = b""
        for data in self._read():
            *lines, rest = (rest + data).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")

    def _read(self) -> Iterator[bytes]:
        position = 0
        for uri in self.storage.list_uris(f"{self.uri}/"):
            try:
                data = self.storage.read_bytes(uri)
            except ObjectNotFound:  # it was completed meanwhile
                break
            yield data
            position += len(data)
        else:
            if position:
                return
        try:
            yield self.storage.read_bytes(f"{self.uri}{WHOLE}")[position:]
        except ObjectNotFound:
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLogFolder:
    """All logs of tasks.

    Args:
        storage: Reads and writes URIs.
        uri: Of the folder, with a trailing slash.
    """

    storage: Storage
    uri: str

    def part(self, path: str, moment: float, machine: str) -> LogPart:
        """Return where to write a part of a log.

        Args:
            path: Of the log, relative to Airflow's folder of logs.
            moment: When it was begun, in seconds of the epoch; parts are read in this order.
            machine: Who writes it.
        """
        name = f"{moment * 1000:015.0f}-{machine}"
        return LogPart(storage=self.storage, uri=f"{self.uri}{path}/{name}")

    def parts(self, path: str) -> list[LogPart]:
        """Return the parts of a log and of its triggers' logs, whose names are longer, in their order."""
        names: dict[str, None] = {}
        for uri in self.storage.list_uris(f"{self.uri}{path}"):
            is_whole = uri.endswith(WHOLE)
            names[uri.removesuffix(WHOLE) if is_whole else uri.rpartition("/")[0]] = None
        return [LogPart(storage=self.storage, uri=name) for name in sorted(names)]
