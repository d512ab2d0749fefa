"""Settings of a job's process, made before TensorFlow and NumPy are imported, which read them."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
from collections.abc import Callable

from pipeline.errors import EXIT_FINAL, PipelineError

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # mallopt(3)
_NEVER = 2**31 - 1


def prepare_process(*, keras: bool) -> None:
    """Choose TensorFlow's and NumPy's settings; what the environment sets already stays.

    Args:
        keras: Whether the job needs Keras.
    """
    settings = {
        "TF_ENABLE_ONEDNN_OPTS": "1",  # doubles the speed of the network
        "OPENBLAS_NUM_THREADS": "1",  # a second costs the head's small products more CPU than it saves time
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    if not keras:
        # TensorFlow imports the Keras it is told to use, if it is there: half of its own import's time.
        settings["TF_USE_LEGACY_KERAS"] = "1"
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    _keep_freed_memory()


def import_tensorflow() -> None:
    """Import TensorFlow without garbage collections, which find nothing and take a sixth of the time."""
    gc.disable()
    try:
        import tensorflow  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def run_job(work: Callable[[], None]) -> int:
    """Do the work of a job, log why it failed, and return the exit code of its process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    try:
        work()
    except PipelineError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return 1 if error.transient else EXIT_FINAL
    return 0


def _keep_freed_memory() -> None:
    """Keep glibc from giving memory back: TensorFlow copies the weights many times, each in fresh pages."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have none
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
