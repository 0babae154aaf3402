"""Take the screenshots of a report for the documentation: ``REPORT.html OUTDIR``.

The script needs Debian's chromium and chromium-driver, and selenium (the extra ``dev``).
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import click
from PIL import Image
from rich.console import Console
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from sekd.analysis.results import Evaluation
from sekd.report.tables import cells_table
from sekd.report.writers import to_terminal

DESKTOP, PHONE = (1280, 800), (390, 844)
PAPER, TERMINAL = (794, 1123), (720, 560)
"""A4 at 96 dots an inch, and a window of 80 columns."""
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Start a headless Chromium with an empty profile; nothing is downloaded."""
    with tempfile.TemporaryDirectory() as profile:
        options = Options()
        options.binary_location = "/usr/bin/chromium"
        for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            yield driver
        finally:
            driver.quit()


def set_screen(driver: webdriver.Chrome, size: tuple[int, int], scheme: str) -> None:
    """Emulate a screen of this size, with the colour scheme ``light`` or ``dark``."""
    width, height = size
    screen = {
        "width": width,
        "height": height,
        "deviceScaleFactor": 2 if size == PHONE else 1,
        "mobile": size == PHONE,
    }
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def screenshot(driver: webdriver.Chrome) -> bytes:
    """Return the visible part of the page as a PNG with 256 colours, enough for text and lines."""
    capture = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    image = Image.open(io.BytesIO(base64.b64decode(capture["data"]))).convert("RGB")
    content = io.BytesIO()
    image.quantize(256).save(content, "PNG", optimize=True)
    return content.getvalue()


@click.command()
@click.argument("report", type=click.Path(exists=True, path_type=Path))
@click.argument("outdir", type=click.Path(path_type=Path))
def main(report: Path, outdir: Path) -> None:
    """Write the PNGs of a desktop, a phone, a printed page and a terminal into OUTDIR.

    REPORT stands in its run directory, whose results the terminal shows.
    """
    outdir.mkdir(parents=True, exist_ok=True)
    with browser() as driver:
        driver.get(report.resolve().as_uri())
        for name, size, scheme, selector in (
            ("desktop-light", DESKTOP, "light", "body"),
            ("desktop-dark", DESKTOP, "dark", "body"),
            ("phone", PHONE, "light", "body"),
            ("phone-cells", PHONE, "light", "#cells table"),
            ("gallery", DESKTOP, "light", "#cases"),
        ):
            set_screen(driver, size, scheme)
            driver.execute_script(
                "document.querySelector(arguments[0])?.scrollIntoView({behavior: 'instant'})",
                selector,
            )
            (outdir / f"{name}.png").write_bytes(screenshot(driver))
        set_screen(driver, PAPER, "light")
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        driver.execute_script("document.querySelector('#cells').scrollIntoView()")
        (outdir / "print.png").write_bytes(screenshot(driver))
        set_screen(driver, TERMINAL, "light")
        driver.get(f"data:text/html;charset=utf-8,{quote(terminal_page(report.parent))}")
        (outdir / "terminal.png").write_bytes(screenshot(driver))


def terminal_page(run: Path) -> str:
    """Return a page that shows what ``sekd evaluate`` prints in a terminal of 80 columns."""
    console = Console(width=80, record=True, file=io.StringIO(), force_terminal=True)
    console.print(to_terminal(cells_table(Evaluation.read(run)), 80))
    return console.export_html(inline_styles=True)


if __name__ == "__main__":
    main()
