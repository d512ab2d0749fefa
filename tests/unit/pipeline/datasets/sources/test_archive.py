from __future__ import annotations

import io
import json
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from pipeline.artifacts.fetch_index import FetchedRow, FetchIndex
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.sources.archive_members import is_safe_name, open_members
from pipeline.errors import BadArchive, EmptyDataset, SourceNotFound
from pipeline.storage import Storage
from tests.fakes.pictures import WORKSPACE, classifier_of, noise, png, serving, storage_in
from tests.fakes.rows import dataset_folder, index_rows, workspace_of

FILES = {
    f"toys/{label}/{number}.png": png(noise(10 * len(label) + number))
    for label in ("ant", "kitten")
    for number in range(3)
}


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def add_to_tar(archive: tarfile.TarFile, name: str, data: bytes = b"", **facts: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in facts.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    compression = path.suffix.removeprefix(".").replace("tar", "")
    with tarfile.open(path, f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            add_to_tar(archive, name, data)
    return path


class ForeignInfo(zipfile.ZipInfo):
    """A member whose name is written as Windows does: in a code page that nothing names."""

    encoding: str

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # of zipfile
        return self.filename.encode(self.encoding), self.flag_bits & ~0x800


def foreign_archive(path: Path, files: dict[str, bytes], encoding: str) -> Path:
    if path.suffix != ".zip":
        with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT, encoding=encoding) as archive:
            for name, data in files.items():
                add_to_tar(archive, name, data)
        return path
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in files.items():
            info = ForeignInfo(name)
            info.encoding = encoding
            zipped.writestr(info, data)
    return path


MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "a.zip": zip_of,
    "a.tar": tar_of,
    "a.tar.gz": tar_of,
    "a.tar.bz2": tar_of,
    "a.tar.xz": tar_of,
}


def fetch(uri: object, storage: Storage, **section: object) -> tuple[list[FetchedRow], dict[str, int]]:
    source = {"type": "archive", "uri": str(uri), **section}
    result = fetch_pictures(workspace_of(storage), classifier_of(source))
    return index_rows(storage, result.index), result.refused


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return storage_in(tmp_path)


class TestClassFolders:
    @pytest.mark.parametrize("name", MAKERS)
    def test_every_kind_gives_the_same_pictures(self, tmp_path: Path, storage: Storage, name: str) -> None:
        rows, refused = fetch(MAKERS[name](tmp_path / name, FILES), storage)
        assert [row.label for row in rows] == ["ant"] * 3 + ["kitten"] * 3
        assert [storage.read_bytes(f"{WORKSPACE}/blobs/{row.blob}") for row in rows] == list(FILES.values())
        assert refused == {}
        assert rows[0].network is False

    def test_classes_choose_and_what_systems_add_is_left_out(self, tmp_path: Path, storage: Storage) -> None:
        more = {
            "toys/.DS_Store": b"x",
            "__MACOSX/toys/ant/._0.png": b"x",
            "toys/README": b"x",
            "toys/bee/0.png": png(noise(7)),
        }
        rows, refused = fetch(
            zip_of(tmp_path / "a.zip", {**FILES, **more}), storage, classes=["kitten", "ant"]
        )
        assert {row.label for row in rows} == {"kitten", "ant"}
        assert (len(rows), refused) == (6, {})

    def test_a_missing_class_is_named(self, tmp_path: Path, storage: Storage) -> None:
        with pytest.raises(EmptyDataset, match="none of dog"):
            fetch(zip_of(tmp_path / "a.zip", FILES), storage, classes=["ant", "dog"])

    def test_an_unchanged_archive_is_not_opened_again(
        self, tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = zip_of(tmp_path / "a.zip", FILES)
        first = fetch(path, storage)
        monkeypatch.setattr(
            "pipeline.datasets.sources.archive.open_members", lambda *a, **o: pytest.fail("opened")
        )
        assert fetch(path, storage) == first

    def test_it_comes_over_http_from_a_place_that_the_user_named(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        zip_of(tmp_path / "a.zip", FILES)
        with serving(tmp_path) as server:
            for _ in range(2):
                assert len(fetch(server.url("a.zip"), storage)[0]) == 6
            assert server.requests["bodies"] == 1


class TestOtherPeoplesArchives:
    def statements(self, storage: Storage) -> list[str]:
        return list(FetchIndex.of_last_run(dataset_folder(storage)).head().statements)

    @pytest.mark.parametrize("name", MAKERS)
    def test_a_split_keeps_its_classes_and_its_test_set(
        self, tmp_path: Path, storage: Storage, name: str
    ) -> None:
        files = {f"export/{part}/{name}": data for part in ("train", "test") for name, data in FILES.items()}
        files = {name.replace("toys/", ""): data for name, data in files.items()}
        rows, refused = fetch(MAKERS[name](tmp_path / name, files), storage)
        assert {(row.label, row.given_split) for row in rows} == {
            (label, split) for label in ("ant", "kitten") for split in ("train", "test")
        }
        assert refused == {}
        [statement] = self.statements(storage)
        assert "6 pictures are the test set" in statement

    def test_files_beside_the_common_folder_are_left_out_and_counted(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        more = {"README.txt": b"x", "LICENSE": b"x", "toys/notes.md": b"x", "toys/ant/Thumbs.db": b"x"}
        rows, refused = fetch(zip_of(tmp_path / "a.zip", {**more, **FILES}), storage)
        assert (len(rows), refused) == (6, {})
        assert self.statements(storage) == [
            "files left out: 1 Thumbs.db, 3 beside the class folders (README.txt, LICENSE, notes.md)"
        ]

    def test_backslashes_throughout_are_separators(self, tmp_path: Path, storage: Storage) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name, data in FILES.items():
                info = zipfile.ZipInfo("x")
                info.filename = name.replace("/", "\\")
                info.create_system = 0
                archive.writestr(info, data)
        rows, refused = fetch(tmp_path / "a.zip", storage)
        assert [row.label for row in rows] == ["ant"] * 3 + ["kitten"] * 3
        assert refused == {}

    def test_backslashes_in_some_names_are_separators(self, tmp_path: Path, storage: Storage) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for number, (name, data) in enumerate(FILES.items()):
                info = zipfile.ZipInfo("x")
                info.filename = name.replace("/", "\\") if number % 2 else name
                archive.writestr(info, data)
        rows, refused = fetch(tmp_path / "a.zip", storage)
        assert [row.label for row in rows] == ["ant"] * 3 + ["kitten"] * 3
        assert refused == {}

    @pytest.mark.parametrize("write", [zip_of, tar_of])
    def test_a_dot_before_all_names_is_the_folder_that_was_packed(
        self, tmp_path: Path, storage: Storage, write: Callable[[Path, dict[str, bytes]], Path]
    ) -> None:
        path = write(tmp_path / "a.tar", {f"././{name}": data for name, data in FILES.items()})
        rows, refused = fetch(path, storage)
        assert [row.label for row in rows] == ["ant"] * 3 + ["kitten"] * 3
        assert refused == {}

    def test_one_in_which_nothing_can_be_used_says_what_it_has(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        files = {"../a.png": b"x", "b.png": b"x", "__MACOSX/b.png": b"x"}
        with pytest.raises(
            EmptyDataset,
            match=r"2 members \(1 refused as bad_member_name, 1 __MACOSX\), such as '\.\./a\.png'",
        ):
            fetch(zip_of(tmp_path / "a.zip", files), storage)

    @pytest.mark.parametrize("kind", ["zip", "tar.gz"])
    @pytest.mark.parametrize(
        ("encoding", "labels"), [("gbk", ["浣熊", "袋鼠"]), ("cp932", ["アライグマ", "表"])]
    )
    def test_names_of_other_systems_are_words_and_are_shown(
        self, tmp_path: Path, storage: Storage, kind: str, encoding: str, labels: list[str]
    ) -> None:
        files = {f"{label}/{n}.png": png(noise(10 * len(label) + n)) for label in labels for n in range(3)}
        path = foreign_archive(tmp_path / f"a.{kind}", files, encoding)
        rows, refused = fetch(path, storage)
        assert ({row.label for row in rows}, refused) == (set(labels), {})
        [statement] = self.statements(storage)
        assert f"were read as {encoding}: {labels[0]}" in statement

    @pytest.mark.parametrize("kind", ["zip", "tar.gz"])
    def test_a_named_encoding_is_taken_and_read_anew(
        self, tmp_path: Path, storage: Storage, kind: str
    ) -> None:
        files = {
            f"{label}/{n}.png": png(noise(n + len(label))) for label in ("개", "고양이") for n in range(2)
        }
        path = foreign_archive(tmp_path / f"a.{kind}", files, "cp949")
        fetch(path, storage, encoding="gbk")
        rows, _ = fetch(path, storage, encoding="cp949")
        assert {row.label for row in rows} == {"개", "고양이"}
        assert self.statements(storage) == []

    def test_a_named_encoding_that_does_not_fit_is_told(self, tmp_path: Path, storage: Storage) -> None:
        path = foreign_archive(tmp_path / "a.zip", FILES | {"Größe/0.png": b"x"}, "cp850")
        with pytest.raises(BadArchive, match="cannot be read as utf-8.*Correct `encoding`"):
            fetch(path, storage, encoding="utf-8")

    def test_a_name_in_the_extra_field_is_certain(self, tmp_path: Path, storage: Storage) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for label in ("개", "고양이"):
                raw, name = f"{label}/0.png".encode("cp949"), f"{label}/0.png".encode()
                info = ForeignInfo(f"{label}/0.png")
                info.encoding = "cp949"
                body = struct.pack("<BI", 1, zlib.crc32(raw)) + name
                info.extra = struct.pack("<HH", 0x7075, len(body)) + body
                archive.writestr(info, png(noise(len(label))))
        rows, _ = fetch(tmp_path / "a.zip", storage)
        assert {row.label for row in rows} == {"개", "고양이"}
        assert self.statements(storage) == []

    def test_the_note_of_an_earlier_release_is_made_anew(self, tmp_path: Path, storage: Storage) -> None:
        path = zip_of(tmp_path / "a.zip", FILES)
        first = fetch(path, storage)
        uri = dataset_folder(storage).fetch_index(0)
        head, *lines = storage.read_bytes(uri).splitlines()
        notes = json.loads(head)["notes"]
        old = {
            "uri": str(path),
            "validators": notes["0"]["archive"]["validators"],
            "sha256": "0",
            "members": [],
        }
        new_head = json.dumps({**json.loads(head), "notes": {"0": {"archive": old}}}).encode()
        storage.write_bytes(uri, b"\n".join([new_head, *lines]) + b"\n")
        assert fetch(path, storage) == first


class TestLabelsFile:
    def test_names_each_pictures_class(self, tmp_path: Path, storage: Storage) -> None:
        files = {f"all/img/{n}.png": png(noise(n)) for n in range(4)}
        labels = b"File,Label\nimg/0.png,ant\nimg/1.png,bee\nall/img/2.png,ant\n"
        rows, refused = fetch(zip_of(tmp_path / "a.zip", {"all/labels.csv": labels, **files}), storage)
        assert [row.label for row in rows] == ["ant", "bee", "ant", ""]
        assert refused == {"member_unlabelled": 1}

    def test_without_its_columns_is_refused(self, tmp_path: Path, storage: Storage) -> None:
        files = {"labels.csv": b"colour,shape\na,b\n", "a.png": png(noise(1))}
        with pytest.raises(BadArchive, match=r"needs the columns `file,label`.*colour, shape"):
            fetch(zip_of(tmp_path / "a.zip", files), storage)


class TestOtherPeoplesLists:
    """Lists beside the pictures, as tools and platforms write them."""

    FILES = {f"images/k{n}.jpg": png(noise(n)) for n in range(4)}

    def labels_of(self, tmp_path: Path, storage: Storage, files: dict[str, bytes]) -> dict[str, str]:
        rows, _ = fetch(zip_of(tmp_path / "a.zip", files), storage)
        return {row.source_url.partition("#")[2]: row.label for row in rows if not row.reason}

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            (
                "labels.csv",
                "file,label\nimages/k0.jpg,a\nimages/k1.jpg,b\nk2.jpg,a\nimages/k3.jpg,b\n",
            ),
            ("labels.csv", "file,label\nk0.jpg,a\nk1.jpg,b\nk2.jpg,a\nk3.jpg,b\n"),
            ("labels.csv", "id;breed\nk0;a\nk1;b\nk2;a\nk3;b\n"),
            (
                "labels.csv",
                "file,label\nimages\\k0.jpg,a\n.\\images\\k1.jpg,b\n./k2.jpg,a\nk3.jpg,b\n",
            ),
            ("images/metadata.csv", "file_name,label\nk0.jpg,a\nk1.jpg,b\nk2.jpg,a\nk3.jpg,b\n"),
            (
                "images/metadata.jsonl",
                "\n".join(f'{{"file_name": "k{n}.jpg", "label": "{"ab"[n % 2]}"}}' for n in range(4)),
            ),
            ("train_labels.csv", "id,label\nk0,a\nk1,b\nk2,a\nk3,b\n"),
        ],
    )
    def test_are_read(self, tmp_path: Path, storage: Storage, name: str, text: str) -> None:
        labels = self.labels_of(tmp_path, storage, {name: text.encode(), **self.FILES})
        assert labels == {f"images/k{n}.jpg": "ab"[n % 2] for n in range(4)}

    def test_of_each_part_of_a_split_keep_it(self, tmp_path: Path, storage: Storage) -> None:
        files: dict[str, bytes] = {}
        for part, first in (("train", 0), ("test", 10)):
            rows = [f"{n}.png,{'ab'[n % 2]}" for n in range(first, first + 4)]
            files[f"{part}/metadata.csv"] = "\n".join(["file_name,label", *rows]).encode()
            files |= {f"{part}/{n}.png": png(noise(n)) for n in range(first, first + 4)}
        rows, refused = fetch(zip_of(tmp_path / "a.zip", files), storage)
        assert {(row.label, row.given_split) for row in rows} == {
            (label, part) for label in "ab" for part in ("train", "test")
        }
        assert refused == {}

    def test_that_name_no_file_say_what_is_there(self, tmp_path: Path, storage: Storage) -> None:
        files = {"labels.csv": b"file,label\nx0.jpg,a\nx1.jpg,b\n", **self.FILES}
        with pytest.raises(EmptyDataset, match=r"lists x0.jpg, x1.jpg, the files there are images/k0.jpg"):
            fetch(zip_of(tmp_path / "a.zip", files), storage)

    def test_that_name_a_file_twice_differently_are_refused(self, tmp_path: Path, storage: Storage) -> None:
        files = {"labels.csv": b"file,label\nk0.jpg,a\nk1.jpg,b\nimages/k0.jpg,b\n./k0.jpg,a\n", **self.FILES}
        with pytest.raises(
            EmptyDataset, match=r"labels.csv, line 4, gives images/k0.jpg the label 'b', another"
        ):
            fetch(zip_of(tmp_path / "a.zip", files), storage)

    def test_are_not_used_where_class_folders_tell(self, tmp_path: Path, storage: Storage) -> None:
        files = {"metadata.csv": b"file_name,label\ntoys/ant/0.png,kitten\n", **FILES}
        assert set(self.labels_of(tmp_path, storage, files).values()) == {"ant", "kitten"}

    def test_with_matches_by_the_end_say_so(self, tmp_path: Path, storage: Storage) -> None:
        text = "file,label\n/kaggle/input/k0.jpg,a\n/kaggle/input/k1.jpg,b\n"
        fetch(zip_of(tmp_path / "a.zip", {"labels.csv": text.encode(), **self.FILES}), storage)
        statements = FetchIndex.of_last_run(dataset_folder(storage)).head().statements
        assert any(
            "2 of 2 rows were matched by their ends: /kaggle/input/k0.jpg as images/k0.jpg" in s
            for s in statements
        )


def hostile_zip(path: Path) -> dict[str, str]:
    link = zipfile.ZipInfo("toys/ant/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    device = zipfile.ZipInfo("toys/ant/device.png")
    device.external_attr = (stat.S_IFCHR | 0o666) << 16
    bad = {
        "../up.png": "bad_member_name",
        "/etc/absolute.png": "bad_member_name",
        "C:/drive.png": "bad_member_name",
        "toys/ant/..": "bad_member_name",
        "toys/ant/back\\slash.png": "bad_member_name",
        "toys/ant/line\nbreak.png": "bad_member_name",
        "toys/ant/ratio.png": "member_ratio",
        "toys/ant/link.png": "member_is_link",
        "toys/ant/device.png": "member_is_device",
        "toys/ant/secret.png": "member_encrypted",
        "toys/ant/damaged.png": "member_damaged",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("toys/ant/0.png", b"another of the same name")
        for name in bad:
            info = {"toys/ant/link.png": link, "toys/ant/device.png": device}.get(name)
            data = bytes(20_000_000) if "ratio" in name else b"/etc/passwd"
            archive.writestr(
                info or name, data, compress_type=zipfile.ZIP_STORED if "damaged" in name else None
            )
    content = bytearray(path.read_bytes())
    at = content.rindex(b"toys/ant/secret.png")
    content[at - 46 + 8] |= 1  # the flag in the list of members
    at = content.index(b"toys/ant/damaged.png") + len("toys/ant/damaged.png")
    content[at : at + 4] = b"XXXX"
    path.write_bytes(content)
    return bad


class TestHostileZip:
    def test_each_member_is_refused_with_its_reason_and_the_good_are_kept(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        bad = hostile_zip(tmp_path / "a.zip")
        rows, refused = fetch(tmp_path / "a.zip", storage)
        kept = [row for row in rows if row.reason is None]
        assert [storage.read_bytes(f"{WORKSPACE}/blobs/{row.blob}") for row in kept] == list(FILES.values())
        expected: dict[str, int] = {"member_doubled": 1}
        for reason in bad.values():
            expected[reason] = expected.get(reason, 0) + 1
        assert refused == dict(sorted(expected.items()))
        assert not list(tmp_path.parent.rglob("up.png"))

    def test_a_long_list_of_members_is_refused_before_it_is_read(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        path = zip_of(tmp_path / "a.zip", FILES)
        content = bytearray(path.read_bytes())
        end = content.rindex(b"PK\x05\x06")
        content[end + 8 : end + 12] = struct.pack("<HH", 60_000, 60_000)
        path.write_bytes(content)
        with pytest.raises(BadArchive, match="more than 50,000 members"):
            fetch(path, storage)


class TestHostileTar:
    def test_each_member_is_refused_with_its_reason_and_the_good_are_kept(
        self, tmp_path: Path, storage: Storage
    ) -> None:
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
            for name, data in FILES.items():
                add_to_tar(archive, name, data)
            add_to_tar(archive, "../up.png", b"x")
            add_to_tar(archive, "/absolute.png", b"x")
            add_to_tar(archive, "toys/ant/0.png", b"doubled")
            add_to_tar(archive, "toys/ant/s", type=tarfile.SYMTYPE, linkname="/etc/passwd")
            add_to_tar(archive, "toys/ant/h", type=tarfile.LNKTYPE, linkname="toys/ant/0.png")
            add_to_tar(archive, "toys/ant/c", type=tarfile.CHRTYPE)
            add_to_tar(archive, "toys/ant/f", type=tarfile.FIFOTYPE)
        rows, refused = fetch(tmp_path / "a.tar.gz", storage)
        assert sum(row.reason is None for row in rows) == 6
        assert refused == {
            "bad_member_name": 2,
            "member_doubled": 1,
            "member_is_device": 2,
            "member_is_link": 2,
        }

    def test_a_bomb_is_found_while_it_unpacks(self, tmp_path: Path, storage: Storage) -> None:
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
            for number in range(3):
                add_to_tar(archive, f"toys/ant/{number}", bytes(40_000_000))
        with pytest.raises(BadArchive, match="unpacks to more than 100 times"):
            fetch(tmp_path / "a.tar.gz", storage)

    def test_a_header_that_claims_much_is_not_read(self, tmp_path: Path, storage: Storage) -> None:
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.XHDTYPE, 2**31
        (tmp_path / "a.tar").write_bytes(info.tobuf() + bytes(1024))
        with pytest.raises(BadArchive, match="header of 2147483648 bytes"):
            fetch(tmp_path / "a.tar", storage)


class TestRefusals:
    @pytest.mark.parametrize(
        "data", [b"", b"text", b"PK\x03\x04 and no more", b"\x1f\x8b\x08 and no more", b"PK\x05\x06"]
    )
    def test_what_is_no_archive_is_named(self, tmp_path: Path, storage: Storage, data: bytes) -> None:
        (tmp_path / "a.zip").write_bytes(data)
        with pytest.raises(BadArchive, match=r"a\.zip"):
            fetch(tmp_path / "a.zip", storage)

    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (b"<!DOCTYPE html><html>a page</html>", "is a web page.*`dl=1`"),
            (b"\n <html><head>", "is a web page"),
            (b"7z\xbc\xaf\x27\x1c\x00\x04", "is a 7z archive. Pack it anew as zip"),
            (b"Rar!\x1a\x07\x01\x00", "is a RAR archive"),
            (b"\x28\xb5\x2f\xfd", "compressed by zstd.*tar.gz"),
        ],
    )
    def test_what_is_something_else_is_told_with_the_remedy(
        self, tmp_path: Path, storage: Storage, data: bytes, match: str
    ) -> None:
        (tmp_path / "a.zip").write_bytes(data)
        with pytest.raises(BadArchive, match=match):
            fetch(tmp_path / "a.zip", storage)

    def test_a_missing_one_is_named(self, tmp_path: Path, storage: Storage) -> None:
        with pytest.raises(SourceNotFound, match="there is no archive"):
            fetch(tmp_path / "none.zip", storage)

    @given(st.text(max_size=40))
    def test_a_safe_name_stays_inside(self, name: str) -> None:
        if is_safe_name(name):
            assert (Path("/root") / name).resolve().is_relative_to("/root/")
            assert "\\" not in name

    @given(st.data())
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @pytest.mark.parametrize("name", MAKERS)
    def test_no_damage_is_too_odd(self, tmp_path: Path, name: str, data: st.DataObject) -> None:
        content = bytearray(MAKERS[name](tmp_path / name, FILES).read_bytes())
        for _ in range(data.draw(st.integers(1, 5))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        content = content[: data.draw(st.integers(0, len(content)))]
        try:
            for member in open_members(io.BytesIO(content), origin="a"):
                if member.refused is None:
                    read_or_refuse(member.read)
        except BadArchive as error:
            message = str(error)
            assert message.startswith("a ")

    @given(st.lists(st.tuples(st.text(max_size=30), st.binary(max_size=50)), max_size=8))
    @settings(deadline=None)
    def test_members_of_any_name_are_listed_or_refused(self, members: list[tuple[str, bytes]]) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", errors="surrogateescape") as archive:
            for name, data in members:
                if name.strip("/") and not any(0xD800 <= ord(c) < 0xE000 for c in name):
                    add_to_tar(archive, name, data)
        seen: set[str] = set()
        try:
            for member in open_members(buffer, origin="a"):
                if member.refused is None:
                    assert is_safe_name(member.name)
                    assert member.name not in seen
                    seen.add(member.name)
        except BadArchive as error:
            message = str(error)
            assert "no zip" in message or "damaged" in message


def read_or_refuse(read: Callable[[], bytes]) -> None:
    from pipeline.errors import FetchRefused

    try:
        read()
    except FetchRefused as error:
        reason = error.reason
        assert reason.startswith("member_")
