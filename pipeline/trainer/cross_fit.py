"""Cross-validates what a job is told to train: each head answers for the pictures that it did not see.

The heads are trained, calibrated and regularized as the one of a training job would be. No test picture is
read. NumPy is imported where it is used, because a job's entry point makes NumPy's settings first.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.training import TrainingSpec
from pipeline.errors import EmptyDataset, ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.tflite.head import TrainedHead
    from pipeline.trainer.custom_head import KerasHead
    from pipeline.trainer.pictures import TrainingPictures
    from pipeline.trainer.trainer import Trainer
    from pipeline.trainer.trunk import Trunk
    from pipeline.types import Float32Outputs

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossFit:
    """The answers of heads that were each trained without a fold.

    Args:
        outputs: Class probabilities of each picture; zeros for one that no fold holds.
        head: The last head.
        cpu_seconds: CPU time of one training, with its calibration.

    Shapes:
        outputs: (num_images, classes).
    """

    outputs: Float32Outputs
    head: TrainedHead | KerasHead
    cpu_seconds: float


def open_trunk(trainer: Trainer, folder: Path) -> Trunk:
    """Return the backbone in LiteRT, converted in a process of its own if no job has done that yet.

    Raises:
        ModelError: if the backbone does not run on LiteRT here.
    """
    from pipeline.trainer.parts import PartsStore
    from pipeline.trainer.trunk import TensorFlowNeededError

    workspace = trainer.spec.open_workspace(trainer.storage)
    store = PartsStore(trainer.spec, workspace, trainer.backbone, trainer.index.classes)
    try:
        return store.find_trunk().trunk
    except TensorFlowNeededError as error:
        logger.info("%s; it is converted now.", error)
    try:
        return store.find_or_make(folder)[0].trunk
    except TensorFlowNeededError as error:
        raise ModelError(
            f"Models on {trainer.backbone.name} cannot be compared, because it does not run on LiteRT here: "
            f"{error}"
        ) from error


def collect_training_pictures(trainer: Trainer, option: TrainingSpec, trunk: Trunk) -> TrainingPictures:
    """Return what a model would be trained on."""
    from pipeline.trainer.pictures import collect_pictures

    workspace = option.open_workspace(trainer.storage)
    return collect_pictures(workspace, trainer.index, option, trunk, trainer.backbone)


def deal_folds(pictures: TrainingPictures, seed: int) -> NDArray[np.int64]:
    """Return which fold leaves each picture out; whole groups share one.

    Raises:
        EmptyDataset: if there are too few pictures.
    """
    from pipeline.trainer.cross_validation import hold_out

    folds = hold_out(pictures.pool, seed=seed)
    if folds is None:
        raise EmptyDataset(
            "Models are compared on five parts of at least 20 training pictures, none of them empty; there "
            f"are {len(pictures.pool.ids)}. Add pictures."
        )
    return folds


def cross_fit(
    trainer: Trainer, option: TrainingSpec, pictures: TrainingPictures, folds: NDArray[np.int64]
) -> CrossFit:
    """Return an option's answer for each picture, of a head that neither it nor its copies trained."""
    import numpy as np

    from pipeline.trainer.cross_validation import FOLDS
    from pipeline.trainer.fitting import fit_head

    classes = trainer.index.classes
    outputs = np.zeros((len(folds), len(classes)), np.float32)
    begin = time.process_time()
    for fold in range(FOLDS):
        rows = folds == fold
        trains = pictures.leave_out(rows)
        head = fit_head(option, trainer.storage, classes, trains, cross_validates=False).head
        outputs[rows] = head.predict(pictures.pool.plain[rows])
    seconds = time.process_time() - begin
    return CrossFit(outputs=outputs, head=head, cpu_seconds=round(seconds / FOLDS, 3))
