"""Lists of pictures as people and tools write them: read right, or refused with line and remedy."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from pipeline.artifacts.fetch_index import FetchedRow, FetchIndex
from pipeline.config.sources import ListColumns
from pipeline.datasets.fetch import fetch_pictures
from pipeline.datasets.sources.list_labels import MISSING
from pipeline.datasets.sources.lists import ListRow, PictureList
from pipeline.errors import SourceNotFound
from pipeline.storage import Storage
from tests.fakes.pictures import classifier_of, folder_of, noise, png, storage_in
from tests.fakes.rows import dataset_folder, index_rows, workspace_of


def read(
    text: str | bytes, *, columns: dict[str, str] | None = None, needs_labels: bool = True
) -> tuple[list[ListRow], list[str]]:
    data = text.encode() if isinstance(text, str) else text
    pictures = PictureList(
        io.BytesIO(data),
        origin="list.csv",
        columns=ListColumns(**columns) if columns else None,
        needs_labels=needs_labels,
    )
    return list(pictures.rows()), pictures.statements


def pairs(text: str | bytes, **options: object) -> list[tuple[str, str, str | None]]:
    return [(row.file, row.label, row.split) for row in read(text, **options)[0]]  # type: ignore[arg-type]


ROWS = [("a.jpg", "cat", None), ("b.jpg", "dog", None)]


class TestShapes:
    @pytest.mark.parametrize(
        "text",
        [
            "url,label\na.jpg,cat\nb.jpg,dog\n",
            "url;label\na.jpg;cat\nb.jpg;dog\n",
            "url\tlabel\na.jpg\tcat\nb.jpg\tdog\n",
            "Label,URL\ncat,a.jpg\ndog,b.jpg\n",
            "\ufeffurl;label\r\na.jpg;cat\r\nb.jpg;dog\r\n",
            "\n\nurl,label\n\na.jpg,cat\n,\nb.jpg,dog,\n",
            'url,label\n"a.jpg","cat"\n"b.jpg","dog"\n',
            "image_url,class\na.jpg,cat\nb.jpg,dog\n",
            "file_name,label\na.jpg,cat\nb.jpg,dog\n",
            "image,id,choice,annotator\na.jpg,1,cat,7\nb.jpg,2,dog,7\n",
            "id,breed\na.jpg,cat\nb.jpg,dog\n",
            "id_code,diagnosis\na.jpg,cat\nb.jpg,dog\n",
            "Width,ClassId,Path\n3,cat,a.jpg\n3,dog,b.jpg\n",
            "a.jpg,cat\nb.jpg,dog\n",
            "a.jpg;cat\nb.jpg;dog\n",
            '{"file_name": "a.jpg", "label": "cat"}\n\n{"file_name": "b.jpg", "label": ["dog"]}\n',
        ],
    )
    def test_give_the_same_rows(self, text: str) -> None:
        assert pairs(text) == ROWS

    def test_of_vertex_ai_may_name_the_part_of_a_split(self) -> None:
        expected = [
            ("gs://b/a.jpg", "cat", "train"),
            ("gs://b/b.jpg", "dog", "test"),
            ("gs://b/c.jpg", "dog", None),
        ]
        assert (
            pairs("training,gs://b/a.jpg,cat\ntest,gs://b/b.jpg,dog\nUNASSIGNED,gs://b/c.jpg,dog\n")
            == expected
        )
        objects = [
            {
                "imageGcsUri": file,
                "classificationAnnotation": {"displayName": label},
                "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": use},
            }
            for (file, label, _), use in zip(expected, ("training", "test", ""), strict=True)
        ]
        assert pairs("\n".join(map(json.dumps, objects))) == expected

    def test_with_a_column_for_the_split(self) -> None:
        text = "file,label,split\na.jpg,cat,Train\nb.jpg,dog,valid\nc.jpg,dog,\n"
        assert [row[2] for row in pairs(text)] == ["train", "validation", None]

    @pytest.mark.parametrize("name", ["set", "Usage", "phase", "fold"])
    def test_with_a_column_that_tells_a_split_by_its_values(self, name: str) -> None:
        text = f"file,label,{name}\na.jpg,cat,\nb.jpg,dog,train\nc.jpg,dog,Test\n"
        assert [row[2] for row in pairs(text)] == [None, "train", "test"]
        objects = ({"file": "a", "label": "x", name: part} for part in ("val", "test"))
        assert [row[2] for row in pairs("\n".join(map(json.dumps, objects)))] == ["validation", "test"]

    @pytest.mark.parametrize("value", ["0", "holiday"])
    def test_with_such_a_column_of_something_else_say_so(self, value: str) -> None:
        rows, statements = read(f"file,label,fold\na.jpg,cat,{value}\nb.jpg,dog,train\n")
        assert [row.split for row in rows] == [None, None]
        assert statements == [f"columns: 'fold' of list.csv tells no part of a split: {value!r}"]

    def test_of_which_a_column_is_repeated_that_is_not_used_are_read(self) -> None:
        assert pairs("file,label,note,note\na.jpg,cat,1,2\nb.jpg,dog,3,4\n") == ROWS

    def test_of_addresses_alone_take_the_label_of_the_source(self) -> None:
        text = "# cats\nhttp://x/a,b.jpg?c=1,2\n\n  http://x/b.jpg  \n"
        assert pairs(text, needs_labels=False) == [
            ("http://x/a,b.jpg?c=1,2", "", None),
            ("http://x/b.jpg", "", None),
        ]

    def test_with_columns_of_other_names_are_read_by_those_the_user_names(self) -> None:
        text = "Foto;Kategorie;Name\na.jpg;cat;x\nb.jpg;dog;y\n"
        assert pairs(text, columns={"file": "Foto", "label": "Kategorie"}) == ROWS
        with pytest.raises(SourceNotFound, match=r"has no column 'Bild'. Received: foto, kategorie, name"):
            read(text, columns={"file": "Bild", "label": "Kategorie"})

    def test_keep_a_blank_label_for_what_reads_them(self) -> None:
        assert pairs("url,label\na.jpg,cat\nb.jpg,\nc.jpg\n")[1:] == [
            ("b.jpg", "", None),
            ("c.jpg", "", None),
        ]


class TestEncodings:
    TEXT = "url;label\na.jpg;Känguru\n"

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
    def test_of_unicode_are_told_apart(self, encoding: str) -> None:
        data = self.TEXT.encode(encoding)
        rows, statements = read(data if encoding != "utf-16-le" else b"\xff\xfe" + data)
        assert ([(row.file, row.label) for row in rows], statements) == ([("a.jpg", "Känguru")], [])

    def test_of_windows_are_read_with_a_warning_that_shows_them(self) -> None:
        rows, [statement] = read(self.TEXT.encode("cp1252"))
        assert rows[0].label == "Känguru"
        assert statement == (
            "encoding: list.csv is not UTF-8; it was read as Windows-1252, as in 'a.jpg;Känguru'"
        )

    def test_are_looked_for_in_the_whole_of_a_long_list(self) -> None:
        lines = [f"{number}.jpg;cat" for number in range(200_000)]
        rows, [statement] = read("\n".join(["url;label", *lines, "x.jpg;Bär"]).encode("cp1252"))
        assert (len(rows), rows[-1].label) == (200_001, "Bär")
        assert "'x.jpg;Bär'" in statement


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "match"),
        [
            (
                "url,label\nhttp://x/1.jpg,cat\nhttp://x/2?crop=10,20,dog\n",
                r"line 3, has 3 fields, 2 were expected: 'http://x/2\?crop=10,20,dog'\. Put quotes around",
            ),
            ("http://x/1.jpg,cat\nhttp://x/2?crop=10,20,dog\n", r"line 2, has 3 fields, 2 were expected"),
            ("http://x/2?crop=10,20,dog\n", r"gives .* no label; .*Received columns"),
            ("url,colour\na.jpg,red\n", r"gives no label; .*Received: url, colour"),
            ("url,label,split\na.jpg,cat,holdout\n", r"line 2, names the part 'holdout'.*columns: \{file"),
            ('{"file_name": "a", "label": ["cat", "dog"]}\n', r"several values .* 'label': .* one label"),
            ('{"file_name": "a", "label": "x"}\n{"file_name"\n', "line 2, is no JSON"),
            ('[{"file_name": "a"}]\n', "gives no label"),
            ('{"file_name": "a", "colour": "x"}\n', "Received: file_name, colour"),
            ("file,label,label\na,cat,x\n", r"column 'label' 2 times \(columns 2, 3\).*Rename the others"),
            ("file, Label ,file,label\na,cat,b,x\n", "column 'file' 2 times"),
            ("file,label,split,split\na,cat,test,train\n", "column 'split' 2 times"),
            ("file,label,set,set\na,cat,test,train\n", "column 'set' 2 times"),
            ("file,cat,dog,cat\na,1,0,0\n", "column 'cat' 2 times"),
            ('{"file": "a", "Label": "cat", "label": "dog"}\n', "column 'label' 2 times"),
            ('{"file": "a", "label": "cat", "label": "dog"}\n', "line 1, is no JSON: .*'label' twice"),
            ('{"a.png": "cat", "b.png": "dog", "a.png": "dog"}', "'a.png' twice"),
            ("file,label,set\na,cat,train\nb,dog,holdout\n", "line 3, names the part 'holdout'"),
        ],
    )
    def test_name_line_and_remedy(self, text: str, match: str) -> None:
        with pytest.raises(SourceNotFound, match=match):
            read(text)


VALUES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(
    lambda text: text.strip() == text and text[0] not in "[{#"
)


@given(
    st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=8),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_whatever_a_csv_writer_writes_comes_back_or_is_refused(
    values: list[tuple[str, str]], delimiter: str, encoding: str
) -> None:
    import csv
    import unicodedata

    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([("url", "label"), *values])
    found = pairs(text.getvalue().encode(encoding))
    assert [(file, label) for file, label, _ in found] == [
        (file, "" if label.casefold() in MISSING else unicodedata.normalize("NFC", label).strip())
        for file, label in values
    ]


class TestFilesOfAList:
    """A list may name objects of a bucket and files beside it."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return storage_in(tmp_path)

    def fetch(
        self, storage: Storage, uri: object, **section: object
    ) -> tuple[list[FetchedRow], dict[str, int]]:
        source = {"type": "url_list", "uri": str(uri), **section}
        result = fetch_pictures(workspace_of(storage), classifier_of(source))
        return index_rows(storage, result.index), result.refused

    def test_paths_are_relative_to_the_list(self, tmp_path: Path, storage: Storage) -> None:
        folder_of(tmp_path / "img", {"cat": 2, "dog": 2})
        lines = [
            "img/cat/0000.png,cat",
            "./img/cat/0001.png,cat",
            "img\\dog\\0000.png,dog",
            "img/gone.png,dog",
        ]
        (tmp_path / "list.csv").write_text("\n".join(["file,label", *lines, "img/dog/0001.png,"]))
        rows, refused = self.fetch(storage, tmp_path / "list.csv")
        assert [(row.label, row.reason) for row in rows] == [
            ("cat", None),
            ("cat", None),
            ("dog", None),
            ("dog", "not_found"),
            ("", "unlabelled"),
        ]
        assert refused == {"not_found": 1, "unlabelled": 1}
        assert rows[0].source_url == (tmp_path / "img" / "cat" / "0000.png").as_uri()
        assert {row.network for row in rows} == {False}

    def test_objects_of_a_bucket_are_read_through_the_storage(self, tmp_path: Path, storage: Storage) -> None:
        for number in range(4):
            storage.write_bytes(f"gs://graft/vertex/{number}.png", png(noise(number)))
        lines = [
            f"{'test' if number > 2 else 'training'},gs://graft/vertex/{number}.png,c{number % 2}"
            for number in range(4)
        ]
        storage.write_bytes("gs://graft/vertex/import.csv", "\n".join(lines).encode())
        rows, refused = self.fetch(storage, "gs://graft/vertex/import.csv")
        assert [(row.label, row.given_split) for row in rows] == [
            ("c0", "train"),
            ("c1", "train"),
            ("c0", "train"),
            ("c1", "test"),
        ]
        assert refused == {}

    @pytest.mark.parametrize("parts", [("train", "test"), ("test", ""), ("", "val")])
    def test_one_file_in_two_parts_of_a_split_is_refused(
        self, tmp_path: Path, storage: Storage, parts: tuple[str, str]
    ) -> None:
        (tmp_path / "list.csv").write_text(
            "file,label,split\n" + "".join(f"a.png,cat,{part}\n" for part in parts)
        )
        source = {"type": "url_list", "uri": str(tmp_path / "list.csv")}
        with pytest.raises(SourceNotFound, match=r"line 3, puts a.png into the .* part of a split, another"):
            fetch_pictures(workspace_of(storage), classifier_of(source))

    def test_a_second_run_reads_none_again(self, tmp_path: Path, storage: Storage) -> None:
        folder_of(tmp_path / "img", {"cat": 2, "dog": 2})
        lines = [f"img/{label}/000{number}.png,{label}" for label in ("cat", "dog") for number in range(2)]
        (tmp_path / "list.csv").write_text("\n".join(["file,label", *lines]))
        source = {"type": "url_list", "uri": str(tmp_path / "list.csv")}
        runs = [fetch_pictures(workspace_of(storage), classifier_of(source)) for _ in range(2)]
        assert [(run.downloaded, run.reused) for run in runs] == [(4, 0), (0, 4)]

    def test_a_limit_counts_them_too(self, tmp_path: Path, storage: Storage) -> None:
        folder_of(tmp_path / "img", {"cat": 5, "dog": 5})
        lines = [f"img/{label}/000{number}.png,{label}" for label in ("cat", "dog") for number in range(5)]
        (tmp_path / "list.csv").write_text("\n".join(["file,label", *lines]))
        rows, _ = self.fetch(storage, tmp_path / "list.csv", limit_per_class=2)
        assert [row.label for row in rows] == ["cat", "cat", "dog", "dog"]

    def test_warnings_of_the_list_reach_the_card(self, tmp_path: Path, storage: Storage) -> None:
        folder_of(tmp_path / "img", {"Bär": 2, "dog": 2})
        lines = [f"img/{label}/000{number}.png,{label}" for label in ("Bär", "dog") for number in range(2)]
        (tmp_path / "list.csv").write_bytes("\n".join(["file,label", *lines]).encode("cp1252"))
        self.fetch(storage, tmp_path / "list.csv")
        [statement] = FetchIndex.of_last_run(dataset_folder(storage)).head().statements
        assert statement.startswith("encoding: ")
