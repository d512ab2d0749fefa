"""Lists as other programs write them: encodings, first lines, JSON, columns that may mean labels."""

from __future__ import annotations

import io
import json

import pytest

from pipeline.datasets.sources.label_list import ListOptions
from pipeline.datasets.sources.list_choice import choose_labels
from pipeline.datasets.sources.lists import PictureList
from pipeline.errors import NoLabels, SourceNotFound

PAIRS = [("a.jpg", "cat"), ("b.jpg", "dog")]


def read(text: str | bytes) -> tuple[list[tuple[str, str]], list[str]]:
    pictures = PictureList(io.BytesIO(text.encode() if isinstance(text, str) else text), origin="list")
    return [(row.file, row.label) for row in pictures.rows()], pictures.statements


def json_lines(*values: dict[str, object]) -> str:
    return "\n".join(map(json.dumps, values))


class TestEncodings:
    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
    def test_utf16_needs_no_byte_order_mark(self, encoding: str) -> None:
        assert read("url;label\na.jpg;cat\nb.jpg;dog\n".encode(encoding)) == (PAIRS, [])

    @pytest.mark.parametrize(
        ("encoding", "labels"),
        [
            ("cp932", ("猫", "犬")),
            ("gbk", ("狗", "猫")),
            ("gbk", ("正常", "缺陷")),
            ("cp949", ("고양이", "강아지")),
            ("cp1251", ("кот", "собака")),
            ("mac_roman", ("Café", "Thé")),
        ],
    )
    def test_of_other_scripts_are_read_as_words(self, encoding: str, labels: tuple[str, str]) -> None:
        text = "url,label\n" + "".join(f"{n}.jpg,{labels[n % 2]}\n" for n in range(6))
        rows, [statement] = read(text.encode(encoding))
        assert [label for _, label in rows] == [labels[n % 2] for n in range(6)]
        assert f"it was read as {encoding}, as in '0.jpg,{labels[0]}'" in statement

    @pytest.mark.parametrize(
        "label", [*"Größe Öl maçã façade créée Ångström niño „Maß“ ÄPFEL Été".split(), "€ 5"]
    )
    def test_western_words_stay_what_they_are(self, label: str) -> None:
        rows, [statement] = read(f"url;label\na.jpg;{label}\nb.jpg;dog\n".encode("cp1252"))
        assert [each for _, each in rows] == [label, "dog"]
        assert "Windows-1252" in statement


class TestShapes:
    @pytest.mark.parametrize(
        "text",
        [
            "sep=;\nurl;label\na.jpg;cat\nb.jpg;dog\n",
            "# from 2024\n# by hand\nurl,label\na.jpg,cat\nb.jpg,dog\n",
            "# url,label\na.jpg,cat\nb.jpg,dog\n",
            "url|label\na.jpg|cat\nb.jpg|dog\n",
            "a.jpg cat\nb.jpg dog\n",
            "a.jpg\tcat\nb.jpg\tdog\n",
            "fname,class\na.jpg,cat\nb.jpg,dog\n",
            json_lines({"imageGcsUri": "a.jpg", "classificationAnnotations": [{"displayName": "cat"}]})
            + "\n"
            + json_lines({"imageGcsUri": "b.jpg", "classificationAnnotations": [{"displayName": "dog"}]}),
            json_lines(
                {"source-ref": "a.jpg", "job": 0, "job-metadata": {"class-name": "cat", "confidence": 1}},
                {"source-ref": "b.jpg", "job": 1, "job-metadata": {"class-name": "dog", "confidence": 1}},
            ),
            json_lines(
                {"id": 1, "file": "a.jpg", "label": {"id": 0, "name": "cat"}},
                {"id": 2, "file": "b.jpg", "label": ["dog"]},
            ),
            json.dumps({"cat": ["a.jpg"], "dog": ["b.jpg"]}),
            json.dumps({"classes": ["cat", "dog"], "labels": {"a.jpg": 0, "b.jpg": 1}}),
            'image,choice\na.jpg,[\'cat\']\nb.jpg,"{""choices"": [""dog""]}"\n',
        ],
    )
    def test_of_other_programs_are_read(self, text: str) -> None:
        assert read(text) == (PAIRS, [])

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ('image,choice\na.jpg,"{""choices"": [""cat"", ""dog""]}"\n', r"several values \(cat, dog\)"),
            ("image,label\na.jpg,\"['cat', 'dog']\"\n", r"line 2, has several values \(cat, dog\)"),
            ("gs://b/a.jpg,cat\ngs://b/b.jpg,dog,pet\n", "line 2, has 3 fields.*one label"),
            (
                json_lines(
                    {"imageGcsUri": "a.jpg", "classificationAnnotations": [{"displayName": x} for x in "cd"]}
                ),
                r"several values \(c, d\)",
            ),
            ("picture no,class\n1,cat\n", "no known column of files; name it.*Received: picture no, class"),
            ("a.jpg cat\nb.jpg\n", "is no path and label like 'a.jpg cat': 'b.jpg'"),
        ],
    )
    def test_of_several_labels_or_none_are_refused(self, text: str, problem: str) -> None:
        with pytest.raises(SourceNotFound, match=problem):
            read(text)

    def test_without_labels_are_named(self) -> None:
        with pytest.raises(NoLabels, match="gives no label"):
            read(json_lines({"data_row": {"id": 1}}, {"data_row": {"id": 2}}))


class TestLabels:
    def test_the_column_of_names_wins_over_their_numbers(self) -> None:
        rows, [statement] = read("file,label,ClassName\na.jpg,0,cat\nb.jpg,1,dog\n")
        assert rows == PAIRS
        assert statement == "columns: 'classname' of list tells the classes; 'label' holds their numbers"

    def test_another_column_that_may_be_meant_is_told(self) -> None:
        rows, [statement] = read("file,category,label\na.jpg,pet,cat\nb.jpg,pet,dog\n")
        assert rows == PAIRS
        assert "'category' (pet) may be meant, too" in statement
        assert "columns: {label: category}" in statement

    def test_numbers_beside_the_label_are_no_question(self) -> None:
        assert read("file,label,class_id\na.jpg,cat,0\nb.jpg,dog,1\n") == (PAIRS, [])

    @pytest.mark.parametrize("text", ["nan", "NaN", "NULL", "<NA>", "#N/A"])
    def test_what_is_not_there_is_blank(self, text: str) -> None:
        assert read(f"file,label\na.jpg,cat\nb.jpg,{text}\n")[0] == [("a.jpg", "cat"), ("b.jpg", "")]

    def test_words_that_may_stand_for_none_are_told(self) -> None:
        rows, [statement] = read("file,label\na.jpg,None\nb.jpg,None\n")
        assert rows == [("a.jpg", "None"), ("b.jpg", "None")]
        assert statement.startswith(
            "missing_labels: classes of list are named like a missing value: None (2)"
        )


class TestListsOfAnyName:
    NAMES = ("pictures/a.jpg", "pictures/b.jpg")

    def choose(self, files: dict[str, str], *names: str) -> dict[str, str] | None:
        names = names or self.NAMES
        labels = choose_labels(
            [*names, *files], lambda name: files[name].encode(),
            classes=None, options=ListOptions(), origin="x", unused=[],
        )  # fmt: skip
        return None if labels is None else labels.labels

    @pytest.mark.parametrize("name", ["data.csv", "my pets.tsv", "output.manifest", "project-7-at-2024.json"])
    def test_are_read_where_nothing_else_tells_the_classes(self, name: str) -> None:
        text = json.dumps([{"image": file, "label": label} for file, label in PAIRS])
        lines = json_lines(*({"source-ref": f"s3://b/{file}", "label": label} for file, label in PAIRS))
        tables = {"csv": "file,label\na.jpg,cat\nb.jpg,dog", "tsv": "file\tlabel\na.jpg\tcat\nb.jpg\tdog"}
        content = {**tables, "manifest": lines, "json": text}[name.rpartition(".")[2]]
        assert self.choose({name: content}) == {"pictures/a.jpg": "cat", "pictures/b.jpg": "dog"}

    def test_are_not_read_beside_class_folders(self) -> None:
        assert self.choose({"data.csv": "file,label\n1.jpg,x\n2.jpg,y"}, "cat/1.jpg", "dog/2.jpg") is None

    def test_examples_of_what_to_hand_in_are_none(self) -> None:
        assert self.choose({"sample_submission.csv": "file,label\na.jpg,0\nb.jpg,1"}) is None

    def test_of_cvat_gives_tags_else_boxes(self) -> None:
        box = '<box label="{}" xtl="0" ytl="0" xbr="{}" ybr="5"/>'
        text = (
            '<annotations><image id="0" name="a.jpg"><tag label="cat"/></image><image id="1" name="b.jpg">'
            f"{box.format('cat', 1)}{box.format('dog', 5)}</image></annotations>"
        )
        assert self.choose({"annotations.xml": text}) == {"pictures/a.jpg": "cat", "pictures/b.jpg": "dog"}
        two = text.replace('<tag label="cat"/>', '<tag label="cat"/><tag label="dog"/>')
        with pytest.raises(SourceNotFound, match="gives a.jpg several labels: cat, dog"):
            self.choose({"annotations.xml": two})
