"""Puts a model together without TensorFlow: a template, the trunk and a head's own numbers."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.artifacts.model_files import TFLITE_NETWORK
from pipeline.artifacts.training import TrainingSpec
from pipeline.errors import SignatureMismatch
from pipeline.tflite.head import TrainedHead
from pipeline.tflite.manifest import TOLERANCE as PROBABILITY_TOLERANCE, Parity, TFLiteManifest, digest_files
from pipeline.tflite.novelty import Novelty
from pipeline.trainer.model_records import write_records
from pipeline.trainer.template import SAVED_MODEL, model_numbers, write_saved_model
from pipeline.trainer.trunk import TOLERANCE, TensorFlowNeededError, Trunk, relative_difference

if TYPE_CHECKING:
    from pipeline.artifacts.template import TemplateRecord
    from pipeline.pixels.spec import PixelSpec
    from pipeline.trainer.shared_cache import CheckedFile
    from pipeline.types import Float32Features, UInt8Images


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """One model.

    Args:
        trunk: The backbone in LiteRT.
        template: The SavedModel but for its numbers.
        head: The trained head.
        novelty: What tells how unlike the training pictures a picture is.
        classes: The label of each class.
        pixel_spec: The pixels the backbone is fed.
        spec: What the job is told.
    """

    trunk: Trunk
    template: CheckedFile[TemplateRecord]
    head: TrainedHead
    novelty: Novelty
    classes: tuple[str, ...]
    pixel_spec: PixelSpec
    spec: TrainingSpec

    def write(self, directory: Path, pixels: UInt8Images, features: Float32Features) -> TFLiteManifest:
        """Write the model directory.

        Args:
            directory: Where to; it exists.
            pixels: The first training pictures.
            features: Their features, as the head was trained on them.

        Raises:
            TensorFlowNeededError: if the trunk's answers are not those that the head was trained on, or the
                template has places for other numbers.
        """
        parity = self._compare(pixels, features)
        numbers = model_numbers(
            self.head,
            self.novelty,
            reject_below=self.spec.label_bounds(self.classes),
            reject_unlike=self.spec.reject_unlike,
        )
        try:
            digest = write_saved_model(self.template, directory, numbers)
        except SignatureMismatch as error:
            raise TensorFlowNeededError(str(error)) from error
        write_records(directory, self.classes, self.head, self.novelty)
        shutil.copyfile(self.trunk.file.path, directory / TFLITE_NETWORK)
        digests = {SAVED_MODEL: digest, TFLITE_NETWORK: self.trunk.file.record.sha256}
        manifest = TFLiteManifest(
            files=digest_files(directory, digests),
            spec=self.pixel_spec,
            parity=parity,
            made_by=self.template.record.made_by,
            reject_below=self.spec.reject_below,
            reject_unlike=self.spec.reject_unlike,
            thresholds=self.spec.class_thresholds,
        )
        manifest.write(directory)
        return manifest

    def _compare(self, pixels: UInt8Images, features: Float32Features) -> Parity:
        """Compare the trunk with what trained the head, and with TensorFlow on the noise picture."""
        pooled = self.trunk(pixels)
        difference = relative_difference(pooled, features)
        if not difference <= TOLERANCE:
            raise TensorFlowNeededError(
                f"LiteRT's features of the first pictures differ from the cached ones by {difference:.2g} of "
                f"the largest, more than {TOLERANCE}"
            )
        ours = self.head.predict(np.concatenate([pooled, self.trunk.pooled_noise]))
        expected = self.head.predict(np.concatenate([features, self.trunk.expected_noise]))
        parity = Parity(pictures=len(ours), largest_difference=float(np.abs(ours - expected).max()))
        if not parity.largest_difference <= PROBABILITY_TOLERANCE:
            raise TensorFlowNeededError(f"LiteRT's answers are not TensorFlow's: {parity}")
        return parity
