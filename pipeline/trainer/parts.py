"""The parts that a model is put together from without TensorFlow: found in the workspace, or made there."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts.template import TemplateRecord, TrunkRecord
from pipeline.artifacts.training import TrainingSpec
from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import Backbone
from pipeline.trainer import template_export
from pipeline.trainer.frozen_network import weights_path
from pipeline.trainer.shared_cache import CheckedFile, find_shared, share_file
from pipeline.trainer.template import template_key
from pipeline.trainer.trunk import TensorFlowNeededError, Trunk, converter_versions, made_by_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParts:
    """What one model shares with others.

    Args:
        trunk: The backbone in LiteRT.
        template: The SavedModel but for its numbers; None for a custom head, whose graph is its own.
    """

    trunk: Trunk
    template: CheckedFile[TemplateRecord] | None


class PartsStore:
    """Where the parts of a job's model lie, and what makes them.

    Args:
        spec: What the job is told.
        workspace: Where they are shared.
        backbone: The frozen network.
        classes: The label of each class.

    Raises:
        TensorFlowNeededError: if no version of TensorFlow can be told.
    """

    def __init__(
        self, spec: TrainingSpec, workspace: Workspace, backbone: Backbone, classes: Sequence[str]
    ) -> None:
        self._spec, self._backbone, self._classes = spec, backbone, tuple(classes)
        self._storage = workspace.storage
        versions, weights = converter_versions(), spec.weights_digest
        key = template_key(
            classes,
            units=spec.hidden_units,
            rejects_unlike=bool(spec.reject_unlike),
            has_thresholds=bool(spec.thresholds),
            versions=versions,
        )
        self._trunk = workspace.tflite(weights, backbone.spec.digest, made_by_name(versions))
        self._template = workspace.template(weights, backbone.spec.digest, key)

    def find_trunk(self) -> ModelParts:
        """Return the trunk of the weights alone.

        Raises:
            TensorFlowNeededError: if it was never converted, or answers otherwise here.
        """
        parts = self.find_converted()
        if parts is None:
            raise TensorFlowNeededError("No job has converted the backbone of these weights yet")
        return parts

    def find_converted(self) -> ModelParts | None:
        """Return the trunk of the weights alone; None if it was never converted.

        Raises:
            TensorFlowNeededError: if it answers otherwise here.
        """
        trunk = find_shared(self._trunk, TrunkRecord.from_dict)
        return ModelParts(trunk=Trunk(trunk, self._backbone.spec), template=None) if trunk else None

    def find_or_make(self, folder: Path) -> tuple[ModelParts, str]:
        """Return both parts, and why TensorFlow was needed for them; empty if it was not.

        Args:
            folder: Where a process that makes them may write.

        Raises:
            TensorFlowNeededError: if they cannot be made or answer otherwise here.
            WeightsMismatch: if they must be made and the weights are not those that their name promises.
        """
        trunk = find_shared(self._trunk, TrunkRecord.from_dict)
        template = find_shared(self._template, TemplateRecord.from_dict)
        reason = ""
        if trunk is None or template is None:
            reason = _describe(trunk is None, template is None)
            logger.info("%s: TensorFlow exports what is missing, once.", reason)
            trunk, template = self._make(folder, trunk)
        return ModelParts(trunk=Trunk(trunk, self._backbone.spec), template=template), reason

    def _make(
        self, folder: Path, trunk: CheckedFile[TrunkRecord] | None
    ) -> tuple[CheckedFile[TrunkRecord], CheckedFile[TemplateRecord]]:
        request = template_export.ExportRequest(
            backbone=self._backbone.name,
            spec=self._backbone.spec.to_dict(),
            feature_width=self._backbone.feature_width,
            weights=str(weights_path(self._spec.weights, self._storage)),
            classes=self._classes,
            units=self._spec.hidden_units,
            rejects_unlike=bool(self._spec.reject_unlike),
            has_thresholds=bool(self._spec.thresholds),
            trunk=str(trunk.path) if trunk else "",
        )
        request.write(folder)
        _run(folder)
        template = CheckedFile(
            folder / template_export.TEMPLATE,
            TemplateRecord.from_dict(json.loads((folder / template_export.TEMPLATE_RECORD).read_text())),
        )
        if trunk is None:
            record = TrunkRecord.from_dict(json.loads((folder / template_export.TRUNK_RECORD).read_text()))
            trunk = CheckedFile(folder / template_export.TRUNK, record)
            share_file(self._trunk, trunk.path, trunk.record)
        share_file(self._template, template.path, template.record)
        return trunk, template


def _describe(needs_trunk: bool, needs_template: bool) -> str:
    reasons = ["no job has converted the backbone of these weights yet"] * needs_trunk
    reasons += ["there is no template of these labels, units and versions yet"] * needs_template
    text = ", and ".join(reasons)
    return text[0].upper() + text[1:]


def _run(folder: Path) -> None:
    """Run `template_export` in a process that imports what this one does."""
    command = [sys.executable, "-P", "-m", template_export.__name__, str(folder)]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = subprocess.run(command, env=environ, check=False).returncode
    if code:
        error = folder / template_export.ERROR
        why = error.read_text(encoding="utf-8") if error.exists() else f"it ended with status {code}"
        raise TensorFlowNeededError(f"The template could not be exported: {why}")
