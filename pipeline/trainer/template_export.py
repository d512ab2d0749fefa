"""Makes what jobs without TensorFlow need: the template of a graph, and the backbone's conversion.

`python -m pipeline.trainer.template_export FOLDER` reads `request.json` of the folder, and leaves there
`saved_model.pb` with `template.json`, `trunk.tflite` with `trunk.json` if it was asked for, or `error.txt`.
It is a process of its own because the file that TensorFlow writes depends on what the process traced before.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts.template import TemplateRecord, TrunkRecord
from pipeline.errors import PipelineError, SignatureMismatch
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.network import TFLiteNetwork
from pipeline.trainer.process import import_tensorflow, prepare_process
from pipeline.trainer.shared_cache import hash_file
from pipeline.trainer.template import find_offsets, model_numbers, sentinel_numbers
from pipeline.trainer.trunk import TOLERANCE, converter_versions, noise_picture, relative_difference
from pipeline.types import Float32Features, JsonObject, UInt8Images

REQUEST, ERROR = "request.json", "error.txt"
TEMPLATE, TEMPLATE_RECORD = "saved_model.pb", "template.json"
VARIABLES = "variables"  # there is none, but TensorFlow does not load a model without the folder
TRUNK, TRUNK_RECORD = "trunk.tflite", "trunk.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What is wanted.

    Args:
        backbone: Name of the frozen network.
        spec: The pixels it is fed, as `PixelSpec.to_dict` has them.
        feature_width: Length of its pooled features.
        weights: Path of its staged weights, their digest checked.
        classes: The label of each class.
        units: Width of the hidden layer; None for logistic regression.
        rejects_unlike: Whether the graph compares the novelty with a limit.
        has_thresholds: Whether each class has a probability of its own below which there is no label.
        trunk: Path of the backbone's conversion; empty to convert it.
    """

    backbone: str
    spec: JsonObject
    feature_width: int
    weights: str
    classes: tuple[str, ...]
    units: int | None
    rejects_unlike: bool
    has_thresholds: bool
    trunk: str

    def write(self, folder: Path) -> None:
        """Write the request where `main` reads it."""
        (folder / REQUEST).write_text(json.dumps(asdict(self)), encoding="utf-8")


def export_template(request: ExportRequest, folder: Path) -> None:
    """Export, convert, compare and describe.

    Raises:
        SignatureMismatch: if the exported graph, the converted backbone and TensorFlow answer differently.
    """
    from pipeline.backbones.opened import open_network
    from pipeline.trainer.export import check_export, export_model
    from pipeline.trainer.tflite_export import convert_network

    spec = PixelSpec.from_dict(request.spec)
    build = open_network(Path(request.weights), request.backbone, spec)
    head, novelty, below, unlike = sentinel_numbers(
        request.feature_width,
        len(request.classes),
        units=request.units,
        has_thresholds=request.has_thresholds,
    )
    unlike = unlike if request.rejects_unlike else 0.0
    placeholders = export_model(
        folder, build_network=build, head=head, spec=spec, classes=request.classes,
        reject_below=below, novelty=novelty, reject_unlike=unlike,
    )  # fmt: skip
    numbers = model_numbers(head, novelty, reject_below=below, reject_unlike=unlike)
    data = (folder / TEMPLATE).read_bytes()
    offsets = find_offsets(
        data, numbers, {name: placeholders.count(array) for name, array in numbers.items()}
    )
    del data
    pixels, network = probe_pictures(spec), build()
    pooled: Float32Features = network(pixels)[0].numpy()
    check_export(folder, pixels, head.predict(pooled))
    if not request.trunk:
        (folder / TRUNK).write_bytes(convert_network(network))
    _describe_trunk(folder, Path(request.trunk or folder / TRUNK), pixels, pooled)
    template = TemplateRecord(
        sha256=hash_file(folder / TEMPLATE),
        offsets=offsets,
        sizes={name: array.nbytes for name, array in numbers.items()},
        files={
            path.relative_to(folder).as_posix(): base64.b64encode(path.read_bytes()).decode()
            for path in (folder / VARIABLES).iterdir()
        },
        made_by=converter_versions(),
    )
    (folder / TEMPLATE_RECORD).write_text(json.dumps(template.to_dict()), encoding="utf-8")


def probe_pictures(spec: PixelSpec) -> UInt8Images:
    """Return the noise picture, a smooth one and one of coarse blocks."""
    noise = noise_picture(spec)
    rows, columns = np.indices((spec.height, spec.width))
    smooth = np.stack([rows * 255 // spec.height, columns * 255 // spec.width, (rows + columns) % 256], -1)
    return np.stack([noise, smooth.astype(np.uint8), noise[rows // 32, columns // 32]])


def _describe_trunk(folder: Path, trunk: Path, pixels: UInt8Images, expected: Float32Features) -> None:
    difference = relative_difference(TFLiteNetwork(trunk).pool(pixels), expected)
    if not difference <= TOLERANCE:
        raise SignatureMismatch(
            f"LiteRT's features differ from TensorFlow's by {difference:.2g} of the largest, more than "
            f"{TOLERANCE}.",
            difference=difference,
        )
    record = TrunkRecord(
        sha256=hash_file(trunk),
        features=tuple(expected[0].tolist()),
        largest_difference=difference,
        made_by=converter_versions(),
    )
    (folder / TRUNK_RECORD).write_text(json.dumps(record.to_dict()), encoding="utf-8")


def main(folder: Path) -> int:
    """Answer the request of a folder; return the process's exit code."""
    prepare_process(keras=False)
    import_tensorflow()
    value = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    try:
        export_template(ExportRequest(**{**value, "classes": tuple(value["classes"])}), folder)
    except PipelineError as error:
        (folder / ERROR).write_text(str(error), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
