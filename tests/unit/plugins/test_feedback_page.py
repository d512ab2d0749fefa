"""*Feedback*: a wrong answer that is told of, and the queue that somebody decides on."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts.feedback import Feedback
from pipeline.config.files import read_classifier
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.pages import LABELS
from tests.fakes.pictures import noise, png

PICTURE = png(noise(1))
ID = hashlib.sha256(PICTURE).hexdigest()
PAGE = f"/classifiers/{NAME}/feedback"


@pytest.fixture
def yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GRAFT_CLASSIFIERS", str(tmp_path / "yaml"))
    path = tmp_path / "yaml" / f"{NAME}.yaml"
    path.parent.mkdir()
    path.write_text(f"name: {NAME}\ndataset:\n  source: {{type: sample}}  # tiles\n")
    return path


@pytest.fixture
def queue(pages: Pages, yaml: Path) -> Pages:
    folder = pages.fleet.workspace.feedback(NAME)
    pages.fleet.storage.write_bytes(folder.picture(ID), PICTURE)
    said = Feedback(id=ID, label=LABELS[0], origin="api", who="<b>ann", request_id="r", at="2026-01-01")
    said.write(pages.fleet.storage, folder.record(ID))
    pages.sign_in("user", name="bob")
    return pages


def record(pages: Pages) -> Feedback:
    folder = pages.fleet.workspace.feedback(NAME)
    return Feedback.read(pages.fleet.storage, folder.record(ID))


def decide(pages: Pages, action: str, label: str = LABELS[1], **more: Any) -> Any:
    fields = {"token": pages.token(), "action": action, "id": ID, "label": label}
    return pages.post("feedback/decisions", {**fields, **more})


def test_a_wrong_answer_is_sent_to_the_engine_with_who_said_so(pages: Pages) -> None:
    pages.sign_in("user", name="bob")
    encoded = base64.b64encode(PICTURE).decode()
    fields = {"token": pages.token(), "label": LABELS[1], "picture": encoded}
    answer = pages.post("feedback", fields)
    assert (answer.status_code, answer.headers["location"].partition("#")[0]) == (303, PAGE)
    [sent] = pages.engine.feedback
    assert sent == {"model": NAME, "instances": [{"b64": encoded}], "labels": [LABELS[1]], "who": "bob"}


def test_a_picture_of_a_megabyte_fits_the_form_and_a_larger_one_is_refused(pages: Pages) -> None:
    pages.sign_in("user")
    fields = {"token": pages.token(), "label": LABELS[1], "picture": "A" * 1_400_000}
    assert pages.post("feedback", fields).status_code == 303
    assert pages.post("feedback", {**fields, "picture": "A" * 2_100_000}).status_code == 413
    assert pages.post("feedback", {**fields, "label": ""}).status_code == 400


def test_the_queue_shows_the_picture_the_label_and_who(queue: Pages) -> None:
    text = queue.get(PAGE).text
    assert "Waiting (1)" in text
    assert "&lt;b&gt;ann" in text
    picture = queue.get(f"{PAGE}/{ID}.jpg")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content.startswith(b"\xff\xd8\xff")


def test_a_label_is_confirmed_by_who_decides_and_taken_back(queue: Pages) -> None:
    assert decide(queue, "confirm").status_code == 303
    assert (record(queue).confirmed, record(queue).label, record(queue).decided_by) == (
        True,
        LABELS[1],
        "bob",
    )
    assert "1 confirmed" in queue.get(PAGE).text
    decide(queue, "undo")
    assert record(queue).confirmed is None
    decide(queue, "reject")
    assert record(queue).confirmed is False


def test_what_another_person_decided_meanwhile_stays_until_it_is_taken_back(queue: Pages) -> None:
    decide(queue, "confirm")
    before = record(queue)
    queue.sign_in("user", name="eve")
    answer = decide(queue, "reject")
    assert (answer.status_code, "bob has confirmed" in answer.text) == (400, True)
    assert record(queue) == before
    decide(queue, "undo")
    assert decide(queue, "reject").status_code == 303
    assert (record(queue).confirmed, record(queue).decided_by) == (False, "eve")


def test_what_is_no_decision_changes_nothing(queue: Pages) -> None:
    before = record(queue)
    assert decide(queue, "confirm", label="no class").status_code == 400
    assert decide(queue, "agree").status_code == 400
    assert decide(queue, "confirm", id="../../x").status_code == 400
    assert decide(queue, "confirm", id="0" * 64).status_code == 404
    assert decide(queue, "confirm", token="forged").status_code == 403
    assert record(queue) == before


def test_a_viewer_sees_the_queue_and_changes_nothing(queue: Pages) -> None:
    token = queue.token()
    queue.sign_in("viewer")
    assert "<button" not in queue.get(PAGE).text
    fields = {"token": token, "label": LABELS[1], "picture": "A", "action": "confirm", "id": ID}
    for action in ("feedback", "feedback/decisions"):
        assert queue.post(action, fields).status_code == 403
    assert (queue.engine.feedback, record(queue).confirmed) == ([], None)


class TestSource:
    def test_the_first_confirmation_makes_feedback_a_source_once(self, queue: Pages, yaml: Path) -> None:
        assert "The first confirmation adds a source" in queue.get(PAGE).text
        decide(queue, "reject")
        assert [each.type for each in read_classifier(yaml).dataset.all_sources] == ["sample"]
        for action in ("confirm", "undo", "confirm"):
            assert decide(queue, action).status_code == 303
        assert [each.type for each in read_classifier(yaml).dataset.all_sources] == ["sample", "feedback"]
        assert "# tiles" in yaml.read_text()
        assert "The first confirmation adds a source" not in queue.get(PAGE).text

    def test_a_file_that_cannot_be_changed_is_told_and_the_decision_kept(
        self, queue: Pages, yaml: Path
    ) -> None:
        yaml.write_text(f"name: {NAME}\ndataset:\n  <<: {{source: {{type: sample}}}}\n")
        answer = decide(queue, "confirm")
        assert answer.status_code == 200
        assert "- type: feedback" in answer.text
        assert "by hand" in answer.text
        assert record(queue).confirmed is True

    def test_a_classifier_without_a_file_is_told(self, queue: Pages, yaml: Path) -> None:
        yaml.unlink()
        assert "has no file in the classifier directories" in queue.get(PAGE).text
        assert "no file of a classifier directory" in decide(queue, "confirm").text


def test_live_traffic_is_added_by_who_may_change(queue: Pages) -> None:
    encoded = base64.b64encode(png(noise(2))).decode()
    row = {
        "raw_data": json.dumps({"instances": [{"inputs": {"b64": encoded}}]}),
        "raw_prediction": json.dumps({"predictions": [{"label": "", "score": 0.31, "novelty": 0.9}]}),
        "time": "2026-01-01T00:00:00+00:00",
    }
    assert "requestLoggingConfig" in queue.post("feedback/traffic", {"token": queue.token()}).text
    uri = f"{queue.fleet.workspace.uri}/request_logs/t/{NAME}/v1/20260101T000000-a.jsonl"
    queue.fleet.storage.write_bytes(uri, json.dumps(row).encode())
    assert queue.post("feedback/traffic", {"token": queue.token()}).status_code == 303
    text = queue.get(PAGE).text
    assert "Waiting (2)" in text
    assert "none of these" in text
    assert "live traffic" in text
    assert "in the queue already" in queue.post("feedback/traffic", {"token": queue.token()}).text
    token = queue.token()
    queue.sign_in("viewer")
    assert queue.post("feedback/traffic", {"token": token}).status_code == 403
