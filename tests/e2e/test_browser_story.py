"""The whole story in the browser: from sixty pictures to a version that was rolled back, exported and asked.

It goes three times: on a telephone's width, by keyboard alone, and with an engine that is killed twice.
Nothing is typed into a shell but the page's own curl line.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import psutil
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from pipeline.datasets.sources.sample import SampleSource
from tests.e2e.browser import Visitor, start_chromium
from tests.e2e.conftest import Stack, wait_until
from tests.e2e.hands import Hands, Keyboard, Mouse

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
LABELS = ("brick", "grass", "gravel")
OF_EACH = 20
SECONDS = 900
PAGE_SECONDS = 240  # of a step on a page, while runs take the processors
MANY = 10_000  # pictures that one person uploads
PAGES = ("", "/pictures", "/decisions", "/add", "/labels", "/try", "/feedback", "/use")
POSTS = (
    *("run", "cancel", "rollback", "try", "decisions", "decisions/undo", "add", "add/archive"),
    *(
        "feedback",
        "feedback/decisions",
        "feedback/traffic",
        "tokens",
        "demo",
        "predictions",
        "models/compare",
    ),
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with start_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty pictures in a folder for each class, and one more to ask about."""
    folder = tmp_path_factory.mktemp("pictures")
    for label in LABELS:
        (folder / "classes" / label).mkdir(parents=True)
        entries = list(SampleSource(classes=[label]).entries(0, 1))
        for entry in entries[:OF_EACH]:
            assert entry.read is not None
            (folder / "classes" / label / f"{entry.position}.png").write_bytes(entry.read())
    other = entries[OF_EACH + 10]
    assert other.read is not None
    (folder / "photo.jpg").write_bytes(other.read())
    return folder


@dataclass(kw_only=True)
class Story:
    """A classifier that one person brings from its pictures to a rollback, page by page.

    Args:
        stack: Where.
        visitor: Who, with a window.
        hands: A mouse or a keyboard.
        name: Of the classifier.
        runs: Ids of its runs, oldest first.
        versions: What these deployed.
    """

    stack: Stack
    visitor: Visitor
    hands: Hands
    name: str
    runs: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)

    @property
    def page(self) -> Page:
        return self.visitor.page

    def check_page(self) -> None:
        """Fail where the open page has a serious fault or does not fit its window."""
        assert self.visitor.serious_violations() == [], self.page.url
        assert self.visitor.overflow() <= 0, self.page.url

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def press(self, element: Locator) -> None:
        self.hands.press(element)

    def open_tab(self, title: str) -> None:
        """Go to a tab of the classifier by its link."""
        self.press(self.page.get_by_role("link", name=title, exact=True))
        self.page.locator(".tabs [aria-current=page]", has_text=title).wait_for()
        self.check_page()

    def choose(self, button: Locator, files: str) -> None:
        """Choose files where a button asks for some."""
        with self.page.expect_file_chooser() as chosen:
            self.press(button)
        chosen.value.set_files(files)

    def create(self) -> None:
        self.visitor.visit("/")
        self.check_page()
        self.press(self.page.get_by_role("link", name="New classifier", exact=True).first)
        self.hands.write(self.page.get_by_label("Name"), self.name)
        self.hands.write(self.page.get_by_label("A version must be right"), "50")
        self.press(self.page.get_by_label("a person must agree"))
        self.check_page()
        self.press(self.button("Look at it"))
        self.button("Create").wait_for()
        self.check_page()
        self.press(self.button("Create"))
        self.page.wait_for_url(f"**/classifiers/{self.name}/add")
        self.check_page()

    def upload(self, folder: Path, *, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.choose(self.button("Choose a folder of class folders"), str(folder))
        first, *others = (self.page.locator(f"form[data-label={label}] [data-says]") for label in LABELS)
        says = f"{OF_EACH} of {OF_EACH}: {OF_EACH} added"
        first.filter(has_text=says).wait_for()
        meanwhile()
        for other in others:
            other.filter(has_text=says).wait_for()
        self.check_page()

    def start_run(self) -> None:
        """Start a run from the classifier's page, and look at the page that shows it at work."""
        self.press(self.button("Run"))
        self.page.wait_for_url(f"**/runs/{self.name}/**")
        self.runs.append(unquote(self.page.url.rpartition("/")[2]))
        self.page.wait_for_selector("tr[aria-current=step]", timeout=SECONDS * 1000)

    def wait_for_report(self) -> None:
        """The page of the run becomes its report by itself."""
        self.page.wait_for_selector("#verdict", timeout=SECONDS * 1000)
        assert "Accepted" in self.page.inner_text("#verdict")
        self.check_page()

    def approve(self) -> None:
        """Approve the version that the last run asks about; again where Airflow asks again."""
        run_id = self.runs[-1]
        api = self.stack.airflow()

        def has_ended() -> bool:
            states = {task.task_id: task.state for task in api.task_instances(self.name, run_id)}
            if states.get("approve") == "awaiting_input":
                self._answer(run_id)
            return api.run_state(self.name, run_id) in ("success", "failed")

        wait_until(has_ended, seconds=SECONDS, what=f"end of {run_id}", pause=1)
        assert api.run_state(self.name, run_id) == "success", api.task_instances(self.name, run_id)
        [default] = [row for row in self.stack.graft_json("versions", self.name) if row["is_default"]]
        assert default["run_id"] == run_id
        self.versions.append(str(default["version"]))

    def _answer(self, run_id: str) -> None:
        self.visitor.visit("/")
        self.check_page()
        waiting = self.page.locator(".inbox li", has_text=f"{self.name} waits for")
        self.press(waiting.get_by_role("link", name="approve or reject"))
        with self.page.expect_response(lambda answer: answer.request.method == "PATCH") as sent:
            self.press(self.page.get_by_test_id("hitl-option-Approve"))
        assert sent.value.status == 200, sent.value.text()

    def try_it(self, photo: Path) -> None:
        """Ask about a picture, and say that the answer is wrong."""
        self.open_tab("Try it")
        self.choose(self.page.get_by_label("Drop a picture here"), str(photo))
        self.page.wait_for_selector("#answer")
        self.check_page()
        self.press(self.page.locator("summary", has_text="This answer is wrong"))
        self.hands.pick(self.page.get_by_label("It shows"), "brick")
        self.press(self.button("Send"))
        self.page.locator("#waiting li").wait_for()
        self.check_page()
        self.press(self.button("Confirm"))
        self.page.locator("#decided li", has_text="confirmed").wait_for()

    def correct_a_label(self) -> None:
        """Look at the first training picture of a class in the large view, and press the key of another."""
        self.open_tab("Pictures")
        self.hands.pick(self.page.locator("[role=search] select[name=label]"), "brick")
        self.hands.pick(self.page.locator("[role=search] select[name=split]"), "train")
        self.press(self.button("Show"))
        self.page.wait_for_url("**label=brick*")
        card = self.page.locator("#cards > li").first
        self.press(card.locator(".look"))
        self.page.locator("#large[open]").wait_for()
        self.check_page()
        self.page.keyboard.press("2")
        self.page.keyboard.press("Escape")
        card.locator(".note", has_text="Will be grass").wait_for()

    def retrain(self) -> None:
        self.open_tab("Versions")
        assert "1 decision on pictures will be applied" in self.page.inner_text(
            "section[aria-labelledby=start]"
        )
        self.start_run()
        self.wait_for_report()

    def roll_back(self) -> None:
        self.visitor.visit(f"/classifiers/{self.name}")
        self.hands.write(self.page.get_by_label("Reason, kept in the history"), "the label was right")
        self.press(self.button("Roll back"))
        self.page.wait_for_selector(".note.good")
        self.check_page()
        assert "the label was right" in self.page.inner_text("section[aria-labelledby=history]")
        [default] = [row for row in self.stack.graft_json("versions", self.name) if row["is_default"]]
        assert default["version"] == self.versions[0]
        self.press(self.button("Compare the two"))
        self.page.wait_for_url("**/compare?*")
        self.check_page()

    def export(self, folder: Path) -> None:
        self.open_tab("Use it")
        with self.page.expect_download() as loaded:
            self.press(self.page.locator(".exports a").filter(has_text="as tflite"))
        loaded.value.save_as(folder / "model.zip")
        names = zipfile.ZipFile(folder / "model.zip").namelist()
        assert any(name.endswith(".tflite") for name in names), names

    def call(self, folder: Path) -> str:
        """Return what the page's own curl line prints, pasted as it is, with a token made on the page."""
        self.hands.write(self.page.get_by_label("What it is for"), "a browser test")
        self.press(self.button("Make a token"))
        token = self.page.inner_text("#new-token")
        self.check_page()
        text = self.page.inner_text("[data-snippet=curl]")
        environ = {"PATH": os.environ["PATH"], "GRAFT_TOKEN": token}
        done = subprocess.run(
            ["bash", "-c", text], cwd=folder, env=environ, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def share(self, chromium: Browser, photo: Path) -> None:
        """Make a link to the demo page, ask there as nobody, and revoke it."""
        self.visitor.visit(f"/classifiers/{self.name}/use")
        self.hands.write(self.page.get_by_label("Who it is for"), "a fair")
        self.press(self.button("Make a link"))
        link = self.page.inner_text("#new-link")
        self.check_page()
        stranger = Visitor(chromium, self.stack)
        stranger.page.set_default_timeout(PAGE_SECONDS * 1000)
        stranger.page.goto(link)
        stranger.page.wait_for_url(link.partition("#")[0])
        stranger.page.get_by_label("Drop a picture here").set_input_files(str(photo))
        stranger.page.wait_for_selector("#answer")
        assert stranger.serious_violations() == []
        assert stranger.get(f"/classifiers/{self.name}") == 401
        self.press(self.page.get_by_role("button", name="Revoke the link for a fair"))
        self.page.wait_for_url("**/use#demo")
        assert stranger.get(f"/demo/{self.name}") == 404
        assert stranger.complaints == []
        stranger.close()


def kill(stack: Stack, name: str) -> None:
    """Kill a process of the stack as the kernel would."""
    [process] = [row for row in stack.graft_json("status")["processes"] if row["name"] == name]
    psutil.Process(process["pid"]).kill()


@pytest.fixture(params=["telephone", "keyboard", "killed"])
def story(request: Any, chromium: Browser, stack: Stack) -> Iterator[Story]:
    visitor = Visitor(chromium, stack, "admin")
    visitor.page.set_default_timeout(PAGE_SECONDS * 1000)
    hands: Hands = Keyboard() if request.param == "keyboard" else Mouse()
    if request.param == "telephone":
        visitor.page.set_viewport_size({"width": 390, "height": 844})
    yield Story(stack=stack, visitor=visitor, hands=hands, name=f"story_{request.param}")
    visitor.close()


def test_from_sixty_pictures_to_a_rollback_and_an_export(
    story: Story, chromium: Browser, pictures: Path
) -> None:
    stack, is_killed = story.stack, story.name.startswith("story_killed")

    def kill_engine() -> None:
        if is_killed:
            kill(stack, "engine")

    story.create()
    story.upload(pictures / "classes", meanwhile=kill_engine)
    if is_killed:
        story.visitor.visit("/")  # says that the engine is away, and shows the rest
        assert "The engine does not answer" in story.page.inner_text("main")
        story.check_page()
        assert stack.graft_json("up")["state"] == "running"
    story.visitor.visit(f"/new/{story.name}")  # waits for Airflow to read the YAML
    story.page.wait_for_url(f"**/graft/classifiers/{story.name}", timeout=SECONDS * 1000)
    story.start_run()
    if is_killed:
        story.page.locator("tr[aria-current=step]", has_text="train").wait_for(timeout=SECONDS * 1000)
        kill_engine()
        assert stack.graft_json("up")["state"] == "running"
    story.wait_for_report()
    story.approve()

    story.visitor.visit(f"/classifiers/{story.name}")
    story.check_page()
    story.try_it(pictures / "photo.jpg")
    story.correct_a_label()
    story.retrain()
    story.approve()
    assert len(set(story.versions)) == 2
    story.roll_back()
    story.export(pictures)
    answer = story.call(pictures)
    assert '"label"' in answer
    assert "gravel" in answer
    story.share(chromium, pictures / "photo.jpg")
    assert story.visitor.complaints == []
    check_viewer(chromium, stack, story.name)


def check_viewer(chromium: Browser, stack: Stack, name: str) -> None:
    """Fail where a viewer finds a form that writes, or changes anything without one."""
    viewer = Visitor(chromium, stack, "viewer")
    for path in PAGES:
        page = viewer.visit(f"/classifiers/{name}{path}")
        assert page.locator("form[method=post]").count() == 0, path
        assert viewer.serious_violations() == [], path
    for action in POSTS:
        assert viewer.post(f"/classifiers/{name}/{action}", {"token": "x"}) == 403, action
    assert viewer.get(f"/classifiers/{name}/export?format=tflite&version=v_1") == 403
    assert viewer.complaints == []
    viewer.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten thousand different pictures in a folder for each class."""
    folder, random = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    for label in LABELS[:2]:
        (folder / label).mkdir()
        for number in range(MANY // 2):
            pixels = random.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.mark.parametrize("story", ["many"], indirect=True)
def test_ten_thousand_pictures_arrive_once_though_the_window_and_the_server_go_away(
    story: Story, many: Path
) -> None:
    def says(label: str, text: str) -> str:
        place = story.page.locator(f"form[data-label={label}] [data-says]", has_text=text)
        return place.inner_text(timeout=SECONDS * 1000)

    story.create()
    story.choose(story.button("Choose a folder of class folders"), str(many))
    says(LABELS[0], f"of {MANY // 2}: 2000 added")
    story.visitor.reopen()

    story.visitor.visit(f"/classifiers/{story.name}/add")
    shown = story.page.locator(f"form[data-label={LABELS[0]}] [data-count]")
    before = int(shown.get_attribute("data-count") or 0)
    assert 2000 <= before < MANY // 2
    story.choose(story.button("Choose a folder of class folders"), str(many))
    says(LABELS[1], f"of {MANY // 2}: 2000 added")
    kill(story.stack, "airflow-api-server")
    says(LABELS[1], "trying again")
    assert story.stack.graft_json("up")["state"] == "running"
    says(LABELS[1], f"{MANY // 2} of {MANY // 2}: ")
    assert f"{before} already there" in says(LABELS[0], "added")

    folder = f"**/uploads/{story.name}/*/*.png"
    assert digests(story.stack.home, folder) == digests(many, "*/*.png")


def digests(folder: Path, pattern: str) -> list[str]:
    """Return the sorted digests of files."""
    return sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob(pattern))
