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

import click
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

DESKTOP, PHONE = (1280, 800), (390, 844)
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
    """Write desktop-light.png, desktop-dark.png, phone.png and gallery.png into OUTDIR."""
    outdir.mkdir(parents=True, exist_ok=True)
    with browser() as driver:
        driver.get(report.resolve().as_uri())
        for name, size, scheme, selector in (
            ("desktop-light", DESKTOP, "light", "body"),
            ("desktop-dark", DESKTOP, "dark", "body"),
            ("phone", PHONE, "light", "body"),
            ("gallery", DESKTOP, "light", "#cases"),
        ):
            set_screen(driver, size, scheme)
            driver.execute_script(
                "document.querySelector(arguments[0])?.scrollIntoView({behavior: 'instant'})",
                selector,
            )
            (outdir / f"{name}.png").write_bytes(screenshot(driver))


if __name__ == "__main__":
    main()
