"""A browser that is logged in to the admin, which runs in this process.

The database is that of the test run, so that tests make rows as they do elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import axe_core_python
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.tools import need

#: What Chromium is started with: no window, and no calls to anybody.
FLAGS: Final = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "window-size=1400,1000",
)
SERIOUS: Final = ("serious", "critical")


@functools.cache
def _axe() -> str:
    return (Path(axe_core_python.__file__).parent / "axe.min.js").read_text("utf-8")


class Browser:
    """Chromium, and the site that it looks at.

    Parameters
    ----------
    driver
        The browser itself.
    site
        Address of the site, without a slash at the end.
    """

    def __init__(self, driver: webdriver.Chrome, site: str) -> None:
        self.driver, self.site = driver, site

    def open(self, path: str) -> None:
        """Open a page of the site."""
        self.driver.get(self.site + path)

    def log_in(self, user: User) -> None:
        """Bring the session of a user along, as if the form had been filled in."""
        client = Client()
        client.force_login(user)
        self.open("/admin/login/")
        cookie = client.cookies[settings.SESSION_COOKIE_NAME]
        self.driver.add_cookie({"name": cookie.key, "value": cookie.value, "path": "/"})

    def find(self, selector: str) -> WebElement:
        """Find the one element of a CSS selector."""
        (element,) = self.all(selector)
        return element

    def all(self, selector: str) -> list[WebElement]:
        """Find all elements of a CSS selector."""
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    @property
    def text(self) -> str:
        """The text that can be seen."""
        return self.find("body").text

    def wait(self, condition: Callable[[], Any], seconds: float = 20) -> Any:
        """Wait until something holds."""
        return WebDriverWait(self.driver, seconds, 0.05).until(lambda _: condition())

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, which its Content-Security-Policy does not apply to."""
        return self.driver.execute_script(script, *arguments)

    def theme(self, name: str) -> None:
        """Choose the light or the dark theme, as the admin's own switch does."""
        self.run("localStorage.setItem('theme', arguments[0])", name)
        self.driver.refresh()

    def complaints(self) -> list[str]:
        """Give what the console said since it was asked last: errors and broken policies."""
        log = self.driver.get_log("browser")
        return [line["message"] for line in log if line["level"] in ("WARNING", "SEVERE")]

    def findings(self) -> list[str]:
        """Give what axe finds seriously wrong with the page for people with disabilities."""
        self.run(_axe())
        result = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']})"
            ".then(done, (error) => done({violations: [], error: `${error}`}));"
        )
        assert "error" not in result, result["error"]
        assert result["passes"], "it has looked at something"
        return [
            f"{found['id']} ({found['impact']}): {node['html']}: {node['failureSummary']}"
            for found in result["violations"]
            if found["impact"] in SERIOUS
            for node in found["nodes"]
        ]


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser saves files."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def chromium(
    tmp_path_factory: pytest.TempPathFactory, downloads: Path
) -> Iterator[webdriver.Chrome]:
    """The browser; it is started once."""
    options = webdriver.ChromeOptions()
    options.binary_location = need("chromium")
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(need("chromedriver")))
    driver.set_page_load_timeout(60)
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@contextmanager
def visiting(chromium: webdriver.Chrome, site: str) -> Iterator[Browser]:
    """Look at a site as nobody yet; what the console says at the end fails the test."""
    browser = Browser(chromium, site)
    browser.complaints()
    yield browser
    complaints = browser.complaints()
    chromium.delete_all_cookies()
    chromium.get("about:blank")
    assert complaints == []


@pytest.fixture
def visitor(chromium: webdriver.Chrome, live_server: Any) -> Iterator[Browser]:
    """A browser that nobody is logged in to."""
    with visiting(chromium, live_server.url) as browser:
        yield browser


@pytest.fixture
def browser(visitor: Browser, transactional_db: None) -> Browser:
    """A browser that an administrator is logged in to."""
    visitor.log_in(User.objects.create_superuser("admin", password="x"))
    return visitor
