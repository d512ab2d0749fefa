"""From a picture of the dataset to the training pictures that resemble it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.errors import ObjectNotFound
from pipeline.pages.similar import find_similar
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.model_record import lineage
from tests.fakes.report import ReportWorld


@pytest.fixture
def served(pages: Pages, tmp_path: Path) -> Pages:
    """A version that serves, of 24 training pictures; `p04` is a bee that is labelled ant."""
    world = ReportWorld(tmp_path / "world")
    for uri in world.storage.list_uris("gs://graft/"):
        copy = uri.replace("/datasets/toys/", f"/datasets/{NAME}/")
        pages.fleet.storage.write_bytes(copy, world.storage.read_bytes(uri))
    origin = lineage(
        dataset_version="d_1",
        dataset_uri=f"gs://graft/datasets/{NAME}/d_1",
        training_job="train_1",
        evaluation_job="eval_1",
    )
    model = pages.fleet.workspace.model(NAME, pages.fleet.version(2))
    origin.write(pages.fleet.storage, model.lineage)
    pages.sign_in("viewer")
    return pages


@pytest.mark.parametrize(("id", "label"), [("p01", "bee"), ("p04", "bee"), ("p02", "ant"), ("p26", "ant")])
def test_the_nearest_are_what_the_picture_shows_not_what_its_label_says(
    served: Pages, id: str, label: str
) -> None:
    similar = find_similar(served.fleet.cache, NAME, id)
    nearest = [near.picture for near in similar.neighbours if near.picture.id != "p04"]
    assert [picture.label for picture in nearest[:9]] == [label] * 9
    assert id not in [picture.id for picture in nearest]
    cosines = [near.cosine for near in similar.neighbours]
    assert cosines == sorted(cosines, reverse=True)


def test_a_label_that_its_neighbours_contradict_is_seen_on_the_page(served: Pages) -> None:
    answer = served.get(f"/classifiers/{NAME}/similar/p04")
    assert answer.status_code == 200
    shown = re.findall(r"<b>(ant|bee)</b>( <span class=\"word bad\">another label</span>)?<br>", answer.text)
    assert shown[0] == ("bee", ' <span class="word bad">another label</span>')
    assert "12 of 23 have another label" in answer.text
    assert 'method="post"' not in answer.text


def test_pictures_lead_there(served: Pages) -> None:
    text = served.get(f"/classifiers/{NAME}/pictures?version=d_1").text
    assert f'href="/classifiers/{NAME}/similar/p04"' in text


@pytest.mark.parametrize(
    ("id", "why"), [("p99", "was made without the picture"), ("p27", "are not kept any more")]
)
def test_what_cannot_be_compared_is_404_with_the_reason(served: Pages, id: str, why: str) -> None:
    storage, job = served.fleet.storage, served.fleet.workspace.job("eval_1")
    for uri in storage.list_uris(f"{job.predictions}/"):
        storage.delete(uri)
    answer = served.get(f"/classifiers/{NAME}/similar/{id}")
    assert answer.status_code == 404
    assert why in answer.text


def test_a_picture_that_was_taken_down_is_neither_asked_for_nor_shown(
    served: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.explain.features.read_taken_down", lambda workspace, name: {"p03"})
    with pytest.raises(ObjectNotFound):
        find_similar(served.fleet.cache, NAME, "p03")
    assert "p03" not in [near.picture.id for near in find_similar(served.fleet.cache, NAME, "p01").neighbours]


def test_a_classifier_without_a_version_that_carries_its_origin_says_so(pages: Pages) -> None:
    pages.sign_in("viewer")
    answer = pages.get(f"/classifiers/{NAME}/similar/p04")
    assert answer.status_code == 404
    assert "Start a run." in answer.text
