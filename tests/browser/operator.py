"""Somebody at the screen: finds things by their words, counts clicks, looks at every page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from tests.browser.conftest import Browser

FRONT_PAGE: Final = "/admin/"
#: No page takes anywhere near so long on a machine that works.
DEADLINE_S: Final = 60.0


@dataclass(frozen=True)
class Effort:
    """What it took to do something, from the front page to its end; without reading and typing."""

    clicks: int
    seconds: float


class Operator:
    """Somebody who works with the admin by what can be read on its pages.

    Parameters
    ----------
    browser
        With the site that is worked with.
    saved
        Directory that the browser saves files to.
    """

    def __init__(self, browser: Browser, saved: Path) -> None:
        self.browser, self._saved = browser, saved
        self.efforts: dict[str, Effort] = {}
        self._clicks, self._looking_s = 0, 0.0

    @contextmanager
    def does(self, what: str) -> Iterator[None]:
        """Measure what it takes to do something, beginning at the front page."""
        self.go(FRONT_PAGE)
        self._clicks, self._looking_s = 0, 0.0
        begin = time.monotonic()
        yield
        seconds = time.monotonic() - begin - self._looking_s
        self.efforts[what] = Effort(self._clicks, seconds)

    def go(self, path: str) -> None:
        """Open a page by its address."""
        self.browser.open(path)
        self._look()

    def log_in(self, name: str, password: str) -> None:
        """Fill in the form that whoever is not known gets."""
        self.go(FRONT_PAGE)
        self.write("Username:", name)
        self.write("Password:", password)
        self.click("Log in")

    def click(self, words: str, *, beside: str = "") -> None:
        """Click the first link or button with some words, and look at the page that it leads to.

        Parameters
        ----------
        words
            Some of its text.
        beside
            Some text of the table row that it is in, if it is in one.
        """
        self._click(self._one(words, beside))
        self._look()

    def downloads(self) -> list[str]:
        """Wait for what the browser saves, and take it."""
        self.waits(lambda: any(self._saved.iterdir()) and not any(self._saved.glob("*.crdownload")))
        texts = [path.read_text("utf-8") for path in self._saved.iterdir()]
        for path in self._saved.iterdir():
            path.unlink()
        return texts

    def tick(self, label: str) -> None:
        """Tick the box of a row, or of all rows, by the label that screen readers get."""
        box = f"//input[@type='checkbox' and contains(@aria-label, {_quoted(label)})]"
        self._click(self.browser.driver.find_element(By.XPATH, box))

    def choose(self, label: str, words: str) -> None:
        """Choose from a list; one click."""
        Select(self._field(label)).select_by_visible_text(words)
        self._clicks += 1

    def write(self, label: str, text: str) -> None:
        """Fill in a field."""
        field = self._field(label)
        field.clear()
        field.send_keys(text)

    def reads(self, *words: str) -> None:
        """Check that words can be seen."""
        for word in words:
            assert word in self.browser.text, f"{word!r} cannot be seen in:\n{self.browser.text}"

    def reloads_until(self, *words: str) -> None:
        """Load the page again and again until words can be seen."""
        end = time.monotonic() + DEADLINE_S
        while not all(word in self.browser.text for word in words):
            assert time.monotonic() < end, f"{words} never came up:\n{self.browser.text}"
            time.sleep(0.1)
            self.browser.driver.refresh()
        self._look()

    def waits(self, condition: Callable[[], Any], seconds: float = DEADLINE_S) -> None:
        """Wait until something has come of it."""
        self.browser.wait(condition, seconds)

    def _one(self, words: str, beside: str) -> WebElement:
        text = _quoted(words)
        row = f"//tr[contains(normalize-space(.), {_quoted(beside)})]" if beside else ""
        kinds = f"self::a[contains(., {text})] or self::button[contains(., {text})]"
        submits = f"self::input[@type='submit' and contains(@value, {text})]"
        found = self.browser.driver.find_elements(By.XPATH, f"{row}//*[{kinds} or {submits}]")
        seen = [element for element in found if element.is_displayed()]
        assert seen, f"nothing to click on says {words!r} {beside!r}:\n{self.browser.text}"
        exact = [one for one in seen if words in (one.text, one.get_attribute("value"))]
        return (exact or seen)[0]

    def _field(self, label: str) -> WebElement:
        driver = self.browser.driver
        found = driver.find_element(By.XPATH, f"//label[contains(., {_quoted(label)})]")
        if target := found.get_attribute("for"):
            return driver.find_element(By.ID, target)
        return found.find_element(By.CSS_SELECTOR, "input, select")

    def _click(self, element: WebElement) -> None:
        element.click()
        self._clicks += 1

    def _look(self) -> None:
        """See that the page is there, whole, without a complaint and open to everybody."""
        self.browser.wait(
            lambda: self.browser.run("return document.readyState") == "complete", DEADLINE_S
        )
        begin = time.monotonic()
        where = self.browser.driver.current_url
        assert self.browser.complaints() == [], where
        assert self.browser.findings() == [], where
        self._looking_s += time.monotonic() - begin


def _quoted(text: str) -> str:
    assert "'" not in text
    return f"'{text}'"
