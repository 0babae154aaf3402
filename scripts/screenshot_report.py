"""Take the pictures of a report that the documentation shows: ``REPORT.html OUTDIR``.

Needs Debian's chromium and chromium-driver, and selenium (the extra ``dev``).
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
    """A chromium without a profile of anybody's; nothing is downloaded."""
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


def look(driver: webdriver.Chrome, size: tuple[int, int], scheme: str) -> None:
    """Show the page on a screen of this size, light or dark."""
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


def picture(driver: webdriver.Chrome) -> bytes:
    """What is on the screen, as a PNG of 256 colours, which text and lines do not need more of."""
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
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
        for name, size, scheme, place in (
            ("desktop-light", DESKTOP, "light", "body"),
            ("desktop-dark", DESKTOP, "dark", "body"),
            ("phone", PHONE, "light", "body"),
            ("gallery", DESKTOP, "light", "#cases"),
        ):
            look(driver, size, scheme)
            driver.execute_script(
                "document.querySelector(arguments[0])?.scrollIntoView({behavior: 'instant'})", place
            )
            (outdir / f"{name}.png").write_bytes(picture(driver))


if __name__ == "__main__":
    main()
