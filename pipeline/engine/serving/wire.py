"""Frames on the pipes of a model worker: two lengths, a JSON header, and a payload."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from asyncio import StreamReader

LENGTHS = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message.

    Args:
        header: Small JSON; `messages` has the types of what is in it.
        payload: Bytes that the engine passes on without reading them.
    """

    header: dict[str, Any]
    payload: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the bytes of the frame."""
        header = json.dumps(self.header).encode()
        return LENGTHS.pack(len(header), len(self.payload)) + header + self.payload


async def read_frame(reader: StreamReader) -> Frame:
    """Read one frame from an asyncio stream.

    Raises:
        asyncio.IncompleteReadError: at the end of the stream.
    """
    header_size, payload_size = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
    header = json.loads(await reader.readexactly(header_size))
    return Frame(header, await reader.readexactly(payload_size))


def read_frame_blocking(file: BinaryIO) -> Frame | None:
    """Read one frame from a pipe; None at its end."""
    head = file.read(LENGTHS.size)
    if len(head) < LENGTHS.size:
        return None
    header_size, payload_size = LENGTHS.unpack(head)
    header, payload = file.read(header_size), file.read(payload_size)
    if len(header) < header_size or len(payload) < payload_size:
        return None
    return Frame(json.loads(header), payload)
