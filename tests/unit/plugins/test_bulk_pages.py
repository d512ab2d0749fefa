"""Many pictures on *Use it*: what is sent comes back as rows, whatever it is called and whatever it holds."""

from __future__ import annotations

import base64
import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import PlatformError, PlatformUnavailable
from tests.fakes.airflow_pages import NAME, Pages

PREDICTIONS = f"/classifiers/{NAME}/predictions"


def answer(version: str, instance: dict[str, Any]) -> dict[str, Any]:
    data = base64.b64decode(instance["inputs"]["b64"])
    if data == b"bad":
        raise PlatformError("instance 0: the bytes are no picture", status=200)
    return {"key": instance["key"], "label": data.decode(), "score": 0.75, "outputs": [0.75]}


@pytest.fixture
def serving(pages: Pages) -> Pages:
    pages.engine.answer = answer
    pages.engine.ensure_model(NAME)
    pages.engine.create_version(NAME, {"name": "v_1", "deploymentUri": "gs://x"})
    pages.sign_in("user")
    return pages


def send(pages: Pages, *files: tuple[str, bytes], **fields: str) -> Any:
    sent = [("pictures", (name, data, "image/png")) for name, data in files]
    token = fields.get("token") or pages.token()
    return pages.client.post(PREDICTIONS, data={"token": token}, files=sent)


def rows(response: Any) -> dict[str, dict[str, str]]:
    return {row["file"]: row for row in csv.DictReader(io.StringIO(response.text, newline=""))}


def zipped(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def test_files_and_archives_come_back_as_rows_of_a_csv(serving: Pages) -> None:
    assert "Many pictures" in serving.get(f"/classifiers/{NAME}/use").text
    answer = send(serving, ("a.jpg", b"ant"), ("z.jpg", b"bad"), ("more.zip", zipped(("b.jpg", b"bee"))))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{NAME}-v_1.csv"'
    table = rows(answer)
    assert {file: row["label"] for file, row in table.items()} == {
        "a.jpg": "ant",
        "z.jpg": "",
        "more.zip/b.jpg": "bee",
    }
    assert table["z.jpg"]["error"] == "the bytes are no picture"


def test_hostile_files_are_rows_with_reasons(serving: Pages, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    table = rows(
        send(
            serving,
            ("../../up.jpg", b"ant"),
            ("same.jpg", b"bee"),
            ("same.jpg", b"cat"),
            ("broken.zip", b"no zip"),
            ("evil.zip", zipped(("../up.jpg", b"ant"))),
            ("list.txt", f"{secret}\nfile://{secret}\nhttp://169.254.169.254/x.jpg\nhttp://[x\n".encode()),
        )
    )
    assert table["../../up.jpg"]["label"] == "ant"
    assert (table["same.jpg"]["label"], table["same.jpg (2)"]["label"]) == ("bee", "cat")
    for name in ("broken.zip", "evil.zip/../up.jpg", str(secret), f"file://{secret}"):
        assert (table[name]["label"], bool(table[name]["error"])) == ("", True)
    assert not any(row["label"] == "secret" for row in table.values())
    assert all(row["error"] for name, row in table.items() if name.startswith("http"))


def test_an_engine_that_goes_away_is_told_in_the_last_row(
    serving: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(version: str, instance: dict[str, Any]) -> dict[str, Any]:
        if instance["key"] == "b.jpg":
            raise PlatformUnavailable("the engine does not answer")
        return answer(version, instance)

    monkeypatch.setattr("pipeline.bulk.run.CHUNK_PICTURES", 1)
    serving.engine.answer = fail
    table = rows(send(serving, ("a.jpg", b"ant"), ("b.jpg", b"bee"), ("c.jpg", b"cat")))
    assert list(table) == ["a.jpg", ""]
    assert table[""]["error"] == "the engine does not answer"


def test_nothing_is_left_on_the_disk(serving: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    send(serving, ("a.jpg", b"ant"), ("list.txt", b"http://169.254.169.254/x.jpg\n"))
    assert list(tmp_path.glob("graft-predict-*")) == []


def test_what_is_refused_says_why(serving: Pages) -> None:
    assert send(serving).status_code == 400
    assert send(serving, ("a.jpg", b"ant"), token="forged").status_code == 403
    serving.engine.delete_version(NAME, "v_1")
    assert "no version to ask" in send(serving, ("a.jpg", b"ant")).text
    token = serving.token()
    serving.sign_in("viewer")
    assert send(serving, ("a.jpg", b"ant"), token=token).status_code == 403
    assert "Many pictures" not in serving.get(f"/classifiers/{NAME}/use").text
