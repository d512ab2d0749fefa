"""How a person uses a page: with a mouse, or with a keyboard and nothing else."""

from __future__ import annotations

from typing import Protocol

from playwright.sync_api import Locator, Page

MAX_TABS = 400  # until what has the focus is what was looked for
IS_FOCUSED = "element => element === document.activeElement"


class Hands(Protocol):
    """What a person does to one element of a page."""

    def press(self, element: Locator) -> None:
        """Use a button, a link, a box or a summary."""

    def write(self, element: Locator, text: str) -> None:
        """Replace the text of a field."""

    def pick(self, element: Locator, option: str) -> None:
        """Choose an option of a list."""


class Mouse:
    """Clicks; text comes from a keyboard all the same."""

    def press(self, element: Locator) -> None:
        element.click()

    def write(self, element: Locator, text: str) -> None:
        element.fill(text)

    def pick(self, element: Locator, option: str) -> None:
        element.select_option(option)


class Keyboard:
    """Sends keys to what has the focus; Tab alone moves it."""

    def press(self, element: Locator) -> None:
        page = self._tab_to(element)
        is_box = element.evaluate("element => element.matches('[type=checkbox], [type=radio]')")
        page.keyboard.press("Space" if is_box else "Enter")

    def write(self, element: Locator, text: str) -> None:
        page = self._tab_to(element)
        page.keyboard.press("Control+a")
        page.keyboard.type(text)

    def pick(self, element: Locator, option: str) -> None:
        page = self._tab_to(element)
        page.keyboard.type(option)
        page.keyboard.press("Tab")  # a list that is open closes
        assert element.input_value() == option

    def _tab_to(self, element: Locator) -> Page:
        """Move the focus to an element; one that Tab does not reach fails."""
        element.wait_for()
        page = element.page
        for _ in range(MAX_TABS):
            if element.evaluate(IS_FOCUSED):
                return page
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach {element}")
