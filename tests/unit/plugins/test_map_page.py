"""*Map*: the pictures of the version that serves, near each other where its network finds them alike."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from pipeline.pages import embedding_map
from pipeline.pages.embedding_map import choose_colours, draw_map, project_features
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.model_record import lineage
from tests.fakes.report import CLASSES, ReportWorld
from tests.fakes.served_pages import open_page, serve, start_chromium

PAGE = f"/classifiers/{NAME}/map"


@pytest.fixture
def served(pages: Pages, tmp_path: Path) -> Pages:
    """A version that serves, of 24 training and 6 test pictures; of these, `p26` was answered wrongly."""
    world = ReportWorld(tmp_path / "world")
    for uri in world.storage.list_uris("gs://graft/"):
        copy = uri.replace("/datasets/toys/", f"/datasets/{NAME}/")
        pages.fleet.storage.write_bytes(copy, world.storage.read_bytes(uri))
    origin = lineage(
        dataset_version="d_1",
        dataset_uri=f"gs://graft/datasets/{NAME}/d_1",
        training_job="train_1",
        evaluation_job="eval_1",
        classes=tuple(CLASSES),
    )
    model = pages.fleet.workspace.model(NAME, pages.fleet.version(2))
    origin.write(pages.fleet.storage, model.lineage)
    pages.sign_in("viewer")
    return pages


def test_pictures_that_show_the_same_lie_together(served: Pages) -> None:
    drawn = draw_map(served.fleet.cache, NAME)
    assert len(drawn.points) == drawn.total == 30
    place = {point.picture.id: np.array([point.x, point.y]) for point in drawn.points}
    bees = np.mean([place[f"p{number:02d}"] for number in range(1, 24, 2)], axis=0)
    ants = np.mean([place[f"p{number:02d}"] for number in range(0, 24, 2) if number != 4], axis=0)
    nearer = {id: np.linalg.norm(each - bees) < np.linalg.norm(each - ants) for id, each in place.items()}
    is_bee = {f"p{number:02d}": number % 2 == 1 or number == 4 for number in range(30)}
    assert nearer == is_bee  # p04 shows a bee, whatever its label
    assert drawn.share > 0.5
    assert all(
        0 <= point.x <= embedding_map.WIDTH and 0 <= point.y <= embedding_map.HEIGHT for point in drawn.points
    )


def test_wrong_answers_are_marked_and_lie_on_top(served: Pages) -> None:
    drawn = draw_map(served.fleet.cache, NAME)
    kinds = [point.kind for point in drawn.points]
    assert kinds == ["train"] * 24 + ["test"] * 5 + ["wrong"]
    assert replace(drawn.points[-1], taken_for="").kind == "test"  # no training picture
    assert [(point.picture.id, point.taken_for) for point in drawn.wrong] == [("p26", "bee")]


def test_a_picture_that_was_taken_down_is_not_drawn(served: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_map(served.fleet.cache, NAME)
    read = embedding_map.read_pictures

    def without(*arguments: object) -> object:
        pictures = read(*arguments)  # type: ignore[arg-type]
        del pictures.by_id["p03"]  # type: ignore[attr-defined]
        return pictures

    monkeypatch.setattr(embedding_map, "read_pictures", without)
    ids = [point.picture.id for point in draw_map(served.fleet.cache, NAME).points]
    assert "p03" not in ids
    assert len(ids) == 29


def test_many_pictures_are_sampled_always_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_map, "MAX_POINTS", 20)
    random = np.random.default_rng(1)
    training = {f"a{number}": random.random(5).astype(np.float32) for number in range(60)}
    test = {f"b{number}": random.integers(0, 256, 5).tolist() for number in range(40)}
    first = project_features(training, test)
    assert (len(first.places), first.total) == (20, 100)
    assert {id[0] for id in first.places} == {"a", "b"}
    assert project_features(dict(reversed(training.items())), test) == first


def test_features_count_by_direction_not_by_length() -> None:
    random = np.random.default_rng(1)
    training = {f"a{number}": random.random(5).astype(np.float32) for number in range(10)}
    longer = {id: each * (number + 1) for number, (id, each) in enumerate(training.items())}
    places, others = (project_features(each, {}).places for each in (training, longer))
    assert np.allclose([places[id] for id in training], [others[id] for id in training], atol=1e-3)


def test_the_largest_classes_have_a_colour_of_their_own() -> None:
    labels = [f"c{number}" for number in range(12) for _ in range(20 - number)]
    colours = choose_colours(labels)
    assert [colours[f"c{number}"] for number in range(12)] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 8]


def test_what_cannot_be_drawn_says_why(served: Pages) -> None:
    for uri in served.fleet.storage.list_uris("gs://graft/features/"):
        served.fleet.storage.delete(uri)
    answer = served.get(PAGE)
    assert answer.status_code == 404
    assert "are not kept any more" in answer.text


def test_it_is_for_those_who_may_see_the_classifier(pages: Pages) -> None:
    assert pages.get(PAGE).status_code == 401


def test_a_mark_leads_to_its_picture_and_classes_can_be_hidden(served: Pages) -> None:
    text = served.get(PAGE).text
    assert len(re.findall(r"<circle class=\"k\d", text)) == 29
    assert f'/classifiers/{NAME}/similar/p26"' in text
    complaints: list[str] = []
    with start_chromium() as chromium, serve(served.app) as address:
        page = open_page(chromium, complaints)
        page.set_viewport_size({"width": 390, "height": 800})
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            page.goto(f"{address}{PAGE}")
            found = Axe().run(page).response["violations"]
            assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.locator("svg [data-id]:visible").count() == 30
        page.get_by_label("training (dot)").uncheck()
        page.locator("#k0").uncheck()
        assert page.locator("svg [data-id]:visible").count() == 3
        page.locator("#k0").check()
        page.locator("svg path.wrong").click()
        page.locator("#cards img").first.wait_for()
        assert "text=p26" in page.url
    assert complaints == []
