"""The NPZ file format: headers are checked before anything is read, and nothing is ever unpickled.

An NPZ is a zip of `.npy` members. A hundred bytes of header may claim a terabyte, and an object array runs
code when it is loaded, so every member's header, size and data type are checked first. Needs NumPy and
`pipeline.errors` only: this module travels in the trainer package.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from pipeline.errors import BadArchive

if TYPE_CHECKING:
    from numpy.typing import NDArray

NpzSource: TypeAlias = "str | Path | bytes | BinaryIO"

MAX_ARRAY_BYTES = 64 * 2**30
MAX_MEMBERS = 10_000
READABLE_KINDS = "biufSU"  # booleans, numbers, fixed-width text: everything that needs no pickle
_EPOCH = (1980, 1, 1, 0, 0, 0)
_NOT_READABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayHeader:
    """The header of one member, checked against its size in the archive.

    Args:
        name: The array's name, without `.npy`.
        shape: Its dimensions.
        dtype: Its data type; never an object.
        fortran_order: Whether the first axis is the fastest.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool

    @property
    def num_bytes(self) -> int:
        """Size of the array itself."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """What an array must look like.

    Args:
        kinds: Allowed NumPy kinds, for example `"u"` or `"iuf"`; with `itemsize` for an exact type.
        shape: Dimensions, None where any length will do.
        itemsize: Bytes of an element, None for any.
    """

    kinds: str
    shape: tuple[int | None, ...]
    itemsize: int | None = None

    def fits(self, header: ArrayHeader) -> bool:
        """Return True if a header is as expected."""
        return (
            header.dtype.kind in self.kinds
            and self.itemsize in (None, header.dtype.itemsize)
            and len(header.shape) == len(self.shape)
            and all(want in (None, have) for want, have in zip(self.shape, header.shape, strict=True))
        )

    def __str__(self) -> str:
        names = {"u": "unsigned", "i": "integer", "f": "float", "b": "bool", "S": "ASCII", "U": "text"}
        bits = "" if self.itemsize is None else f" of {self.itemsize} bytes"
        shape = ", ".join("any" if length is None else str(length) for length in self.shape)
        return f"{' or '.join(names[kind] for kind in self.kinds)}{bits}, shape ({shape})"


def _name_of(source: NpzSource) -> str:
    return str(source) if isinstance(source, (str, Path)) else "the NPZ archive"


@contextmanager
def _opened(source: NpzSource, origin: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            yield archive
    except FileNotFoundError as error:
        raise BadArchive(f"{origin} does not exist.", origin=origin) from error
    except _NOT_READABLE as error:
        raise BadArchive(
            f"{origin} is not a readable NPZ file: {error}. "
            "Write it with numpy.savez(path, features=..., labels=...).",
            origin=origin,
        ) from error


def _checked_members(archive: zipfile.ZipFile, origin: str) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in members or info.flag_bits & 0x1 or len(members) >= MAX_MEMBERS:
            raise BadArchive(
                f"{origin}: the member {info.filename!r} is doubled, encrypted, one of more than "
                f"{MAX_MEMBERS}, or no array; expected only .npy members, as numpy.savez writes them.",
                origin=origin,
            )
        members[name] = info
    return members


def _read_array_header(file: IO[bytes], name: str, info: zipfile.ZipInfo, origin: str) -> ArrayHeader:
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise BadArchive(
            f"{origin}: `{name}` has .npy version {version}; expected 1.0 or 2.0.", origin=origin
        )
    shape, fortran_order, dtype = readers[version](file)
    if dtype.kind not in READABLE_KINDS:
        raise BadArchive(
            f"{origin}: `{name}` has the data type {dtype}; Graft never unpickles, so object arrays and "
            "records are refused. Save plain numbers of one shape, such as "
            "numpy.stack(pictures).astype('uint8').",
            origin=origin,
            array=name,
        )
    header = ArrayHeader(name=name, shape=tuple(shape), dtype=dtype, fortran_order=fortran_order)
    held = info.file_size - file.tell()
    if min(shape, default=0) < 0 or header.num_bytes != held or held > MAX_ARRAY_BYTES:
        raise BadArchive(
            f"{origin}: `{name}` declares shape {header.shape} of {dtype}, {header.num_bytes} bytes, but "
            f"the archive holds {held} (at most {MAX_ARRAY_BYTES} are read). Write the file again.",
            origin=origin,
            array=name,
        )
    return header


def _rewind(source: NpzSource) -> None:
    if not isinstance(source, (str, Path, bytes)):
        source.seek(0)


def read_header(source: NpzSource, *, origin: str | None = None) -> dict[str, ArrayHeader]:
    """Read what the archive holds, without the arrays.

    Args:
        source: A path, the bytes themselves, or an open binary file.
        origin: What messages call it; the path by default.

    Raises:
        BadArchive: if it is no NPZ, holds an object array, or a size is not what a header declares.
    """
    _rewind(source)
    origin, headers = origin or _name_of(source), {}
    with _opened(source, origin) as archive:
        for name, info in _checked_members(archive, origin).items():
            with archive.open(info) as file:
                headers[name] = _read_array_header(file, name, info, origin)
    return headers


def check_schema(headers: Mapping[str, ArrayHeader], schema: Mapping[str, ArraySpec], *, origin: str) -> None:
    """Compare headers with what the reader needs.

    Raises:
        BadArchive: naming the first array that is missing or not as expected.
    """
    for name, spec in schema.items():
        if name not in headers:
            raise BadArchive(
                f"{origin}: there is no array `{name}`; expected {spec}. "
                f"Received: {', '.join(headers) or 'none'}",
                origin=origin,
                array=name,
            )
        header = headers[name]
        if not spec.fits(header):
            raise BadArchive(
                f"{origin}: `{name}` does not fit; expected {spec}. "
                f"Received: {header.dtype}, shape {header.shape}",
                origin=origin,
                array=name,
            )


def _read_exactly(file: IO[bytes], num_bytes: int) -> bytearray:
    data = bytearray(num_bytes)
    view, filled = memoryview(data), 0
    while filled < num_bytes:
        count = file.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError(f"{num_bytes - filled} bytes are missing")
        filled += count
    return data


def read_npz(
    source: NpzSource, schema: Mapping[str, ArraySpec] | None = None, *, origin: str | None = None
) -> dict[str, NDArray[Any]]:
    """Read arrays, after all headers have been checked.

    Args:
        source: A path, the bytes themselves, or an open binary file.
        schema: The arrays to read and what they must look like; None reads all there are.
        origin: What messages call it; the path by default.

    Raises:
        BadArchive: as `read_header`, and if an array is missing or does not fit.
    """
    origin = origin or _name_of(source)
    headers = read_header(source, origin=origin)
    if schema is not None:
        check_schema(headers, schema, origin=origin)
    _rewind(source)
    arrays = {}
    with _opened(source, origin) as archive:
        for name in headers if schema is None else schema:
            with archive.open(f"{name}.npy") as file:
                header = _read_array_header(file, name, archive.getinfo(f"{name}.npy"), origin)
                order = "F" if header.fortran_order else "C"
                flat = np.frombuffer(_read_exactly(file, header.num_bytes), header.dtype)
                arrays[name] = flat.reshape(header.shape, order=order)  # type: ignore[call-overload]
    return arrays


def iterate_rows(
    source: NpzSource, name: str, *, rows: int = 64, origin: str | None = None
) -> Iterator[NDArray[Any]]:
    """Read one array in order, some rows at a time, in constant memory.

    Raises:
        BadArchive: as `read_header`, and for an array in Fortran order, whose rows are not together.
    """
    _rewind(source)
    origin = origin or _name_of(source)
    with _opened(source, origin) as archive, archive.open(f"{name}.npy") as file:
        header = _read_array_header(file, name, archive.getinfo(f"{name}.npy"), origin)
        if header.fortran_order and len(header.shape) > 1:
            raise BadArchive(
                f"{origin}: `{name}` is in Fortran order; save numpy.ascontiguousarray({name}).",
                origin=origin,
            )
        row_shape = header.shape[1:]
        row_bytes = math.prod(row_shape) * header.dtype.itemsize
        for start in range(0, header.shape[0], rows):
            count = min(rows, header.shape[0] - start)
            batch = np.frombuffer(_read_exactly(file, count * row_bytes), header.dtype)
            yield batch.reshape(count, *row_shape)


def save_npz(file: BinaryIO, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the arrays as an NPZ into a seekable file: the same arrays give the same bytes.

    Members are stored, not deflated, in the order of their names, with a fixed time.

    Raises:
        BadArchive: for an object array.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array = np.asarray(arrays[name], order="C")
            if array.dtype.kind not in READABLE_KINDS:
                raise BadArchive(
                    f"`{name}` has the data type {array.dtype}; only plain numbers are written.", array=name
                )
            info = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
                member.write(array.reshape(-1).view(np.uint8).data)  # NumPy's own writer copies in chunks


def write_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return what `save_npz` writes.

    Raises:
        BadArchive: for an object array.
    """
    buffer = io.BytesIO()
    save_npz(buffer, arrays)
    return buffer.getvalue()
