"""The pages in Chromium, on the demo's own stack: looked at, attacked, and used from form to rollback.

A run of a classifier whose pictures have hostile names starts first; what needs no finished run is tested
while it works.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from pytest_httpserver import HTTPServer

from pipeline.datasets.sources.sample import SampleSource
from pipeline.preprocess.decisions import read_decisions
from tests.e2e.browser import Visitor, start_chromium
from tests.e2e.conftest import Stack, wait_until
from tests.fakes.rows import dataset_folder

NAME = "watched"
WORKSPACE = "gs://graft"
HOSTILE = '"><img src=x onerror=alert(1)>'
RUN_SECONDS = 300
TILES = 20
DEMO_PAGES = (
    "/",
    "/classifiers/surfaces",
    "/classifiers/surfaces/pictures",
    "/classifiers/surfaces/labels",
    "/classifiers/surfaces/try",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with start_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def admin(chromium: Any, stack: Stack) -> Iterator[Visitor]:
    visitor = Visitor(chromium, stack, "admin")
    yield visitor
    visitor.close()


@pytest.fixture(scope="module")
def demo_run(stack: Stack) -> str:
    [version] = [row for row in stack.graft_json("versions", "surfaces") if row["is_default"]]
    return str(version["run_id"])


def write_pictures(folder: Path) -> None:
    for label in ("brick", "grass"):
        (folder / label).mkdir(parents=True)
        for entry in list(SampleSource(classes=[label]).entries(0, 1))[:TILES]:
            assert entry.read is not None
            (folder / label / f"{entry.position:02d} {HOSTILE}.png").write_bytes(entry.read())


@pytest.fixture(scope="module")
def first_run(admin: Visitor, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of a new classifier, started from Airflow's form; it works while other tests look around."""
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    value = {
        "name": NAME,
        "description": f"Brick or grass. {HOSTILE}",
        "dataset": {"source": {"type": "folder", "uri": str(folder)}},
        "model": {"epochs": 5},
        "gate": {"min_accuracy": 0.5},
        "deploy": {"require_approval": True},
    }
    (stack.classifiers / f"{NAME}.yaml").write_text(yaml.safe_dump(value))
    api = stack.airflow()
    wait_until(lambda: api.last_parsed(NAME), seconds=90, what=f"DAG {NAME}")
    return admin.trigger(NAME)


def wait_for_question(stack: Stack, run_id: str) -> None:
    api = stack.airflow()

    def asks() -> bool:
        states = {task.task_id: task.state for task in api.task_instances(NAME, run_id)}
        assert "failed" not in states.values(), states
        return states.get("approve") == "awaiting_input"

    wait_until(asks, seconds=RUN_SECONDS, what="question whether to deploy")


def approve(admin: Visitor, stack: Stack, run_id: str) -> str:
    """Approve what a run asks, again if it asks again, and return the version that it deploys.

    Airflow may lose an answer that comes right after the question, and then tries the task once more.
    """
    admin.approve(NAME, run_id)
    api = stack.airflow()

    def has_ended() -> bool:
        tasks = {task.task_id: task for task in api.task_instances(NAME, run_id)}
        if tasks["approve"].state == "awaiting_input":
            admin.approve(NAME, run_id)
        return api.run_state(NAME, run_id) in ("success", "failed")

    def tell() -> str:
        return f"end of the run, but {api.task_instances(NAME, run_id)}"

    wait_until(has_ended, seconds=RUN_SECONDS, what=tell, pause=1)
    states = {task.task_id: (task.state, task.try_number) for task in api.task_instances(NAME, run_id)}
    assert api.run_state(NAME, run_id) == "success", states
    [version] = [row for row in stack.graft_json("versions", NAME) if row["run_id"] == run_id]
    assert version["is_default"]
    return str(version["version"])


class TestLooking:
    def test_the_run_was_started_from_the_form(self, first_run: str) -> None:
        assert first_run.startswith("manual__")

    def test_the_status_says_where_the_pages_are(self, stack: Stack) -> None:
        assert stack.graft_json("status")["airflow"]["pages"] == "/graft/"

    @pytest.mark.parametrize("width", [1280, 390])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_no_page_has_a_serious_fault(
        self, admin: Visitor, demo_run: str, scheme: Any, width: int
    ) -> None:
        admin.page.emulate_media(color_scheme=scheme)
        admin.page.set_viewport_size({"width": width, "height": 844})
        for path in (*DEMO_PAGES, f"/runs/surfaces/{demo_run}"):
            admin.visit(path)
            assert admin.serious_violations() == [], path
            assert admin.overflow() <= 0, path
        admin.page.set_viewport_size({"width": 1280, "height": 900})
        assert admin.complaints == []

    def test_the_dataset_card_has_no_serious_fault(self, admin: Visitor, stack: Stack) -> None:
        version = stack.graft_json("dataset", "show", "surfaces")["version"]
        card = stack.storage.local_path(f"{WORKSPACE}/datasets/surfaces/{version}/card.html")
        admin.page.goto(card.as_uri())
        assert admin.serious_violations() == []
        assert admin.complaints == []

    def test_airflow_shows_them_as_page_and_tabs(self, admin: Visitor, demo_run: str) -> None:
        admin.page.goto(f"{admin.url}/plugin/classifiers")
        frame = admin.page.frame_locator("iframe")
        frame.get_by_role("link", name="surfaces").click()
        frame.get_by_role("link", name="Runs in Airflow").click()
        admin.page.wait_for_url(f"{admin.url}/dags/surfaces")
        admin.page.goto(f"{admin.url}/dags/surfaces/runs/{demo_run}/plugin/report")
        assert "Report of run" in admin.page.frame_locator("iframe").locator("header").inner_text()

    def test_the_keyboard_finds_a_classifier(self, admin: Visitor) -> None:
        page = admin.visit("/")
        page.keyboard.press("/")
        page.keyboard.type("surf")
        assert page.locator("#classifiers tbody tr:visible").count() == 1
        page.keyboard.press("Enter")
        page.wait_for_url(f"{admin.url}/graft/classifiers/surfaces")


class TestAttacks:
    def test_anonymous_is_told_to_sign_in(self, chromium: Any, stack: Stack) -> None:
        nobody = Visitor(chromium, stack)
        for path in ("/", "/classifiers/surfaces", "/static/pages.js"):
            assert nobody.get(path) == 401
        assert nobody.post("/classifiers/surfaces/rollback", {"reason": "x"}) == 401
        nobody.close()

    def test_a_viewer_looks_and_changes_nothing(self, chromium: Any, stack: Stack, admin: Visitor) -> None:
        token = admin.visit("/classifiers/surfaces/try").input_value("input[name=token]")
        viewer = Visitor(chromium, stack, "viewer")
        for path in DEMO_PAGES:
            page = viewer.visit(path)
            assert page.locator("form[method=post]").count() == 0, path
        for action in ("rollback", "decisions", "try"):
            assert viewer.post(f"/classifiers/surfaces/{action}", {"token": token}) == 403
        assert viewer.complaints == []
        viewer.close()

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_a_page_of_another_site_cannot_decide_in_a_persons_name(
        self, admin: Visitor, stack: Stack, httpserver: HTTPServer, host: str
    ) -> None:
        """From another host the browser sends no cookie, unless it is new; from another port it does."""
        page = admin.visit("/classifiers/surfaces/pictures")
        stolen = {
            name: page.locator(f"#decide input[name={name}]").input_value() for name in ("token", "version")
        }
        stolen["id"] = str(page.locator("input[name=id]").first.get_attribute("value"))
        inputs = "".join(f'<input name="{name}" value="{value}">' for name, value in stolen.items())
        trap = (
            f'<form method="post" action="{admin.url}/graft/classifiers/surfaces/decisions">{inputs}'
            '<input name="action" value="delete"></form><script>document.forms[0].submit()</script>'
        )
        httpserver.expect_request("/trap").respond_with_data(trap, content_type="text/html")
        with admin.page.expect_response(lambda answer: answer.url.endswith("/decisions")) as sent:
            admin.page.goto(f"http://{host}:{httpserver.port}/trap")
        assert sent.value.status in ((401, 403) if host == "localhost" else (403,))
        assert read_decisions(dataset_folder(stack.storage, "surfaces")) == []
        admin.complaints.clear()  # the browser says that a page was refused


def test_from_the_report_to_the_rollback(
    admin: Visitor, stack: Stack, first_run: str, tmp_path: Path
) -> None:
    page = admin.visit(f"/runs/{NAME}/{first_run}")  # looks again by itself until there is a report
    page.wait_for_selector("#verdict, tr[aria-current=step]", timeout=RUN_SECONDS * 1000)
    page.wait_for_selector("#verdict", timeout=RUN_SECONDS * 1000)
    assert "Accepted" in page.inner_text("#verdict")
    wait_for_question(stack, first_run)
    first = approve(admin, stack, first_run)

    page = admin.visit(f"/classifiers/{NAME}/try")
    [tile] = list(SampleSource(classes=["grass"]).entries(0, 1))[30:31]
    assert tile.read is not None
    drop(page, tile.read())
    page.wait_for_selector("#answer")
    assert page.inner_text("#answer") == "grass"
    assert page.locator(".bars meter").count() == 2
    assert page.locator("#alike li").count() == 6
    assert page.locator("#channels li").count() == 5
    assert page.locator("#channels img").count() == 15
    assert admin.serious_violations() == []

    page = admin.visit(f"/classifiers/{NAME}/pictures?label=brick&split=train")
    card = page.locator(".cards > li").first
    picture = str(card.get_attribute("id")).removeprefix("p-")
    card.get_by_role("checkbox").check()
    bar = page.get_by_role("form", name="Decide on the selected pictures")
    bar.get_by_role("combobox").select_option("grass")
    bar.get_by_role("button", name="Relabel").click()
    page.locator(f"#p-{picture} .note", has_text="Will be grass").wait_for()

    page = admin.visit(f"/classifiers/{NAME}")
    assert "1 decision on pictures will be applied" in page.inner_text("section[aria-labelledby=start]")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(lambda url: f"/graft/runs/{NAME}/" in url)
    second_run = unquote(page.url.rpartition("/")[2])
    wait_for_question(stack, second_run)
    page = admin.visit("/")
    assert f"{NAME} waits for a person" in page.inner_text("section[aria-labelledby=inbox]")
    assert admin.serious_violations() == []
    second = approve(admin, stack, second_run)
    page = admin.visit(f"/classifiers/{NAME}/pictures?text={picture}")
    assert "relabel from brick" in page.inner_text(f"#p-{picture}")

    page = admin.visit(f"/classifiers/{NAME}")
    page.get_by_label("Reason, kept in the history").fill("the label was right")
    page.get_by_role("button", name="Roll back").click()
    page.wait_for_selector(".note.good")
    assert [row["version"] for row in stack.graft_json("versions", NAME) if row["is_default"]] == [first]
    history = page.locator("section[aria-labelledby=history]").inner_text()
    assert "rolled back" in history
    assert "the label was right" in history
    page.get_by_role("button", name="Compare the two").click()
    page.wait_for_url("**/compare?*")
    shown = {each.get_attribute("title") for each in page.locator("thead span[title]").all()}
    assert {first, second} <= shown
    assert admin.serious_violations() == []
    assert admin.complaints == []


def drop(page: Any, data: bytes) -> None:
    """Drop a picture on the form, as a person would from a folder."""
    transfer = page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "grass.png", { type: "image/png" }));
            return transfer;
        }""",
        list(data),
    )
    page.dispatch_event("#trial", "drop", {"dataTransfer": transfer})


def test_hostile_names_are_only_text(admin: Visitor, first_run: str) -> None:
    query = "<script>alert(3)</script>"
    for path in ("/", f"/classifiers/{NAME}", f"/classifiers/{NAME}/pictures", f"/classifiers/{NAME}/labels"):
        admin.visit(path)
        assert admin.page.locator("img[src=x], script:not([src])").count() == 0
    page = admin.visit(f"/classifiers/{NAME}/pictures?text={query}&label={query}&split={query}")
    assert page.input_value("input[name=text]") == query
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=data:, onerror=alert(4)>')")
    wait_until(lambda: admin.complaints, seconds=10, what="refusal of an inline handler by the policy")
    assert not [text for text in admin.complaints if text.startswith("dialog")]
    assert any("Content Security Policy" in text for text in admin.complaints)
    admin.complaints.clear()


def test_a_job_is_linked_from_its_task(admin: Visitor, stack: Stack) -> None:
    job = stack.engine_get("jobs")["jobs"][0]["jobId"]
    page = admin.visit(f"/jobs/{job}")
    assert "SUCCEEDED" in page.inner_text("dl")
    assert admin.serious_violations() == []
    assert admin.complaints == []
