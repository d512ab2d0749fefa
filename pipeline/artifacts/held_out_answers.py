"""A comparison job: the options that it cross-validates, and their answers for held-out pictures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

from pipeline.artifacts.codec import as_object, build_record, strip_format
from pipeline.artifacts.folders import JobDirectory
from pipeline.artifacts.training import FeatureWork, TrainingSpec
from pipeline.types import BytesIds, Float32Outputs, Int64Labels, IntArray, JsonObject, JsonValue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.npz import ArraySpec

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonSpec:
    """Everything a comparison job is told.

    Args:
        base: The pictures and the backbone; its seed deals out the folds.
        options: What is compared. They share the pictures and the backbone.
    """

    base: TrainingSpec
    options: tuple[TrainingSpec, ...]

    def to_args(self) -> list[str]:
        """Return the command line of the job; the platform appends `--job-dir`."""
        texts = (json.dumps(_changes(self.base, option), sort_keys=True) for option in self.options)
        return [*self.base.to_args(), *(part for text in texts for part in ("--option", text))]

    @classmethod
    def from_args(cls, argv: Sequence[str] | None = None) -> ComparisonSpec:
        """Read the command line of a job, by default that of the process.

        Raises:
            SystemExit: if it is not the command line of a job, after the parser's message on stderr.
        """
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--option", action="append", required=True, type=json.loads)
        own, rest = parser.parse_known_args(argv)
        base = TrainingSpec.from_args(rest)
        return cls(base=base, options=tuple(replace(base, **changes) for changes in own.option))


def _changes(base: TrainingSpec, option: TrainingSpec) -> dict[str, JsonValue]:
    values = ((each.name, getattr(option, each.name)) for each in fields(option))
    return {name: value for name, value in values if value != getattr(base, name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionCost:
    """What the head of one option costs.

    Args:
        head_bytes: Its numbers, as they are stored.
        head_cpu_ms: CPU time of one picture's answer from its features.
        fit_cpu_seconds: CPU time of one training, with its calibration.
    """

    head_bytes: int
    head_cpu_ms: float
    fit_cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRecord:
    """What a comparison job did: `comparison.json`, written last.

    Args:
        classes: The label of class 0, of class 1, and so on.
        options: The cost of each option's head, in their order.
        network_bytes: Size of the frozen network.
        network_cpu_ms: CPU time of one picture's features.
        latency_ms: Median time of one picture's features, alone.
        work: What the frozen network had to do for the training pictures.
    """

    classes: tuple[str, ...]
    options: tuple[OptionCost, ...]
    network_bytes: int
    network_cpu_ms: float
    latency_ms: float
    work: FeatureWork

    def to_dict(self) -> dict[str, JsonValue]:
        """Return plain JSON values."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, value: JsonObject) -> ComparisonRecord:
        """Read what `to_dict` wrote.

        Raises:
            FormatTooNew: if a newer version of Graft wrote it.
            RecordInvalid: if it is no such record.
        """
        value = strip_format(value, FORMAT, cls)
        rows, classes = value.get("options"), value.get("classes")
        return build_record(
            cls,
            value,
            classes=tuple(map(str, classes)) if isinstance(classes, Sequence) else (),
            options=tuple(
                build_record(OptionCost, as_object(each))
                for each in (rows if isinstance(rows, Sequence) else ())
            ),
            work=build_record(FeatureWork, as_object(value.get("work"))),
        )

    def write(self, job: JobDirectory) -> None:
        """Write the record into the directory of the job."""
        job.storage.write_json(job.comparison, self.to_dict())

    @classmethod
    def read(cls, job: JobDirectory) -> ComparisonRecord:
        """Read the record of a job.

        Raises:
            ObjectNotFound: if the job has left none.
            FormatTooNew: if a newer version of Graft wrote it.
        """
        return cls.from_dict(job.storage.read_json(job.comparison))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutAnswers:
    """What heads answer for training pictures that neither they nor their near duplicates trained.

    Args:
        ids: Of the pictures; in bytes.
        labels: Class index of each.
        folds: Which fold each was left out in.
        outputs: Class probabilities of each option.

    Shapes:
        ids, labels, folds: (num_images,).  outputs: (options, num_images, classes) float32.
    """

    ids: BytesIds
    labels: Int64Labels
    folds: IntArray
    outputs: NDArray[np.float32]

    def of_option(self, number: int) -> Float32Outputs:
        """Return the class probabilities of one option.

        Shapes:
            returns: (num_images, classes).
        """
        outputs: Float32Outputs = self.outputs[number]
        return outputs

    def write(self, job: JobDirectory) -> None:
        """Write the answers into the directory of the job."""
        from pipeline.npz import write_npz

        arrays = {name: getattr(self, name) for name in _schema()}
        job.storage.write_bytes(job.held_out, write_npz(arrays))

    @classmethod
    def read(cls, job: JobDirectory) -> HeldOutAnswers:
        """Read the answers of a job.

        Raises:
            ObjectNotFound: if the job has left none.
            BadArchive: if the file is damaged.
        """
        from pipeline.npz import read_npz

        return cls(**read_npz(job.storage.local_path(job.held_out), _schema(), origin=job.held_out))


def _schema() -> dict[str, ArraySpec]:
    from pipeline.npz import ArraySpec  # imports NumPy, which reads its settings then: a job makes them first

    return {
        "ids": ArraySpec(kinds="S", shape=(None,)),
        "labels": ArraySpec(kinds="i", shape=(None,), itemsize=8),
        "folds": ArraySpec(kinds="i", shape=(None,), itemsize=8),
        "outputs": ArraySpec(kinds="f", shape=(None, None, None), itemsize=4),
    }
