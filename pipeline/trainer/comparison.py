"""Entry point of a comparison job: `python -m pipeline.trainer.comparison --option JSON --job-dir URI ...`.

Each option is cross-validated on the training pictures: its head is trained, calibrated and regularized
without a fold of whole groups each, and answers for that fold. All options get the same folds. The job leaves
these answers and then `comparison.json`; it exports no model and reads no test picture.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.held_out_answers import ComparisonRecord, ComparisonSpec, HeldOutAnswers, OptionCost
from pipeline.artifacts.training import FeatureWork, TrainingSpec
from pipeline.storage import Storage
from pipeline.trainer.cross_fit import collect_training_pictures, cross_fit, deal_folds, open_trunk
from pipeline.trainer.process import prepare_process, run_job

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.trainer.pictures import TrainingPictures
    from pipeline.trainer.trainer import Trainer
    from pipeline.trainer.trunk import Trunk
    from pipeline.types import Float32Outputs, UInt8Images

logger = logging.getLogger(__name__)

NUM_TIMED = 16  # pictures
NUM_CALLS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; return the process's exit code."""
    spec = ComparisonSpec.from_args(argv)
    prepare_process(keras=any(option.head_module for option in spec.options))
    return run_job(lambda: compare_options(spec, Storage.from_environment()))


def compare_options(spec: ComparisonSpec, storage: Storage) -> None:
    """Cross-validate the options, and leave their answers and their costs in the job's directory.

    Raises:
        EmptyDataset: if there are too few training pictures for five folds.
        ModelError: if the backbone does not run on LiteRT here.
    """
    from pipeline.trainer.trainer import trainer_for

    trainer = trainer_for(spec.base, storage)
    with tempfile.TemporaryDirectory(prefix="graft-parts-") as temporary:
        trunk = open_trunk(trainer, Path(temporary))
        answers, costs, work = _answer(trainer, spec, trunk)
        record = _describe(trainer, trunk, costs, work)
    job = spec.base.open_job(storage)
    answers.write(job)
    record.write(job)


def _answer(
    trainer: Trainer, spec: ComparisonSpec, trunk: Trunk
) -> tuple[HeldOutAnswers, list[OptionCost], FeatureWork]:
    """Return the answers of all options, their costs, and what the network had to do."""
    import numpy as np

    pictures, previous = collect_training_pictures(trainer, spec.base, trunk), spec.base
    pool, work = pictures.pool, pictures.work
    folds = deal_folds(pictures, spec.base.seed)
    judged = folds >= 0
    outputs, costs = [], []
    for number, option in enumerate(spec.options, start=1):
        if _pictures_key(option) != _pictures_key(previous):
            pictures, previous = collect_training_pictures(trainer, option, trunk), option
        answers, cost = _judge(trainer, option, pictures, folds)
        outputs.append(answers[judged])
        costs.append(cost)
        logger.info("option %d of %d: %s", number, len(spec.options), option.head_parameters())
    held_out = HeldOutAnswers(
        ids=np.array(pool.ids, "S64")[judged],
        labels=pool.labels[: len(folds)][judged],
        folds=folds[judged],
        outputs=np.stack(outputs),
    )
    return held_out, costs, work


def _pictures_key(option: TrainingSpec) -> tuple[str | int | float, ...]:
    """Return what two options must share to train on the same pictures, copies and validation split."""
    drawn = (option.seed, option.head_type) if option.validation_fraction else ()
    return (option.views, option.views_seed, option.validation, option.validation_fraction, *drawn)


def _judge(
    trainer: Trainer, option: TrainingSpec, pictures: TrainingPictures, folds: NDArray[np.int64]
) -> tuple[Float32Outputs, OptionCost]:
    """Return an option's answer for each picture, and what its head costs."""
    fit = cross_fit(trainer, option, pictures, folds)
    head, first = fit.head, pictures.pool.plain[:NUM_TIMED]
    head_seconds = _cpu_seconds(lambda: head.predict(first))
    cost = OptionCost(
        head_bytes=head.num_bytes,
        head_cpu_ms=round(1000 * head_seconds / len(first), 4),
        fit_cpu_seconds=fit.cpu_seconds,
    )
    return fit.outputs, cost


def _describe(
    trainer: Trainer, trunk: Trunk, costs: Sequence[OptionCost], work: FeatureWork
) -> ComparisonRecord:
    """Time the network, and return the record of the job."""
    from pipeline.trainer.features import read_first_pixels

    index = trainer.index
    cpu_ms, latency_ms = _time_network(trunk, read_first_pixels(index.shards, trainer.storage, NUM_TIMED))
    return ComparisonRecord(
        classes=tuple(index.classes),
        options=tuple(costs),
        network_bytes=trunk.file.path.stat().st_size,
        network_cpu_ms=cpu_ms,
        latency_ms=latency_ms,
        work=work,
    )


def _time_network(trunk: Trunk, pixels: UInt8Images) -> tuple[float, float]:
    """Return the CPU time of one of many pictures, and the median time of one alone, in milliseconds."""
    cpu = _cpu_seconds(lambda: trunk(pixels)) / len(pixels)
    seconds = []
    for picture in pixels:
        begin = time.perf_counter()
        trunk(picture[None])
        seconds.append(time.perf_counter() - begin)
    return round(1000 * cpu, 3), round(1000 * sorted(seconds)[len(seconds) // 2], 3)


def _cpu_seconds(work: Callable[[], Float32Outputs]) -> float:
    """Return the least CPU time of some calls: what else runs on the machine only adds to it."""
    seconds = []
    for _ in range(NUM_CALLS):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(main())
