"""Make the pictures of the documentation anew, from what the demo has left.

Needs Chromium, its chromedriver and ``pip install selenium``. From the top of the project, with
the password that the demo has printed:

    make demo
    .venv/bin/python docs/make_screenshots.py PASSWORD
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By

TOP = Path(__file__).resolve().parent.parent
IMAGES = TOP / "docs" / "images"
WIDTH, HEIGHT = 1360, 900


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Parameters
    ----------
    page
        Where to begin.
    clicks
        Texts of the links that lead on from there.
    theme
        Light or dark.
    """

    page: str
    clicks: Sequence[str] = ()
    theme: str = "light"


PICTURES = {
    "front.png": Picture("/admin/"),
    "front-dark.png": Picture("/admin/", theme="dark"),
    "causes.png": Picture("/admin/causes/"),
    "rerun.png": Picture("/admin/causes/", ["Try all again"]),
    "file.png": Picture("/admin/buffer/file/?q=DECam_00229389_01.fits", ["DECam_00229389_01.fits"]),
    "conflict.png": Picture("/admin/conflicts/", ["HSCA"]),
}


@contextmanager
def served(demo: Path) -> Iterator[str]:
    """Serve the demo's admin, and give its address."""
    lines = (demo / "environment").read_text(encoding="utf-8")
    settings = dict(word.split("=", 1) for word in shlex.split(lines))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gunicorn",
            "endpoint_site.wsgi",
            "--no-control-socket",
            "--bind",
            address,
        ],
        cwd=TOP,
        env={**os.environ, **settings},
    )
    try:
        time.sleep(3)
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait()


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Start Chromium without a window, and without calls to anybody."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for name in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "hide-scrollbars",
        f"window-size={WIDTH},{HEIGHT}",
    ):
        options.add_argument(f"--{name}")
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
    )
    try:
        yield driver
    finally:
        driver.quit()


def take(driver: webdriver.Chrome, address: str, picture: Picture) -> bytes:
    """Go to a page and take its picture."""
    driver.get(address + picture.page)
    for words in picture.clicks:
        driver.find_element(By.PARTIAL_LINK_TEXT, words).click()
    driver.execute_script("localStorage.setItem('theme', arguments[0])", picture.theme)
    driver.refresh()
    return bytes(driver.get_screenshot_as_png())


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("password", help="as the demo has printed it")
    parser.add_argument("--demo", type=Path, default=TOP / "demo", help="the demo's directory")
    arguments = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with served(arguments.demo) as address, browser() as driver:
        driver.get(f"{address}/admin/")
        driver.find_element(By.NAME, "username").send_keys("demo")
        driver.find_element(By.NAME, "password").send_keys(arguments.password)
        driver.find_element(By.CSS_SELECTOR, "[type=submit]").click()
        for name, picture in PICTURES.items():
            (IMAGES / name).write_bytes(take(driver, address, picture))
            print(IMAGES / name)


if __name__ == "__main__":
    main()
