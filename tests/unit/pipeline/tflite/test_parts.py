from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.artifacts.model_files import TFLITE_NETWORK
from pipeline.errors import TFLiteUnavailable
from pipeline.pixels.spec import PixelSpec
from pipeline.tflite.manifest import FILES, Parity, TFLiteManifest, digest_files
from pipeline.tflite.parts import PIECE_BYTES, copy_network

NETWORK = bytes(range(256)) * (16 * PIECE_BYTES // 256) + b"the end"


@pytest.fixture
def manifest(tmp_path: Path) -> TFLiteManifest:
    (tmp_path / "graft").mkdir()
    for name in FILES:
        (tmp_path / name).write_bytes(NETWORK if name == TFLITE_NETWORK else name.encode())
    return TFLiteManifest(
        files=digest_files(tmp_path),
        spec=PixelSpec(height=4, width=4, offset=0, divisor=1),
        reject_below=0.5,
        parity=Parity(pictures=2, largest_difference=1e-6),
        made_by={"graft": "0"},
    )


def test_a_network_is_copied_in_pieces(tmp_path: Path, manifest: TFLiteManifest) -> None:
    tracemalloc.start()
    try:
        copy_network(tmp_path, manifest, tmp_path / "copy")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "copy").read_bytes() == NETWORK
    assert peak < 4 * PIECE_BYTES  # of 16


def test_a_damaged_or_missing_network_is_refused_and_leaves_no_copy(
    tmp_path: Path, manifest: TFLiteManifest
) -> None:
    other = replace(manifest, files={**manifest.files, TFLITE_NETWORK: "0" * 64})
    with pytest.raises(TFLiteUnavailable, match="network.tflite is not the file that was compared"):
        copy_network(tmp_path, other, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    (tmp_path / TFLITE_NETWORK).unlink()
    with pytest.raises(TFLiteUnavailable, match="network.tflite cannot be read: No such file"):
        copy_network(tmp_path, manifest, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
