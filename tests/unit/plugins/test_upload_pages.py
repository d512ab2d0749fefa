"""Pictures added on the page: by whom, in which class, and what is said of those that are refused."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.uploads import list_pictures, read_uploads
from pipeline.config.files import read_classifier
from pipeline.errors import StorageError
from pipeline.storage import Storage
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.pictures import noise, png

HOSTILE = '"><script>alert(1)</script>'
ADD = f"/classifiers/{NAME}/add"
JSON = {"accept": "application/json"}


@pytest.fixture
def yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(tmp_path / "yaml"))
    path = tmp_path / "yaml" / f"{NAME}.yaml"
    path.parent.mkdir()
    path.write_text(f"name: {NAME}\ndataset:\n  source: {{type: sample}}  # tiles\n")
    return path


@pytest.fixture
def writer(pages: Pages, yaml: Path) -> Pages:
    pages.sign_in("user")
    return pages


def send(pages: Pages, label: str, *files: tuple[str, bytes], path: str = ADD, **arguments: Any) -> Any:
    field = "archive" if path.endswith("archive") else "pictures"
    uploads = [(field, (name, data, "image/png")) for name, data in files]
    fields = {"token": pages.token(), "label": label}
    return pages.client.post(path, data=fields, files=uploads, **arguments)


def pictures(*seeds: int) -> list[tuple[str, bytes]]:
    return [(f"{seed}.png", png(noise(seed))) for seed in seeds]


def kept(pages: Pages) -> list[str]:
    return [each.label for each in list_pictures(pages.fleet.workspace.uploads(NAME))]


class TestAdding:
    def test_a_form_keeps_them_in_the_persons_name_and_shows_them(self, writer: Pages) -> None:
        answer = send(writer, "ant", *pictures(1, 2))
        assert answer.status_code == 200
        assert "2 added, 0 already there, 0 refused" in answer.text
        assert "2 uploaded" in answer.text
        assert kept(writer) == ["ant", "ant"]
        assert [each.by for each in read_uploads(writer.fleet.workspace.uploads(NAME))] == ["ann"]

    def test_a_script_is_told_in_json_and_may_ask_what_is_there(self, writer: Pages) -> None:
        send(writer, "ant", *pictures(1))
        answer = send(writer, "ant", *pictures(1, 2), ("x.png", b"none"), headers=JSON).json()
        assert (answer["added"], answer["known"], answer["problem"]) == (1, 1, "")
        assert answer["refused"] == [
            {
                "name": "x.png",
                "reason": "not_an_image",
                "text": "the bytes are no picture, whatever the name says",
            }
        ]
        known = writer.get(f"{ADD}/known").json()
        assert {label: len(digests) for label, digests in known.items()} == {"ant": 2}

    def test_the_yaml_gets_the_source_once_and_keeps_its_comments(self, writer: Pages, yaml: Path) -> None:
        assert "The first upload adds a source" in writer.get(ADD).text
        for seed in (1, 2):
            send(writer, "ant", *pictures(seed))
        text = yaml.read_text()
        assert text.count("uploads") == 1
        assert "# tiles" in text
        assert [source.type for source in read_classifier(yaml).dataset.all_sources] == ["sample", "uploads"]

    def test_a_yaml_that_cannot_be_changed_is_told_and_the_pictures_are_kept(
        self, writer: Pages, yaml: Path
    ) -> None:
        yaml.unlink()
        answer = send(writer, "ant", *pictures(1), headers=JSON).json()
        assert "The pictures are kept, but no run uses them yet" in answer["problem"]
        assert kept(writer) == ["ant"]

    def test_hostile_names_are_only_text(self, writer: Pages) -> None:
        answer = send(writer, HOSTILE, *pictures(1), (f"../{HOSTILE}.png", b"none"))
        assert "1 added" in answer.text
        assert "<script>alert" not in answer.text
        assert "<script>alert" not in writer.get(ADD).text
        assert kept(writer) == [HOSTILE]

    @pytest.mark.parametrize("label", ["", "a\x00b", "x" * 201])
    def test_a_class_needs_a_name(self, writer: Pages, label: str) -> None:
        answer = send(writer, label, *pictures(1), headers=JSON)
        assert answer.status_code == 400
        assert "class" in answer.json()["problem"]
        assert kept(writer) == []

    def test_nothing_chosen_is_told(self, writer: Pages) -> None:
        assert "Choose a picture first" in send(writer, "ant").text


class TestLimits:
    def test_too_many_files_or_bytes_are_refused(
        self, writer: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("graft.ui.upload_pages.MAX_FILES", 2)
        assert send(writer, "ant", *pictures(1, 2, 3)).status_code == 400
        monkeypatch.setattr("graft.ui.upload_pages.MAX_UPLOAD_BYTES", 100)
        assert send(writer, "ant", *pictures(1)).status_code == 413
        assert kept(writer) == []

    def test_a_full_disk_is_told_and_what_came_before_stays(
        self, writer: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = Storage.create_bytes

        def fill(storage: Storage, uri: str, data: bytes) -> bool:
            if kept(writer):
                raise StorageError("Writing failed: No space left on device") from OSError(28, "No space")
            return create(storage, uri, data)

        with monkeypatch.context() as patch:
            patch.setattr(Storage, "create_bytes", fill)
            answer = send(writer, "ant", *pictures(1, 2), headers=JSON)
        assert answer.status_code == 507
        assert "No space left" in answer.json()["problem"]
        again = send(writer, "ant", *pictures(1, 2), headers=JSON).json()
        assert (again["added"], again["known"]) == (1, 1)

    def test_a_disk_too_full_for_the_request_itself_is_told(
        self, writer: Pages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        token = writer.token()
        monkeypatch.setattr("graft.ui.upload_pages.read_form", fail)
        answer = writer.client.post(ADD, data={"token": token}, headers=JSON)
        assert answer.status_code == 507
        assert "No space left" in answer.json()["problem"]

    @pytest.mark.parametrize("path", [f"{ADD}/known"])
    def test_a_viewer_is_told_no_digests(self, writer: Pages, path: str) -> None:
        writer.sign_in("viewer")
        assert writer.get(path).status_code == 403
        assert writer.get(ADD).status_code == 200

    def test_a_form_without_our_token_is_refused(self, writer: Pages) -> None:
        files = [("pictures", ("1.png", png(noise(1)), "image/png"))]
        answer = writer.client.post(ADD, data={"token": "x", "label": "ant"}, files=files)
        assert answer.status_code == 403
        assert kept(writer) == []


class TestArchives:
    def zip(self, **members: bytes) -> tuple[str, bytes]:
        data = BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            for name, content in members.items():
                archive.writestr(name.replace("__", "/") + ".png", content)
        return "toys.zip", data.getvalue()

    def test_its_folders_are_the_classes(self, writer: Pages) -> None:
        archive = self.zip(ant__1=png(noise(1)), ant__2=png(noise(2)), cat__1=png(noise(3)), cat__2=b"none")
        answer = send(writer, "", archive, path=f"{ADD}/archive")
        assert "3 added, 0 already there, 1 refused" in answer.text
        assert kept(writer) == ["ant", "ant", "cat"]

    def test_a_script_is_told_of_each_batch(self, writer: Pages) -> None:
        archive = self.zip(
            train__ant__1=png(noise(1)),
            train__cat__1=png(noise(2)),
            test__ant__2=png(noise(3)),
            test__cat__2=png(noise(4)),
        )
        answer = send(writer, "", archive, path=f"{ADD}/archive", headers=JSON)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert sum(line.get("added", 0) for line in lines) == 4
        assert lines[-1] == {"problem": ""}
        assert "is not kept" in lines[-2]["statements"][-1]
        assert kept(writer) == ["ant", "ant", "cat", "cat"]

    def test_what_is_none_is_told(self, writer: Pages) -> None:
        for headers in ({}, JSON):
            answer = send(writer, "", ("x.zip", b"no archive"), path=f"{ADD}/archive", headers=headers)
            assert "archive" in answer.text
            assert kept(writer) == []
