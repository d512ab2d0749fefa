"""A head of the user's own: a Python file, checked and staged where a job is submitted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pipeline.artifacts.integrity import keep_addressed
from pipeline.artifacts.workspace import Workspace
from pipeline.errors import ConfigError, StorageError
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


def stage_head(workspace: Workspace, module: str) -> StagedHead:
    """Put the file of a head into the bucket, once; its name there is its digest.

    Args:
        workspace: Where to.
        module: A path or URI of a Python file.

    Raises:
        ConfigError: if there is no such file, or it builds no head.
    """
    try:
        data = workspace.storage.local_path(module).read_bytes()
    except (StorageError, ConfigError, OSError) as error:
        raise ConfigError(
            f"`model.head.module`: {module} cannot be read: {error} Give a path or gs:// URI of a Python "
            "file.",
            module=module,
        ) from error
    return stage_head_text(workspace, data, origin=module)


def stage_head_text(workspace: Workspace, data: bytes, *, origin: str) -> StagedHead:
    """Put the text of a head into the bucket; see `stage_head`."""
    find_builder(data, origin=origin)
    digest = hashlib.sha256(data).hexdigest()
    uri = workspace.head_file(digest)
    keep_addressed(workspace.storage, uri, data)
    return StagedHead(uri=uri, digest=digest)
