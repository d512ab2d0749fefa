"""A head of the user's own: a Python file, checked and staged where a job is submitted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pipeline.errors import ConfigError, StorageError
from pipeline.storage import Storage
from pipeline.trainer.head_file import find_builder


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedHead:
    """A head's file in the bucket.

    Args:
        uri: `<workspace>/heads/<digest>.py`.
        digest: SHA-256 of its text.
    """

    uri: str
    digest: str


def stage_head(module: str, *, storage: Storage, workspace: str) -> StagedHead:
    """Put the file of a head into the bucket, once; its name there is its digest.

    Args:
        module: A path or URI of a Python file.
        storage: Reads a URI and writes the bucket.
        workspace: URI of the bucket, without a trailing slash.

    Raises:
        ConfigError: if there is no such file, or it builds no head.
    """
    try:
        data = storage.local_path(module).read_bytes()
    except (StorageError, ConfigError, OSError) as error:
        raise ConfigError(
            f"`model.head.module`: {module} cannot be read: {error} Give a path or gs:// URI of a Python "
            "file.",
            module=module,
        ) from error
    return stage_head_text(data, origin=module, storage=storage, workspace=workspace)


def stage_head_text(data: bytes, *, origin: str, storage: Storage, workspace: str) -> StagedHead:
    """Put the text of a head into the bucket; see `stage_head`."""
    find_builder(data, origin=origin)
    digest = hashlib.sha256(data).hexdigest()
    uri = f"{workspace}/heads/{digest}.py"
    storage.create_bytes(uri, data)
    return StagedHead(uri=uri, digest=digest)
