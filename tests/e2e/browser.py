"""Debian's Chromium on the stack's own Airflow, signed in as somebody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import CHROMIUM
from tests.e2e.conftest import Stack

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]
SECONDS = 60
OURS_AND_KNOWN = (  # Airflow's own frame says so of itself
    "An iframe which has both allow-scripts and allow-same-origin",
)


@contextmanager
def start_chromium() -> Iterator[Browser]:
    """Start the browser with a new, empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


class Visitor:
    """Somebody with a browser window; what the console complains of and every dialog is kept.

    Args:
        browser: The browser; each visitor has cookies of their own.
        stack: The stack.
        name: Who signs in; nobody if empty.
    """

    def __init__(self, browser: Browser, stack: Stack, name: str = "") -> None:
        self.url = str(stack.status["airflow"]["url"])
        self.complaints: list[str] = []
        self._context = browser.new_context(viewport={"width": 1280, "height": 900})
        self._context.set_default_timeout(SECONDS * 1000)
        self.page = self._watch(self._context.new_page())
        if name:
            self._sign_in(name, json.loads((stack.home / "airflow" / "passwords.json").read_text())[name])

    def _watch(self, page: Page) -> Page:
        def complain(kind: str, text: str) -> None:
            if not text.startswith(OURS_AND_KNOWN):
                self.complaints.append(f"{kind}: {text}")

        page.on("console", lambda said: said.type in ("error", "warning") and complain(said.type, said.text))
        page.on("pageerror", lambda error: complain("pageerror", str(error)))
        page.on("dialog", lambda dialog: (complain("dialog", dialog.message), dialog.dismiss()))
        return page

    def _sign_in(self, name: str, password: str) -> None:
        self.page.goto(f"{self.url}/auth/login")
        self.page.fill("input[name=username]", name)
        self.page.fill("input[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "/auth/login" not in url)

    def reopen(self) -> None:
        """Close the window, whatever it is at, and open another with the same cookies."""
        self.page.close()
        self.page = self._watch(self._context.new_page())

    def visit(self, path: str) -> Page:
        """Open one of our pages by its path below `/graft`."""
        answer = self.page.goto(f"{self.url}/graft{path}")
        assert answer is not None
        assert answer.status == 200, self.page.inner_text("body")
        return self.page

    def post(self, path: str, fields: dict[str, str]) -> int:
        """Send a form with this visitor's cookies, past the browser's window; return the status."""
        return self._context.request.post(f"{self.url}/graft{path}", form=fields, max_redirects=0).status

    def get(self, path: str) -> int:
        """Return the status of one of our pages."""
        return self._context.request.get(f"{self.url}/graft{path}", max_redirects=0).status

    def trigger(self, dag_id: str) -> str:
        """Start a run from Airflow's own form and return its id."""
        self.page.goto(f"{self.url}/dags/{dag_id}")
        self.page.get_by_role("button", name="Trigger").first.click()
        form = self.page.get_by_role("dialog")
        with self.page.expect_response(lambda answer: answer.request.method == "POST") as sent:
            form.get_by_role("button", name="Trigger", exact=True).click()
        assert sent.value.status == 200, sent.value.text()
        return str(sent.value.json()["dag_run_id"])

    def approve(self, dag_id: str, run_id: str) -> None:
        """Approve a version on Airflow's page of the task that asks."""
        self.page.goto(f"{self.url}/dags/{dag_id}/runs/{quote(run_id)}/tasks/approve/required_actions")
        with self.page.expect_response(lambda answer: answer.request.method == "PATCH") as sent:
            self.page.get_by_test_id("hitl-option-Approve").click()
        assert sent.value.status == 200, sent.value.text()

    def serious_violations(self) -> list[str]:
        """Return what axe-core finds wrong and serious on the page that is open."""
        found: dict[str, Any] = Axe().run(self.page).response
        return [
            f"{violation['id']}: {node['html'][:200]}"
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def close(self) -> None:
        """Close the window and forget its cookies."""
        self._context.close()
