"""Makes a backbone of a network's file: a child process, so that the submitter needs no TensorFlow.

`python -m pipeline.submission.network_import FOLDER` reads `request.json` of the folder, and leaves there
`network.npz` with `network.json`, `trunk.tflite` with `trunk.json`, or `error.txt`.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts.network import NetworkRecord
from pipeline.artifacts.template import TrunkRecord
from pipeline.errors import NetworkRefused
from pipeline.npz import save_npz
from pipeline.pixels.spec import PixelSpec
from pipeline.trainer.process import prepare_process
from pipeline.trainer.shared_cache import hash_file

if TYPE_CHECKING:
    from pipeline.backbones.networks.folded import MappedNetwork
    from pipeline.backbones.networks.imported import ImportedNetwork
    from pipeline.types import Float32Features, UInt8Images

log = logging.getLogger(__name__)

REQUEST, ERROR = "request.json", "error.txt"
NETWORK, NETWORK_RECORD = "network.npz", "network.json"
TRUNK, TRUNK_RECORD = "trunk.tflite", "trunk.json"
MAX_BYTES = 500_000_000  # of weights: they are held several times in memory while they are converted


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """A network's file, and what the YAML says of it.

    Args:
        name: Of the file, for people.
        path: Of a local copy.
        application: The network of `keras.applications` whose weights it has; empty for a whole network.
        is_onnx: Whether the file is an `.onnx` file and not a `.keras` file.
        output: As in `NetworkOptions`.
        size: As in `NetworkOptions`.
        scaling: As in `NetworkOptions`.
        mean: As in `NetworkOptions`.
        std: As in `NetworkOptions`.
    """

    name: str
    path: str
    application: str = ""
    is_onnx: bool = False
    output: str = ""
    size: tuple[int, int] | None = None
    scaling: str = ""
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def write(self, folder: Path) -> None:
        """Write the request where `main` reads it."""
        (folder / REQUEST).write_text(json.dumps(asdict(self)), encoding="utf-8")


def import_network(request: ImportRequest, folder: Path) -> None:
    """Read, freeze, convert and compare a network.

    Raises:
        NetworkRefused: naming what keeps it from being a backbone, and what to change.
    """
    from pipeline.backbones.networks.frozen_graph import (
        build_frozen_network,
        freeze_network,
        has_feature_map,
    )
    from pipeline.trainer.template_export import probe_pictures

    imported = _read_file(request)
    arrays = freeze_network(imported.function)
    num_bytes = sum(array.nbytes for array in arrays.values())
    if num_bytes > MAX_BYTES:
        raise NetworkRefused(f"it has {num_bytes} bytes of weights; at most {MAX_BYTES} are converted")
    spec = PixelSpec(height=imported.height, width=imported.width, offset=0.0, divisor=1.0)
    pixels = probe_pictures(spec)
    expected: Float32Features = imported.function(pixels).numpy()
    _check_features(expected)
    _check_reference(imported, pixels, expected)
    trunk = _convert(build_frozen_network(arrays, spec), pixels, expected, folder)
    record = NetworkRecord(
        name=request.name,
        height=imported.height,
        width=imported.width,
        feature_width=expected.shape[1],
        output=imported.output,
        has_map=has_feature_map(arrays),
        largest_difference=trunk.largest_difference,
        made_by=trunk.made_by,
    )
    with (folder / NETWORK).open("wb") as file:
        save_npz(file, arrays)
    (folder / TRUNK_RECORD).write_text(json.dumps(trunk.to_dict()), encoding="utf-8")
    (folder / NETWORK_RECORD).write_text(json.dumps(record.to_dict()), encoding="utf-8")


def _check_features(features: Float32Features) -> None:
    import numpy as np

    if not np.isfinite(features).all():
        raise NetworkRefused("its features are not finite numbers")
    if not np.ptp(features, 0).max() > 0:
        raise NetworkRefused("its features are the same for every picture; check its weights and `scaling`")


def _check_reference(imported: ImportedNetwork, pixels: UInt8Images, features: Float32Features) -> None:
    from pipeline.trainer.trunk import TOLERANCE, relative_difference

    if imported.reference is None:
        return
    try:
        expected = imported.reference(pixels)
    except Exception as error:  # ONNX Runtime's own classes have no common one
        raise NetworkRefused(f"ONNX Runtime cannot run it: {str(error)[:300]}") from error
    difference = relative_difference(features, expected)
    if not difference <= TOLERANCE:
        raise NetworkRefused(
            f"its conversion to TensorFlow answers otherwise than ONNX Runtime: its features differ by "
            f"{difference:.2g} of the largest, more than {TOLERANCE}"
        )


def _convert(
    network: MappedNetwork, pixels: UInt8Images, expected: Float32Features, folder: Path
) -> TrunkRecord:
    """Convert the network, and compare the conversion with the file on the same pictures.

    Raises:
        NetworkRefused: if it cannot be converted, or the conversion answers otherwise.
    """
    from pipeline.tflite.network import TFLiteNetwork
    from pipeline.trainer.tflite_export import convert_network
    from pipeline.trainer.trunk import TOLERANCE, converter_versions, relative_difference

    try:
        (folder / TRUNK).write_bytes(convert_network(network))
        features = TFLiteNetwork(folder / TRUNK).pool(pixels)
    except Exception as error:  # the converter's and LiteRT's own classes have no common one
        log.exception("The network cannot be converted.")
        text = str(error).strip()[:300]
        raise NetworkRefused(f"it has operations that TFLite cannot run: {text}") from error
    difference = relative_difference(features, expected)
    if not difference <= TOLERANCE:
        raise NetworkRefused(
            f"its conversion to TFLite answers otherwise: its features differ by {difference:.2g} of the "
            f"largest, more than {TOLERANCE}"
        )
    return TrunkRecord(
        sha256=hash_file(folder / TRUNK),
        features=tuple(network(pixels)[0].numpy()[0].tolist()),
        largest_difference=difference,
        made_by=converter_versions(),
    )


def _read_file(request: ImportRequest) -> ImportedNetwork:
    from pipeline.backbones.networks.imported import NetworkOptions

    options = NetworkOptions(
        output=request.output, size=request.size, scaling=request.scaling, mean=request.mean, std=request.std
    )
    if request.application:
        from pipeline.backbones.networks.keras_application import import_application

        return import_application(request.application, Path(request.path), options)
    if request.is_onnx:
        from pipeline.backbones.networks.onnx_import import import_onnx

        return import_onnx(Path(request.path), options)
    from pipeline.backbones.networks.keras_import import import_keras

    return import_keras(Path(request.path), options)


def read_request(folder: Path) -> ImportRequest:
    """Read the request of a folder."""
    value = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    lists = {name: value[name] and tuple(value[name]) for name in ("size", "mean", "std")}
    return ImportRequest(**{**value, **lists})


def main(folder: Path) -> int:
    """Answer the request of a folder; return the process's exit code."""
    prepare_process(keras=True)
    try:
        import_network(read_request(folder), folder)
    except NetworkRefused as error:
        (folder / ERROR).write_text(str(error), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
