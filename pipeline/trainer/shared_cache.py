"""What one job leaves in the workspace for later ones: features and converted backbones."""

from __future__ import annotations

import logging

from pipeline.errors import StorageError
from pipeline.storage import Storage

logger = logging.getLogger(__name__)


def share_bytes(storage: Storage, uri: str, data: bytes) -> None:
    """Create an object for later jobs unless it exists; a job that may not write there only logs it.

    The engine lets a job create objects in the caches only if it knows the package of the job. An edited
    trainer package still trains; the next job computes again what this one could not share.

    Raises:
        StorageError: if the write failed for another reason.
    """
    try:
        storage.create_bytes(uri, data)
    except StorageError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        logger.warning("%s is not kept for later jobs: %s", uri, error)
