"""A head in one file that is mapped into memory; its name is its SHA-256.

Eight bytes with the length of an index, the index as JSON, then the members, each at a multiple of 64 bytes:
the labels, the thresholds, and the arrays as `.npy`. Several processes that map it share its pages. Standard
library only: the engine's API process writes it from the files of a version.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.tflite.manifest import TFLiteManifest
from pipeline.tflite.parts import read_head_members

NETWORK, SPEC, HEADS = "network", "spec", "heads"  # in the directory of a trunk
ALIGNMENT = 64
LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSource:
    """Where a trunk finds a head.

    Args:
        digest: The SHA-256 of the file.
        path: The file.
    """

    digest: str
    path: str

    def to_dict(self) -> dict[str, str]:
        """Return the source as JSON."""
        return asdict(self)


def write_head(directory: Path, manifest: TFLiteManifest, heads: Path) -> HeadSource:
    """Write the head of a model into a directory of heads, unless it is there.

    Args:
        directory: The model directory.
        manifest: Its manifest.
        heads: The destination.

    Raises:
        TFLiteUnavailable: if a file of the model is not the one in the manifest, or no archive of arrays.
    """
    data = pack_members(read_head_members(directory, manifest))
    digest = hashlib.sha256(data).hexdigest()
    path = heads / digest
    heads.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{digest}.{uuid.uuid4().hex}.part")
    partial.write_bytes(data)
    partial.replace(path)  # also where a file is: it may be damaged
    return HeadSource(digest=digest, path=str(path.absolute()))


def pack_members(members: Mapping[str, bytes]) -> bytes:
    """Return the bytes of a file with these members."""
    sizes = {name: len(data) for name, data in members.items()}
    index = json.dumps(sizes).encode()
    parts = [len(index).to_bytes(LENGTH_BYTES, "big") + index, *members.values()]
    return b"".join(part + bytes(-len(part) % ALIGNMENT) for part in parts)


def unpack_members(data: memoryview) -> dict[str, memoryview]:
    """Return the members of a file that `pack_members` made.

    Raises:
        ValueError: if it is another file.
    """
    length = int.from_bytes(data[:LENGTH_BYTES], "big")
    sizes: dict[str, int] = json.loads(bytes(data[LENGTH_BYTES : LENGTH_BYTES + length]))
    members, start = {}, _aligned(LENGTH_BYTES + length)
    for name, size in sizes.items():
        members[name] = data[start : start + size]
        start = _aligned(start + size)
    return members


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
