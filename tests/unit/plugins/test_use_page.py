"""*Use it*: programs that ask the classifier, and its versions as files."""

from __future__ import annotations

import errno
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import TFLiteUnavailable
from tests.fakes.airflow_pages import NAME, Pages

PAGE = f"/classifiers/{NAME}/use"
EXPORT = f"/classifiers/{NAME}/export"


@pytest.fixture
def serving(pages: Pages) -> Pages:
    pages.engine.ensure_model(NAME)
    pages.engine.create_version(NAME, {"name": "v_1", "deploymentUri": "gs://x"})
    pages.sign_in("user")
    return pages


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The exports that were asked for; each is a zip of one file."""
    calls: list[dict[str, Any]] = []

    def export_version(workspace: Any, *, file: Path, **arguments: Any) -> None:
        calls.append({**arguments, "file": file})
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("labels.json", "[]")

    monkeypatch.setattr("pipeline.export.archive.export_version", export_version)
    return calls


def test_programs_have_the_engines_address_and_no_token(serving: Pages) -> None:
    text = serving.get(PAGE).text
    assert f"http://engine.test:8000/v1/projects/local/models/{NAME}:predict" in text
    assert text.count("GRAFT_TOKEN") >= 5
    assert 'data-snippet="curl"' in text
    assert "<code>v_1</code>" in text


def test_a_classifier_without_a_version_says_so(pages: Pages) -> None:
    pages.sign_in("viewer")
    assert "No version serves yet" in pages.get(PAGE).text


@pytest.mark.parametrize("format", ["tflite", "onnx", "keras", "savedmodel"])
def test_a_version_is_downloaded_under_its_name(
    serving: Pages, exported: list[dict[str, Any]], format: str
) -> None:
    address = f"{EXPORT}?format={format}&amp;version=v_1"
    assert address in serving.get(PAGE).text
    answer = serving.get(address.replace("&amp;", "&"))
    assert answer.status_code == 200
    assert f'filename="{NAME}-v_1-{format}.zip"' in answer.headers["content-disposition"]
    assert zipfile.ZipFile(io.BytesIO(answer.content)).namelist() == ["labels.json"]
    [call] = exported
    assert (call["model"], call["version"], call["format"].value) == (NAME, "v_1", format)
    assert not call["file"].parent.exists()


def test_a_viewer_sees_the_programs_and_exports_nothing(
    serving: Pages, exported: list[dict[str, Any]]
) -> None:
    serving.sign_in("viewer")
    text = serving.get(PAGE).text
    assert 'data-snippet="curl"' in text
    assert EXPORT not in text
    assert serving.get(f"{EXPORT}?format=onnx&version=v_1").status_code == 403
    assert exported == []


def test_another_site_starts_no_export(serving: Pages, exported: list[dict[str, Any]]) -> None:
    headers = {"sec-fetch-site": "cross-site"}
    answer = serving.client.get(f"{EXPORT}?format=onnx&version=v_1", headers=headers)
    assert answer.status_code == 403
    assert exported == []


def test_one_export_is_made_at_a_time(serving: Pages, exported: list[dict[str, Any]]) -> None:
    from graft.ui.use_pages import EXPORTING

    with EXPORTING:
        answer = serving.get(f"{EXPORT}?format=onnx&version=v_1")
    assert answer.status_code == 429
    assert "try again" in answer.text
    assert serving.get(f"{EXPORT}?format=onnx&version=v_1").status_code == 200


def test_a_version_that_cannot_be_exported_says_why_and_leaves_nothing(
    serving: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []

    def refuse(workspace: Any, *, file: Path, **arguments: Any) -> None:
        folders.append(file.parent)
        raise TFLiteUnavailable("it has a head of its own")

    monkeypatch.setattr("pipeline.export.archive.export_version", refuse)
    answer = serving.get(f"{EXPORT}?format=onnx&version=v_1")
    assert answer.status_code == 409
    assert "a head of its own" in answer.text
    assert [folder for folder in folders if folder.exists()] == []
    assert serving.get(f"{EXPORT}?format=nonsense&version=v_1").status_code == 422


def test_a_full_disk_is_told(serving: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.export.archive.export_version", fail)
    for _ in range(2):  # the first leaves nothing locked
        answer = serving.get(f"{EXPORT}?format=tflite&version=v_1")
        assert (answer.status_code, "No space left on device" in answer.text) == (507, True)


class TestTokens:
    def test_a_token_is_shown_once_and_listed_with_who_made_it(self, serving: Pages) -> None:
        serving.sign_in("user", name="bob")
        answer = serving.post("tokens", {"token": serving.token(), "label": "<b>shop"})
        assert '<code id="new-token">token-of-&lt;b&gt;shop, by bob</code>' in answer.text
        [listed] = serving.engine.list_tokens(NAME)
        assert listed.name == "<b>shop, by bob"
        page = serving.get(PAGE).text
        assert "&lt;b&gt;shop, by bob" in page
        assert "token-of" not in page

    def test_it_is_revoked(self, serving: Pages) -> None:
        serving.post("tokens", {"token": serving.token(), "label": "shop"})
        [listed] = serving.engine.list_tokens(NAME)
        answer = serving.post("tokens", {"token": serving.token(), "revoke": listed.id})
        assert (answer.status_code, answer.headers["location"].endswith("/use#tokens")) == (303, True)
        assert serving.engine.list_tokens(NAME) == []

    def test_a_viewer_neither_sees_nor_changes_them(self, serving: Pages) -> None:
        token = serving.token()
        serving.post("tokens", {"token": token, "label": "shop"})
        assert serving.post("tokens", {"token": "forged", "label": "x"}).status_code == 403
        serving.sign_in("viewer")
        assert "shop" not in serving.get(PAGE).text
        assert serving.post("tokens", {"token": token, "label": "x"}).status_code == 403
        assert len(serving.engine.list_tokens(NAME)) == 1
