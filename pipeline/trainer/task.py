"""The entry point of a training job: `python -m pipeline.trainer.task --pack-index URI ... --job-dir URI`.

It reads a pack index, its shards and staged weights from the bucket, and leaves `model/` and then
`training.json` in the job directory. Killed and started again, it repeats no finished feature shard.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pipeline
from pipeline.backbones.table import BACKBONES, Backbone, find_backbone
from pipeline.errors import EmptyDataset, LabelMapMismatch, PipelineError
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from pipeline.trainer.frozen_network import FrozenNetwork
from pipeline.trainer.process import prepare_process
from pipeline.types import Float32Features, JsonDict

if TYPE_CHECKING:
    from pipeline.tflite.head import Head
    from pipeline.trainer.custom_head import KerasHead

logger = logging.getLogger(__name__)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of a job's arguments."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.trainer.task", description=__doc__)
    parser.add_argument("--pack-index", required=True, help="URI of the pack index")
    parser.add_argument(
        "--weights", required=True, help="URI of the staged weights; it ends in their SHA-256"
    )
    parser.add_argument("--backbone", required=True, choices=sorted(BACKBONES), help="the frozen network")
    parser.add_argument("--units", type=int, default=1024, help="width of the hidden layer")
    parser.add_argument("--head-module", default="", help="URI of a staged head; it ends in its SHA-256")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the features")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures in a step")
    parser.add_argument("--learning-rate", type=float, default=0.001, help="Adam's step size")
    parser.add_argument("--seed", type=int, default=42, help="of the head's first weights and the order")
    parser.add_argument("--validation-fraction", type=float, default=0.0, help="of the pictures, by group")
    parser.add_argument("--patience", type=int, default=0, help="epochs without a better validation loss")
    parser.add_argument("--class-weights", default="none", choices=["none", "balanced"], help="of the loss")
    parser.add_argument("--views", type=int, default=0, help="altered copies of each picture")
    parser.add_argument("--views-seed", type=int, default=0, help="of what the copies are altered by")
    parser.add_argument("--warm-start", default="", help="URI of the model whose head is begun from")
    parser.add_argument("--reject-below", type=float, default=0.0, help="no label below this probability")
    parser.add_argument("--workspace", required=True, help="URI of the bucket with the feature cache")
    parser.add_argument("--job-dir", required=True, help="URI that the model is written under")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job; return the process's exit code."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    prepare_process(keras=bool(arguments.head_module))
    try:
        run_job(arguments, Storage.from_environment())
    except PipelineError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return 1
    return 0


def run_job(arguments: argparse.Namespace, storage: Storage) -> JsonDict:
    """Train, export, check and upload; return what `training.json` says.

    Raises:
        EmptyDataset: if the pack has no training picture.
        LabelMapMismatch: if a label has no class, or the pack was made for another backbone.
        WeightsMismatch: if the weights' bytes are not those their name promises.
        TrainingDiverged: if the loss is no longer a number.
        SignatureMismatch: if the exported model answers otherwise than the trainer.
    """
    from pipeline.trainer.head import HeadParameters, best_epoch, train_head
    from pipeline.trainer.pictures import check_labels, collect_pictures

    clock = _Clock()
    backbone = find_backbone(arguments.backbone)
    index = storage.read_json(arguments.pack_index)
    _check_index(index, backbone)
    check_labels(index, storage)
    network = FrozenNetwork(backbone, arguments.weights, storage)
    clock.lap("load")
    prefix = f"{arguments.workspace.rstrip('/')}/features/{network.digest}/{backbone.spec.digest}"
    found = collect_pictures(index, arguments, storage=storage, prefix=prefix, network=network)
    clock.lap("features")
    parameters = HeadParameters(
        **{field.name: getattr(arguments, field.name) for field in fields(HeadParameters)}
    )
    start, begun_from = _read_start(arguments, index, backbone, storage)
    head: Head | KerasHead
    if arguments.head_module:
        from pipeline.trainer.custom_head import train_custom_head

        trained = train_custom_head(
            arguments.head_module,
            storage,
            *found.training,
            len(index["classes"]),
            parameters,
            validation=found.validation,
        )
        head, history = trained
    else:
        head, history = train_head(
            *found.training, len(index["classes"]), parameters, validation=found.validation, start=start
        )
    clock.lap("head")
    job_dir = arguments.job_dir.rstrip("/")
    light = _export(f"{job_dir}/model", index, network, head, found.first, arguments, storage)
    clock.lap("export")
    training = {
        "history": history,
        "epochs_run": len(history["loss"]),
        "best_epoch": best_epoch(history),
        "validation": found.describe_validation(),
        "augmentation": {"views": arguments.views, "seed": arguments.views_seed} if arguments.views else None,
        "class_weights": parameters.class_weights,
        "warm_start": begun_from,
        "head_module": arguments.head_module or None,
        "features": found.feature_uris,
        "work": {"forwarded": found.forwarded, "cached": found.cached},
        "light": light,
        "package": {"version": pipeline.__version__, "file": str(Path(pipeline.__file__).resolve())},
        "classes": index["classes"],
        "parameters": {"backbone": backbone.name, "weights": network.digest, **parameters.to_dict()},
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
    }
    storage.write_json(f"{job_dir}/training.json", training)
    logger.info("Done: %s", {key: training[key] for key in ("work", "package", "seconds")})
    return training


def _read_start(
    arguments: argparse.Namespace, index: JsonDict, backbone: Backbone, storage: Storage
) -> tuple[Head | None, JsonDict | None]:
    if not arguments.warm_start:
        return None, None
    from pipeline.trainer.warm_start import read_start

    return read_start(
        storage,
        arguments.warm_start,
        index["classes"],
        feature_width=backbone.feature_width,
        units=arguments.units,
        seed=arguments.seed,
    )


def _export(
    target: str,
    index: JsonDict,
    network: FrozenNetwork,
    head: Head | KerasHead,
    first: Float32Features,
    arguments: argparse.Namespace,
    storage: Storage,
) -> JsonDict | None:
    from pipeline.tflite.head import Head
    from pipeline.trainer.export import check_export, export_model
    from pipeline.trainer.features import read_first_pixels
    from pipeline.trainer.tflite_export import add_tflite_export, comparison_pixels, converted_uri

    spec, classes = PixelSpec.from_dict(index["spec"]), index["classes"]
    network.release()
    with tempfile.TemporaryDirectory(prefix="graft-model-") as temporary:
        model = Path(temporary) / "model"
        export_model(
            model,
            build_network=network.build,
            head=head,
            spec=spec,
            classes=classes,
            reject_below=arguments.reject_below,
        )
        pixels = comparison_pixels(read_first_pixels(index, storage, len(first)))
        expected = check_export(model, pixels, head.predict(first))
        light = None
        if isinstance(head, Head):  # the light form knows no other head: TensorFlow serves those
            light = add_tflite_export(
                model,
                network.build,
                uri=converted_uri(arguments.workspace, network.digest, spec),
                storage=storage,
                pixels=pixels,
                expected=expected,
                spec=spec,
                reject_below=arguments.reject_below,
            )
        storage.upload_tree(model, target)
    return None if light is None else dict(light.parity)


class _Clock:
    """Wall and CPU seconds of each part; the CPU's are of all threads."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.seconds[name] = round(wall - self._wall, 3)
        self.cpu_seconds[name] = round(cpu - self._cpu, 3)
        self._wall, self._cpu = wall, cpu


def _check_index(index: JsonDict, backbone: Backbone) -> None:
    if index["spec"] != backbone.spec.to_dict():
        raise LabelMapMismatch(
            f"The pack's pixels are not those of {backbone.name}; pack the dataset for it. "
            f"Received: {index['spec']}",
            backbone=backbone.name,
        )
    if not index["shards"]:
        raise EmptyDataset("The pack has no training picture; add pictures or lower the test fraction.")


if __name__ == "__main__":
    sys.exit(main())
