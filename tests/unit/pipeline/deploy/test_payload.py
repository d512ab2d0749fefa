from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts.workspace import Workspace
from pipeline.backbones.table import BACKBONES
from pipeline.deploy.payload import (
    MAX_PAYLOAD_BYTES,
    MAX_PICTURE_BYTES,
    find_pixel_spec,
    fit_instances,
    fit_picture,
    payload_bytes,
    split_instances,
)
from pipeline.pixels.host import decode_resized
from pipeline.pixels.spec import PixelSpec
from pipeline.storage import Storage
from tests.fakes.ml_engine import FakeMLEngine

SPEC = PixelSpec(height=20, width=30, offset=127.5, divisor=127.5)


def encoded(format: str, mode: str = "RGB", **options: int | Image.Exif) -> bytes:
    levels = np.random.default_rng(0).integers(0, 256, (90, 70, 4), np.uint8)
    picture = Image.fromarray(levels).convert(mode)
    picture.save(data := io.BytesIO(), format, **options)
    return data.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("JPEG", exif=exif)


@pytest.mark.parametrize("spec", [SPEC, *(backbone.spec for backbone in BACKBONES.values())])
@pytest.mark.parametrize(
    "data",
    [encoded("JPEG", quality=80), turned(), encoded("PNG", "RGBA"), encoded("GIF", "P"), encoded("WEBP")],
    ids=["jpeg", "turned", "transparent", "gif", "webp"],
)
def test_the_version_makes_the_same_pixels_of_both(data: bytes, spec: PixelSpec) -> None:
    np.testing.assert_array_equal(decode_resized(fit_picture(data, spec), spec), decode_resized(data, spec))


def test_what_is_no_picture_is_left_to_the_engine() -> None:
    assert fit_picture(b"no picture", SPEC) == b"no picture"


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_pictures_in_instances_are_found_wherever_they_are(encode: Callable[[bytes], bytes]) -> None:
    text = encode(encoded("PNG")).decode()
    keyed, named, bare = fit_instances([{"key": "k", "inputs": {"b64": text}}, {"inputs": text}, text], SPEC)
    fitting = base64.b64encode(fit_picture(encoded("PNG"), SPEC))
    assert isinstance(keyed, dict)
    assert keyed["key"] == "k"
    for each in (keyed["inputs"]["b64"], named["inputs"], bare):  # type: ignore[index,call-overload]
        assert base64.urlsafe_b64decode(each.replace("+", "-").replace("/", "_")) == base64.b64decode(fitting)


def test_everything_else_in_instances_stays() -> None:
    instances = [{"x": 1.5, "text": "y" * 2000, "list": [1, 2]}, 3, "short", None]
    assert fit_instances(instances, SPEC) == instances


def test_requests_stay_within_the_limit_and_in_order() -> None:
    instances = ["x" * 700_000, "a", "y" * 900_000, "z" * 2_000_000, "b", "c"]
    requests = list(split_instances(instances))
    assert [text for request in requests for text in request] == instances
    assert [len(request) for request in requests] == [2, 1, 1, 2]
    assert [payload_bytes(request) <= MAX_PAYLOAD_BYTES for request in requests] == [True, True, False, True]
    assert payload_bytes([{"key": "k" * 300, "inputs": {"b64": "x" * (MAX_PICTURE_BYTES * 4 // 3)}}]) < (
        MAX_PAYLOAD_BYTES
    )


def test_the_pixels_of_a_version_are_those_of_its_export(tmp_path: Path) -> None:
    storage, engine = Storage({"graft": tmp_path}), FakeMLEngine()
    workspace = Workspace(storage, "gs://graft")
    engine.ensure_model("m")
    engine.create_version("m", {"name": "v_1", "deploymentUri": "gs://graft/jobs/j/model"})
    assert find_pixel_spec(workspace, engine, "m", "v_1") is None
    storage.write_json("gs://graft/jobs/j/model/graft/light.json", {"spec": SPEC.to_dict()})
    assert find_pixel_spec(workspace, engine, "m", "v_1") == SPEC
    storage.write_json("gs://graft/models/m/v_1/graft/light.json", {"spec": None})
    assert find_pixel_spec(workspace, engine, "m", "v_1") is None
