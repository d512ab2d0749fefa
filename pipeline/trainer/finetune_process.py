"""Trains the last blocks of a backbone with Keras, in a process of its own, whose memory ends with it.

`python -m pipeline.trainer.finetune_process FOLDER ARGUMENTS` has the arguments of a training job. It reads
the request of the folder and leaves there the result, or `error.json`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.finetuning import FinetuneParameters
from pipeline.artifacts.pack import PackIndex, read_pack_index
from pipeline.artifacts.training import Calibration, TrainingSpec
from pipeline.backbones.own import backbone_of_job
from pipeline.backbones.table import Backbone
from pipeline.backbones.weights import read_weights
from pipeline.errors import PipelineError
from pipeline.storage import Storage
from pipeline.tflite.head import Head
from pipeline.trainer.calibration import MIN_PICTURES, calibration_of, soften
from pipeline.trainer.finetune_request import REQUEST, FinetuneRequest, FinetuneResult
from pipeline.trainer.frozen_network import weights_path
from pipeline.trainer.head import best_epoch
from pipeline.trainer.pictures import NUM_FIRST, fit_to_pack
from pipeline.trainer.process import prepare_process

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.trainer.finetune_fit import Fitted
    from pipeline.trainer.finetune_inputs import FinetuneInputs
    from pipeline.trainer.finetune_model import FinetuneModel

logger = logging.getLogger(__name__)

ERROR = "error.json"
JUDGED, KEPT = "judged", "kept"  # a training whose pictures are judged by others, and one of all pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Finetuning:
    """The trainings of one job.

    Args:
        spec: What the job is told.
        parameters: What of it is about fine-tuning.
        storage: Reads and writes URIs.
        backbone: The network.
        index: The pack index.
        request: What is trained.
        digest: Of the work.
    """

    spec: TrainingSpec
    parameters: FinetuneParameters
    storage: Storage
    backbone: Backbone
    index: PackIndex
    request: FinetuneRequest
    digest: str

    def run(self) -> FinetuneResult:
        """Train.

        Raises:
            TrainingDiverged: when the loss is no longer a number.
            WeightsMismatch: if the bytes of the weights are not those that their name promises.
        """
        from pipeline.trainer.finetune_inputs import read_inputs

        begin, path = time.process_time(), weights_path(self.spec.weights, self.storage)
        weights = read_weights(path, self.backbone.name)
        workspace = self.spec.open_workspace(self.storage)
        inputs = read_inputs(workspace, self.index, self.spec, self.parameters, self.backbone, weights)
        model, recorded, calibration, resumed = self._train_all(inputs, weights)
        head = model.head()
        if calibration:
            head = soften(head, calibration.temperature)
        return FinetuneResult(
            head=head,
            weights=model.weights() if self.parameters.changes_network else {},
            outputs=head.predict(model.pool(inputs.values[:NUM_FIRST])),
            history=recorded.history,
            best_epoch=best_epoch(recorded.history),
            calibration=calibration,
            trained_parameters=model.trained_parameters,
            resumed_after=resumed,
            input_bytes=inputs.values.nbytes,
            peak_memory_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            cpu_seconds=round(time.process_time() - begin, 3),
        )

    def _train_all(
        self, inputs: FinetuneInputs, weights: dict[str, NDArray[np.float32]]
    ) -> tuple[FinetuneModel, Fitted, Calibration | None, int]:
        """Return the model that is kept, the training to tell of, the temperature, and the epochs resumed."""
        request = self.request
        if not request.judges.any():
            model, kept = self._train(inputs, weights, request.start, request.pool, KEPT)
            return model, kept, None, kept.resumed_after
        rows = request.pool & ~request.judges
        model, judged = self._train(inputs, weights, request.judged_start, rows, JUDGED)
        calibration = self._calibrate(model, inputs)
        if not (request.pool & request.judges).any():
            return model, judged, calibration, judged.resumed_after
        epochs = best_epoch(judged.history) if request.chooses else None
        model, kept = self._train(inputs, weights, request.start, request.pool, KEPT, epochs)
        resumed = judged.resumed_after + kept.resumed_after
        return model, judged if request.chooses else kept, calibration, resumed

    def _train(
        self,
        inputs: FinetuneInputs,
        weights: dict[str, NDArray[np.float32]],
        start: Head,
        rows: NDArray[np.bool_],
        stage: str,
        epochs: int | None = None,
    ) -> tuple[FinetuneModel, Fitted]:
        from pipeline.trainer.finetune_checkpoint import CheckpointStore
        from pipeline.trainer.finetune_fit import Fit, fit_model
        from pipeline.trainer.finetune_model import FinetuneModel

        model = FinetuneModel(self.backbone, weights, start, self.parameters, seed=self.spec.seed)
        is_judged = stage == JUDGED
        fit = Fit(
            inputs=inputs.values,
            labels=inputs.labels,
            rows=np.flatnonzero(np.tile(rows, inputs.copies)),
            judges=np.flatnonzero(self.request.judges) if is_judged else None,
            chooses=is_judged and self.request.chooses,
            parameters=replace(
                self.spec,
                epochs=epochs or self.parameters.epochs,
                learning_rate=self.parameters.learning_rate,
            ),
            num_classes=len(self.index.classes),
            place=self._place(is_judged=is_judged),
        )
        store = CheckpointStore(
            self.spec.open_workspace(self.storage),
            self.spec.open_job(self.storage),
            digest=self.digest,
            stage=stage,
        )
        return model, fit_model(model, fit, store)

    def _place(self, *, is_judged: bool) -> tuple[int, int]:
        """Return which of the trainings one is, and how many there are."""
        if not (self.request.pool & self.request.judges).any():
            return 1, 1
        return (1 if is_judged else 2), 2

    def _calibrate(self, model: FinetuneModel, inputs: FinetuneInputs) -> Calibration | None:
        """Return the temperature that fits the judges, which have trained nothing; None for too few."""
        rows = np.flatnonzero(self.request.judges)
        if self.spec.calibration == "none" or not self.parameters.changes_network or len(rows) < MIN_PICTURES:
            return None
        head = model.head()
        return calibration_of(head.score(head.hide(model.pool(inputs.values[rows]))), inputs.labels[rows])


def open_finetuning(spec: TrainingSpec, storage: Storage, folder: Path) -> Finetuning:
    """Return what the request of a folder asks for."""
    index_bytes = storage.read_bytes(spec.pack_index)
    index = read_pack_index(storage, spec.pack_index)
    backbone = backbone_of_job(spec.backbone, spec.open_workspace(storage), spec.weights_digest)
    work = hashlib.sha256(index_bytes)
    work.update((folder / REQUEST).read_bytes())
    work.update(json.dumps(replace(spec, job_dir="").to_args()).encode())
    return Finetuning(
        spec=spec,
        parameters=FinetuneParameters.from_text(spec.finetune),
        storage=storage,
        backbone=fit_to_pack(backbone, index),
        index=index,
        request=FinetuneRequest.read(folder),
        digest=work.hexdigest(),
    )


def main(folder: Path, argv: Sequence[str]) -> int:
    """Answer the request of a folder; return the process's exit code."""
    prepare_process(keras=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()  # the same job gives the same weights
    try:
        finetuning = open_finetuning(TrainingSpec.from_args(argv), Storage.from_environment(), folder)
        finetuning.run().write(folder)
    except PipelineError as error:
        about = {"type": type(error).__name__, "message": str(error)}
        (folder / ERROR).write_text(json.dumps(about), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
