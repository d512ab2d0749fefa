"""The entry point of a training job: `python -m pipeline.trainer.task --pack-index URI ... --job-dir URI`.

It reads a pack index, its shards and staged weights from the bucket, and leaves `model/` and then
`training.json` in the job directory. Killed and started again, it repeats no finished feature shard.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from pipeline.artifacts.training import TrainingSpec
from pipeline.storage import Storage
from pipeline.trainer.process import prepare_process, run_job

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; return the process's exit code."""
    spec = TrainingSpec.from_args(argv)
    prepare_process(keras=bool(spec.head_module))
    return run_job(lambda: _train(spec))


def _train(spec: TrainingSpec) -> None:
    from pipeline.trainer.trainer import trainer_for  # NumPy reads the settings when it is imported

    record = trainer_for(spec, Storage.from_environment()).fit()
    logger.info("Done: %s %s %s", record.work, record.package, record.seconds)


if __name__ == "__main__":
    sys.exit(main())
