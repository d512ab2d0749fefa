"""The spec of a training job, built from a classifier's configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields

from pipeline.artifacts.training import HeadParameters, TrainingSpec
from pipeline.config import Classifier, ModelConfig


def build_training_spec(
    classifier: Classifier,
    *,
    pack_index: str,
    weights: str,
    workspace: str,
    head_module: str = "",
    warm_start: str = "",
) -> TrainingSpec:
    """Return what a training job is told.

    Args:
        classifier: The configuration of the run.
        pack_index: URI of the pack index.
        weights: URI of the staged weights.
        workspace: URI of the workspace.
        head_module: URI of the staged custom head; empty for the reference head.
        warm_start: URI of the model whose head training begins from; empty for a new head.
    """
    model = classifier.model
    same_name = model.model_dump(include={field.name for field in fields(HeadParameters)})
    return TrainingSpec(
        pack_index=pack_index,
        weights=weights,
        workspace=workspace,
        head_module=head_module,
        warm_start=warm_start,
        backbone=model.backbone_name,
        head_type=model.head.kind,
        units=model.head.units,
        patience=model.early_stopping.patience,
        validation_fraction=model.validation_fraction,
        validation="given" if model.validation == "given" else "",
        views=model.augmentation.views,
        views_seed=model.augmentation.seed,
        finetune=_describe_finetuning(model),
        reject_below=classifier.serving.reject_below,
        thresholds=_describe_thresholds(classifier.serving.thresholds),
        reject_unlike=classifier.serving.reject_unlike,
        **same_name,
    )


def _describe_thresholds(thresholds: Mapping[str, float]) -> str:
    return json.dumps(thresholds, sort_keys=True) if thresholds else ""


def _describe_finetuning(model: ModelConfig) -> str:
    if model.finetune is None:
        return ""
    return model.finetune.parameters(epochs=model.epochs, learning_rate=model.learning_rate).to_text()
