"""Trains a head on the features of a pack's pictures, exports the model and checks the export."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pipeline
from pipeline.artifacts.finetuning import FinetuneRecord
from pipeline.artifacts.pack import PackIndex, read_pack_index
from pipeline.artifacts.training import (
    AugmentationRecord,
    TFLiteParity,
    TrainerPackage,
    TrainingRecord,
    TrainingSpec,
)
from pipeline.backbones.own import backbone_of_job
from pipeline.backbones.table import Backbone
from pipeline.errors import EmptyDataset, LabelMapMismatch
from pipeline.storage import Storage
from pipeline.tflite.head import TrainedHead
from pipeline.tflite.manifest import TFLiteManifest
from pipeline.tflite.novelty import Novelty
from pipeline.trainer.assembly import Assembly
from pipeline.trainer.clock import Clock
from pipeline.trainer.coreset import build_novelty
from pipeline.trainer.features import read_first_pixels
from pipeline.trainer.finetune import Finetuned, finetune
from pipeline.trainer.fitting import FittedHead, fit_head
from pipeline.trainer.frozen_network import FrozenNetwork
from pipeline.trainer.head import best_epoch
from pipeline.trainer.parts import ModelParts, PartsStore
from pipeline.trainer.pictures import (
    TrainingPictures,
    check_labels,
    collect_pictures,
    fit_to_pack,
)
from pipeline.trainer.trunk import (
    TensorFlowNeededError,
    Trunk,
    comparison_pixels,
    converter_versions,
    made_by_name,
)
from pipeline.types import Float32Features, UInt8Images

if TYPE_CHECKING:
    from pipeline.trainer.custom_head import KerasHead

logger = logging.getLogger(__name__)


def trainer_for(spec: TrainingSpec, storage: Storage) -> Trainer:
    """Return the trainer of a job, once its pack is known to fit its backbone.

    Raises:
        UnknownBackbone: listing the known names.
        EmptyDataset: if the pack has no training picture.
        LabelMapMismatch: if a label has no class, or the pack was made for another backbone.
    """
    backbone = backbone_of_job(spec.backbone, spec.open_workspace(storage), spec.weights_digest)
    index = read_pack_index(storage, spec.pack_index)
    backbone = fit_to_pack(backbone, index)
    _check_index(index, backbone)
    _check_thresholds(spec, index.classes)
    check_labels(index, storage)
    return Trainer(spec=spec, storage=storage, backbone=backbone, index=index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """One training job.

    Args:
        spec: What the job is told.
        storage: Reads and writes URIs.
        backbone: The frozen network.
        index: The pack index.
    """

    spec: TrainingSpec
    storage: Storage
    backbone: Backbone
    index: PackIndex
    clock: Clock = field(default_factory=Clock)
    tensorflow: list[str] = field(default_factory=list)  # why the job needed it

    def fit(self) -> TrainingRecord:
        """Train, export, check and upload the model, and write what was done.

        Raises:
            WeightsMismatch: if the bytes of the weights are not those that their name promises.
            TrainingDiverged: if the loss is no longer a number.
            SignatureMismatch: if the exported model answers otherwise than the trainer.
        """
        with tempfile.TemporaryDirectory(prefix="graft-parts-") as temporary:
            folder = Path(temporary)
            finetuned = self._finetune(folder)
            trainer = self if finetuned is None else self._with_weights(finetuned.weights)
            record = trainer._finish(folder, finetuned)
        job = self.spec.open_job(self.storage)
        record.write(job)
        for uri in self.storage.list_uris(job.checkpoints) if finetuned else ():
            self.storage.delete(uri)  # what a job would go on from that was killed before this line
        return record

    def _finetune(self, folder: Path) -> Finetuned | None:
        """Train blocks of the backbone, if the job is told to."""
        parameters = self.spec.finetuning
        if parameters is None:
            return None
        parts = self._find_parts(folder, only_trunk=True)
        pictures = self._collect(parts.trunk if parts else self._open_network())
        finetuned = finetune(self.spec, parameters, self.storage, self.index.classes, pictures, folder)
        self.clock.lap("finetune")
        return finetuned

    def _with_weights(self, weights: str) -> Trainer:
        return replace(self, spec=replace(self.spec, weights=weights))

    def _finish(self, folder: Path, finetuned: Finetuned | None) -> TrainingRecord:
        """Train the head unless that is done, and export; return what was done."""
        parts = self._find_parts(folder)
        network = parts.trunk if parts else self._open_network()
        self.clock.lap("load")
        if finetuned is None:
            pictures = self._collect(network)
            fitted = fit_head(self.spec, self.storage, self.index.classes, pictures)
            self.clock.lap("head")
        else:
            pictures, fitted = finetuned.pictures, finetuned.fitted
            if finetuned.result.weights:
                pictures = self._collect(network)
                pictures = replace(pictures, work=finetuned.pictures.work + pictures.work)
            finetuned.check(pictures.first)
        fitted.keep_answers(self.spec.open_job(self.storage))
        parity = self._export(parts, network, fitted.head, pictures)
        self.clock.lap("export")
        return self._record(pictures, fitted, parity, finetuned.record if finetuned else None)

    def _collect(self, network: Trunk | FrozenNetwork) -> TrainingPictures:
        workspace = self.spec.open_workspace(self.storage)
        pictures = collect_pictures(workspace, self.index, self.spec, network, self.backbone)
        self.clock.lap("features")
        return pictures

    def _find_parts(self, folder: Path, *, only_trunk: bool = False) -> ModelParts | None:
        """Return what the model is put together from; None where only TensorFlow can do it.

        Args:
            folder: Where a process that makes the parts may write.
            only_trunk: Whether the network is wanted alone, if it was converted before.
        """
        workspace = self.spec.open_workspace(self.storage)
        try:
            store = PartsStore(self.spec, workspace, self.backbone, self.index.classes)
            if self.spec.head_module:
                self._need_tensorflow(f"The head is built by {self.spec.head_module}")
                return store.find_trunk()
            if only_trunk and (converted := store.find_converted()):
                return converted
            parts, reason = store.find_or_make(folder)
        except TensorFlowNeededError as error:
            self._need_tensorflow(str(error))
            return None
        if reason:
            self.tensorflow.append(reason)
        return parts

    def _need_tensorflow(self, reason: str) -> None:
        self.tensorflow.append(reason)
        logger.warning("This job needs TensorFlow: %s.", reason)

    def _open_network(self) -> FrozenNetwork:
        return FrozenNetwork(self.backbone, self.spec.weights, self.storage)

    def _export(
        self,
        parts: ModelParts | None,
        network: Trunk | FrozenNetwork,
        head: TrainedHead | KerasHead,
        pictures: TrainingPictures,
    ) -> TFLiteParity | None:
        """Upload the model; return the parity of its TFLite export, which no custom head has."""
        pool = pictures.pool
        novelty = build_novelty(pool.plain, pool.ids, pool.groups)
        pixels = read_first_pixels(self.index.shards, self.storage, len(pictures.first))
        with tempfile.TemporaryDirectory(prefix="graft-model-") as temporary:
            model, manifest = Path(temporary), None
            if isinstance(head, TrainedHead) and parts and parts.template:
                assembly = Assembly(
                    trunk=parts.trunk,
                    template=parts.template,
                    head=head,
                    novelty=novelty,
                    classes=tuple(self.index.classes),
                    pixel_spec=self.backbone.spec,
                    spec=self.spec,
                )
                try:
                    manifest = assembly.write(model, pixels, pictures.first)
                except TensorFlowNeededError as error:
                    self._need_tensorflow(str(error))
            if manifest is None:
                frozen = network if isinstance(network, FrozenNetwork) else self._open_network()
                manifest = self._export_afresh(model, frozen, head, novelty, pixels, pictures.first)
            self.storage.upload_tree(model, self.spec.open_job(self.storage).model.uri)
        return TFLiteParity(**asdict(manifest.parity)) if manifest else None

    def _export_afresh(
        self,
        model: Path,
        network: FrozenNetwork,
        head: TrainedHead | KerasHead,
        novelty: Novelty,
        pixels: UInt8Images,
        features: Float32Features,
    ) -> TFLiteManifest | None:
        """Export the model with TensorFlow and check what it answers."""
        from pipeline.trainer.export import check_export, export_model  # TensorFlow takes seconds to import
        from pipeline.trainer.tflite_export import add_tflite_export

        network.release()
        spec, backbone = self.spec, self.backbone
        export_model(
            model,
            build_network=network.build,
            head=head,
            spec=backbone.spec,
            classes=self.index.classes,
            novelty=novelty,
            reject_below=spec.label_bounds(self.index.classes),
            reject_unlike=spec.reject_unlike,
        )
        compared = comparison_pixels(pixels, backbone.spec)
        expected = check_export(model, compared, head.predict(features))
        if not isinstance(head, TrainedHead):  # LiteRT runs no other head: TensorFlow serves those
            return None
        made_by = made_by_name(converter_versions())
        kept = spec.open_workspace(self.storage).tflite(spec.weights_digest, backbone.spec.digest, made_by)
        return add_tflite_export(
            model,
            network.build,
            uri=kept.data(0),
            storage=self.storage,
            pixels=compared,
            expected=expected,
            spec=backbone.spec,
            reject_below=spec.reject_below,
            reject_unlike=spec.reject_unlike,
            thresholds=spec.class_thresholds,
        )

    def _record(
        self,
        pictures: TrainingPictures,
        trained: FittedHead,
        parity: TFLiteParity | None,
        finetuned: FinetuneRecord | None,
    ) -> TrainingRecord:
        spec, history = self.spec, trained.history
        return TrainingRecord(
            history=history,
            epochs_run=len(history.get("loss", ())),
            best_epoch=best_epoch(history),
            validation=pictures.validation_split,
            augmentation=AugmentationRecord(views=spec.views, seed=spec.views_seed) if spec.views else None,
            class_weights=spec.class_weights,
            warm_start=trained.warm_start,
            calibration=trained.calibration,
            cross_validation=trained.cross_validation,
            regularization=trained.regularization,
            finetune=finetuned,
            head_module=spec.head_module or None,
            features=pictures.feature_uris,
            work=pictures.work,
            tflite=parity,
            tensorflow=tuple(self.tensorflow),
            package=TrainerPackage(version=pipeline.__version__, file=str(Path(pipeline.__file__).resolve())),
            classes=tuple(self.index.classes),
            parameters={
                "backbone": self.backbone.name,
                "weights": spec.weights_digest,
                **spec.head_parameters(),
            },
            seconds=self.clock.seconds,
            cpu_seconds=self.clock.cpu_seconds,
        )


def _check_thresholds(spec: TrainingSpec, classes: Sequence[str]) -> None:
    if unknown := sorted(spec.class_thresholds.keys() - set(classes)):
        raise LabelMapMismatch(
            f"`serving.thresholds` has {', '.join(unknown)}, but the classes of the dataset are "
            f"{', '.join(classes)}. Correct or remove it.",
            backbone=spec.backbone,
        )


def _check_index(index: PackIndex, backbone: Backbone) -> None:
    if index.spec != backbone.spec.to_dict():
        raise LabelMapMismatch(
            f"The pack's pixels are not those of {backbone.name}; pack the dataset for it. "
            f"Received: {index.spec}",
            backbone=backbone.name,
        )
    if not index.shards:
        raise EmptyDataset("The pack has no training picture; add pictures or lower the test fraction.")
