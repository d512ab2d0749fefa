from __future__ import annotations

import io
import stat
import tarfile
import zipfile

import pytest

from pipeline.engine.backends import archives
from pipeline.engine.backends.archives import UnsafePackage, check_package
from tests.packages import sdist, tar_gz, wheel


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def check(tmp_path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    check_package(path)


def zipped(*entries: tuple[str, int]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, "text")
    return data.getvalue()


def test_ordinary_packages_pass(tmp_path):
    check(tmp_path, "tiny-1.tar.gz", sdist({"setup.py": "", "tiny/__init__.py": ""}))
    check(tmp_path, "tiny-1-py3-none-any.whl", wheel("tiny", {"tiny/__init__.py": ""}))
    check(tmp_path, "tiny-1.zip", zipped(("tiny-1/", stat.S_IFDIR), ("tiny-1/setup.py", stat.S_IFREG)))


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\..\\x", "C:/x"])
def test_a_member_that_leaves_the_directory_is_refused_and_named(tmp_path, name):
    with pytest.raises(UnsafePackage, match=r"bad-1.tar.gz is refused: the member .* leaves"):
        check(tmp_path, "bad-1.tar.gz", tar_gz({name: ""}))
    if "\\" not in name:  # zipfile itself turns those around
        with pytest.raises(UnsafePackage, match="leaves the package's directory"):
            check(tmp_path, "bad.whl", zipped((name, stat.S_IFREG)))


@pytest.mark.parametrize(
    "entry",
    [
        member("a/link", tarfile.SYMTYPE, "/etc"),
        member("a/link", tarfile.SYMTYPE, "b"),
        member("a/hard", tarfile.LNKTYPE, "a/setup.py"),
        member("a/fifo", tarfile.FIFOTYPE),
        member("a/device", tarfile.CHRTYPE),
    ],
)
def test_links_and_devices_are_refused_wherever_they_lead(tmp_path, entry):
    with pytest.raises(UnsafePackage, match="is a link or a device"):
        check(tmp_path, "bad-1.tar.gz", tar_gz({"a/setup.py": ""}, entry))


def test_a_link_in_a_wheel_is_refused(tmp_path):
    with pytest.raises(UnsafePackage, match="is a link or a device"):
        check(tmp_path, "bad.whl", zipped(("a/link", stat.S_IFLNK)))


@pytest.mark.parametrize("name", ["big-1.tar.gz", "big.whl"])
def test_what_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 100_000)
    data = tar_gz({"a": "0" * 200_000}) if name.endswith("gz") else wheel("a", {"a": "0" * 200_000})
    with pytest.raises(UnsafePackage, match="100,000 bytes"):
        check(tmp_path, name, data)


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(UnsafePackage, match="more than 2 members"):
        check(tmp_path, "many-1.tar.gz", tar_gz({"a": "", "b": "", "c": ""}))


@pytest.mark.parametrize("name", ["x.tar.gz", "x.whl", "x.zip"])
@pytest.mark.parametrize(
    "data",
    [b"", b"no archive", sdist({"a": "b" * 5000})[:-30]],
    ids=["empty", "no archive", "cut"],  # gzip notes the time: without names each process has its own test
)
def test_damage_is_refused(tmp_path, name, data):
    with pytest.raises(UnsafePackage, match="is damaged"):
        check(tmp_path, name, data)
