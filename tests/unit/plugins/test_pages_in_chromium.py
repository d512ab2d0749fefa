"""What only a browser shows: what a form says while it is sent, and what a bar takes of a small screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipeline.pages.demo import create_link
from tests.fakes.airflow_pages import NAME, Pages
from tests.fakes.pages import WORKSPACE
from tests.fakes.pictures import encode
from tests.fakes.served_pages import add_pictures, add_suspects, open_page, serve, start_chromium


@pytest.fixture
def serving(pages: Pages) -> Pages:
    """The pages of a user, with a model that answers every picture."""
    answer = {"label": "bee", "score": 0.7, "outputs": [0.1, 0.7, 0.2]}
    answer |= {"features": [1], "activation": [[0.0, 1.0]]}
    pages.sign_in("user")
    pages.engine.ensure_model(NAME)
    pages.engine.create_version(NAME, {"name": "v_1", "deploymentUri": "gs://graft/x"})
    pages.engine.answer = lambda version, instance: answer
    labels = f"{WORKSPACE}/models/{NAME}/v_1/graft/labels.json"
    pages.fleet.storage.write_json(labels, ["ant", "bee", "cat"])
    return pages


CHOOSE = """bytes => {
    const input = document.querySelector("#picture"), files = new DataTransfer();
    files.items.add(new File([new Uint8Array(bytes)], "x.png", { type: "image/png" }));
    input.files = files.files;
    input.dispatchEvent(new Event("change"));
    const form = document.querySelector("#trial");
    return [form.querySelector("[data-says]").textContent, form.querySelector("button:not([type])").disabled];
}"""  # what the form says before the answer replaces it


SEND_TWICE = """() => {
    const form = document.querySelector("form[action$='/run']"), sent = [];
    document.addEventListener("submit", (event) => {
        if (!event.defaultPrevented) sent.push(event.target.getAttribute("action"));
        event.preventDefault();  // nothing is sent here
    });
    form.requestSubmit();
    form.requestSubmit();
    const before = sent.length;
    window.dispatchEvent(new PageTransitionEvent("pageshow"));
    form.requestSubmit();
    return [before, sent.length];
}"""


def test_a_form_is_sent_once_however_often_it_is_clicked_until_somebody_comes_back(serving: Pages) -> None:
    complaints: list[str] = []
    with serve(serving.app) as address, start_chromium() as chromium:
        page = open_page(chromium, complaints)
        page.goto(f"{address}/classifiers/{NAME}")
        assert page.evaluate(SEND_TWICE) == [1, 2]
    assert complaints == []


def test_the_pages_say_what_they_do_and_leave_room(serving: Pages) -> None:
    picture = encode(Image.new("RGB", (64, 48), "red"), "PNG")
    add_pictures(serving)
    complaints: list[str] = []
    with serve(serving.app) as address, start_chromium() as chromium:
        page = open_page(chromium, complaints)
        page.goto(f"{address}/classifiers/{NAME}/try")
        assert page.evaluate(CHOOSE, list(picture)) == ["Asking…", True]  # choosing is asking
        page.locator("#answer", has_text="bee").wait_for()
        assert page.locator("#trial button:not([type])").is_enabled()

        page.set_viewport_size({"width": 390, "height": 844})
        page.goto(f"{address}/classifiers/{NAME}/pictures")
        page.locator("#cards li").first.scroll_into_view_if_needed()
        bar = "document.querySelector('#decide').getBoundingClientRect().top < window.innerHeight"
        assert not page.evaluate(bar)  # nothing is selected, so it waits below the pictures
        page.locator("#cards input[type=checkbox]").first.check()
        assert page.evaluate(bar)
        page.set_viewport_size({"width": 1280, "height": 844})
        page.locator("#cards input[type=checkbox]").first.uncheck()
        assert page.evaluate(bar)
        page.close()
    assert complaints == []


def test_a_link_opens_the_demo_page_and_no_address_that_is_asked_for_has_its_key(serving: Pages) -> None:
    _, key = create_link(serving.fleet.cache, NAME, "fair", by="ann")
    complaints: list[str] = []
    with serve(serving.app) as address, start_chromium() as chromium:
        page = open_page(chromium, complaints)
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url + str(request.headers.get("referer"))))
        page.goto(f"{address}/demo/{NAME}#{key}")
        page.wait_for_url(f"{address}/demo/{NAME}")  # without the key
        assert page.evaluate(CHOOSE, list(encode(Image.new("RGB", (64, 48), "red"), "PNG")))[0] == "Asking…"
        page.locator("#answer", has_text="bee").wait_for()
        assert len(sent) >= 4
        assert not [each for each in sent if key.partition(".")[2] in each]
        page.close()
    assert complaints == []


def test_a_picture_and_what_spoke_for_its_answer_are_equally_large_in_a_report(
    serving: Pages, tmp_path: Path
) -> None:
    add_suspects(serving, tmp_path / "run")
    complaints: list[str] = []
    with serve(serving.app) as address, start_chromium() as chromium:
        page = open_page(chromium, complaints)
        page.goto(f"{address}/runs/{NAME}/manual__000002")
        for section in ("worst", "explained"):
            images = page.locator(f"section[aria-labelledby={section}] .pair img")
            widths = images.evaluate_all("all => all.map((each) => Math.round(each.clientWidth))")
            assert widths
            assert len(set(widths)) == 1
            assert widths[0] > 40
        page.close()
    assert complaints == []
