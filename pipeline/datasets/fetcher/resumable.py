"""A download in progress that outlives its process: the bytes so far, and what they are a part of."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from pipeline.datasets.fetcher.validators import Validators

MEMORY_BYTES = 2**18


class PartFile:
    """The bytes of one download: in memory while they are few, then in `<digest>.part`.

    A server that proves nothing of a file's state cannot be asked for the rest of it; such a file stays
    without a `.json` beside it and is started again.

    Args:
        directory: Where parts are kept.
        url: What is downloaded; names the file.
    """

    def __init__(self, directory: Path, url: str) -> None:
        name = hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()
        self._path = directory / f"{name}.part"
        self._facts = directory / f"{name}.json"
        self._memory = bytearray()
        self._file: BinaryIO | None = None
        self._validators = Validators()
        self._is_on_disk = os.path.exists(self._path) or os.path.exists(self._facts)

    @property
    def num_bytes(self) -> int:
        """Bytes that are there."""
        if self._file is not None:
            return self._file.tell()
        is_part = self._is_on_disk and self._facts.exists() and self._path.exists()
        return len(self._memory) + (self._path.stat().st_size if is_part else 0)

    def resume_headers(self) -> dict[str, str]:
        """Return what asks for the rest only, empty where everything is to be asked for."""
        if not (self._is_on_disk and self._facts.exists() and self._path.exists()):
            return {}
        if not self._path.stat().st_size:
            return {}
        validators = Validators(**json.loads(self._facts.read_text()))
        condition = validators.range_condition
        if condition is None:
            return {}
        return {"Range": f"bytes={self._path.stat().st_size}-", "If-Range": condition}

    def restart(self, validators: Validators) -> None:
        """Drop what is there; what follows is a file of these validators."""
        self.close()
        self._memory = bytearray()
        if self._is_on_disk:
            self._path.unlink(missing_ok=True)
            self._facts.unlink(missing_ok=True)
            self._is_on_disk = False
        self._validators = validators

    def go_on(self) -> None:
        """Add to what is there."""
        self.close()
        self._file = self._path.open("ab")

    def write(self, data: bytes) -> None:
        """Add bytes."""
        if self._file is None and len(self._memory) + len(data) > MEMORY_BYTES:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._is_on_disk = True
            if self._validators.range_condition is not None:
                self._facts.write_text(json.dumps(asdict(self._validators)))
            self._file = self._path.open("wb")
            self._file.write(self._memory)
            self._memory = bytearray()
        if self._file is None:
            self._memory += data
        else:
            self._file.write(data)
            self._file.flush()

    def read(self) -> bytes:
        """Return all bytes."""
        if self._file is None:
            return bytes(self._memory)
        self._file.flush()
        return self._path.read_bytes()

    def close(self) -> None:
        """Close the file; it stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def drop(self) -> None:
        """Remove the file."""
        self.restart(Validators())
