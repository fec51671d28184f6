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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By

TOP = Path(__file__).resolve().parent.parent
IMAGES = TOP / "docs" / "images"
#: Picture to page.
PAGES = {"admin.png": "/admin/buffer/file/"}
WIDTH, HEIGHT = 1720, 960


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
        for image, page in PAGES.items():
            driver.get(address + page)
            driver.save_screenshot(str(IMAGES / image))
            print(IMAGES / image)


if __name__ == "__main__":
    main()
