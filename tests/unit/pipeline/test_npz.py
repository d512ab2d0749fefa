from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import BadArchive
from pipeline.npz import ArraySpec, iterate_rows, read_header, read_npz, write_npz

ARRAYS = {
    "features": np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3),
    "labels": np.array([1, 0]),
    "ids": np.array([b"ab", b"cd"], "S2"),
}


def member(descr: str, shape: str, data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return buffer.getvalue()


class TestWhatIsWritten:
    def test_reads_back_equal(self) -> None:
        read = read_npz(write_npz(ARRAYS))
        assert set(read) == set(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(read[name], array, strict=True)

    def test_numpy_reads_it_without_pickles(self) -> None:
        with np.load(io.BytesIO(write_npz(ARRAYS)), allow_pickle=False) as read:
            np.testing.assert_array_equal(read["features"], ARRAYS["features"], strict=True)

    def test_same_arrays_give_same_bytes_in_any_order(self) -> None:
        assert write_npz(ARRAYS) == write_npz(dict(reversed(ARRAYS.items())))

    def test_members_are_stored_with_a_fixed_time(self) -> None:
        with zipfile.ZipFile(io.BytesIO(write_npz(ARRAYS))) as file:
            facts = {(info.compress_type, info.date_time) for info in file.infolist()}
        assert facts == {(zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))}

    @pytest.mark.parametrize("array", [np.float32(2.5), np.empty((0, 3)), np.asfortranarray(np.eye(3)[:2])])
    def test_odd_shapes_and_orders_survive(self, array: np.ndarray) -> None:
        np.testing.assert_array_equal(read_npz(write_npz({"a": array}))["a"], array)

    def test_object_arrays_are_not_written(self) -> None:
        with pytest.raises(BadArchive, match="object"):
            write_npz({"a": np.array([{}], dtype=object)})


class TestWhatIsRefused:
    def test_object_array_is_named_and_never_unpickled(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", features=np.array([[1], [1, 2]], dtype=object))
        with pytest.raises(BadArchive, match=r"`features`.*never unpickles.*numpy\.stack"):
            read_npz(tmp_path / "a.npz")

    def test_header_that_claims_a_terabyte_allocates_nothing(self) -> None:
        data = archive(features=member("'<f8'", "(1000000000000,)", b"x" * 8))
        with pytest.raises(BadArchive, match=r"declares shape \(1000000000000,\).*holds 8 "):
            read_npz(data)

    def test_negative_dimension(self) -> None:
        with pytest.raises(BadArchive, match="declares shape"):
            read_header(archive(a=member("'|u1'", "(-1, -4)", b"abcd")))

    def test_truncated_file(self) -> None:
        with pytest.raises(BadArchive, match="not a readable NPZ"):
            read_npz(write_npz(ARRAYS)[:-100])

    def test_flipped_byte(self) -> None:
        data = bytearray(write_npz({"a": np.zeros(1000, np.uint8)}))
        data[700] ^= 1
        with pytest.raises(BadArchive, match="CRC"):
            read_npz(bytes(data))

    def test_text_file_names_the_file_and_the_fix(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.npz"
        path.write_text("not an archive")
        with pytest.raises(BadArchive, match=r"notes\.npz is not a readable NPZ file.*numpy\.savez"):
            read_npz(path)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(BadArchive, match="does not exist"):
            read_header(tmp_path / "none.npz")

    def test_member_that_is_no_array(self) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("../evil.txt", b"x")
        with pytest.raises(BadArchive, match=r"'\.\./evil\.txt' is"):
            read_header(buffer.getvalue())

    def test_member_with_a_broken_header(self) -> None:
        with pytest.raises(BadArchive, match="not a readable NPZ"):
            read_header(archive(a=b"\x93NUMPY\x01\x00\x04\x00oops"))


class TestSchema:
    SCHEMA = {"features": ArraySpec(kinds="u", itemsize=1, shape=(None, 2, 2, 3))}

    def test_reads_only_what_it_names(self) -> None:
        assert set(read_npz(write_npz(ARRAYS), self.SCHEMA)) == {"features"}

    def test_missing_array_lists_those_there_are(self) -> None:
        with pytest.raises(BadArchive, match=r"no array `features`.*Received: labels"):
            read_npz(write_npz({"labels": ARRAYS["labels"]}), self.SCHEMA)

    @pytest.mark.parametrize(
        "features",
        [np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3, 3), np.uint8), np.zeros((2, 2, 2, 3), np.uint16)],
    )
    def test_other_shape_or_type_says_both(self, features: np.ndarray) -> None:
        with pytest.raises(BadArchive, match=r"expected unsigned of 1 bytes, shape \(any, 2, 2, 3\)"):
            read_npz(write_npz({"features": features}), self.SCHEMA)


class TestRowsInOrder:
    def test_batches_make_the_whole(self) -> None:
        array = np.arange(70).reshape(7, 10)
        batches = list(iterate_rows(write_npz({"a": array}), "a", rows=3))
        assert [len(batch) for batch in batches] == [3, 3, 1]
        np.testing.assert_array_equal(np.concatenate(batches), array)

    def test_memory_does_not_grow_with_the_array(self, tmp_path: Path) -> None:
        (tmp_path / "a.npz").write_bytes(write_npz({"a": np.zeros((400, 10_000), np.uint8)}))
        tracemalloc.start()
        for _ in iterate_rows(tmp_path / "a.npz", "a", rows=10):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000

    def test_fortran_order_says_how_to_save(self) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, a=np.asfortranarray(np.eye(3)))
        with pytest.raises(BadArchive, match=r"numpy\.ascontiguousarray\(a\)"):
            list(iterate_rows(buffer, "a"))
