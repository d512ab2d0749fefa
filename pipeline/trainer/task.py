"""The entry point of a training job: `python -m pipeline.trainer.task --pack-index URI ... --job-dir URI`.

It reads a pack index, its shards and staged weights from the bucket, and leaves `model/` and then
`training.json` in the job directory. Killed and started again, it repeats no finished feature shard.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from pipeline.artifacts.training import TrainingSpec
from pipeline.errors import EXIT_FINAL, PipelineError
from pipeline.storage import Storage
from pipeline.trainer.process import prepare_process

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; return the process's exit code."""
    spec = TrainingSpec.from_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    prepare_process(keras=bool(spec.head_module))
    from pipeline.trainer.trainer import trainer_for  # NumPy reads the settings when it is imported

    try:
        record = trainer_for(spec, Storage.from_environment()).fit()
    except PipelineError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return 1 if error.transient else EXIT_FINAL
    logger.info("Done: %s %s %s", record.work, record.package, record.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
