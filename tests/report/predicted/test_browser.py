"""The page of predictions in a real browser: Debian's chromium, driven by its chromedriver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from browser import needs_browser
from predicted_paths import GULL, OWL, draw_images, predicted

from sekd.data.path_predictions import PathPrediction
from sekd.report.predicted.page import PageNotes, render_predictions

LONG = "a folder with a long name/" * 4 + "and_a_file_name_without_any_place_to_break_it_0001.jpeg"


pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predicted")
    predictions = [
        *(predicted(f"gull {n}.png", GULL, (1, 0.9, 1 - n / 8), "seagull") for n in range(8)),
        *(predicted(f"owl {n}.png", OWL, (1 - n / 4, 0.9, 1)) for n in range(4)),
        predicted(LONG, GULL, (1, 1, 0.01)),
        PathPrediction(image=f"bad/{LONG}", error="cannot be decoded: " + "x" * 200),
    ]
    images = draw_images(folder, [each.image for each in predictions[:-1]])
    notes = PageNotes(
        title="photos", min_confidence=0.5, restriction="2 leaves", facts={"model": LONG}
    )
    path = folder / "page.html"
    path.write_text(render_predictions(predictions, lambda _: images, notes), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def driver(screenshots: ModuleType) -> Iterator[Any]:
    with screenshots.browser() as driver:
        yield driver


@pytest.mark.parametrize("width", [400, 800, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_and_no_error_is_logged(
    driver: Any, screenshots: ModuleType, page: Path, width: int, scheme: str
) -> None:
    screenshots.set_screen(driver, (width, 900), scheme)
    driver.get(page.as_uri())
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.get_log("browser") == []
    background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(21, 23, 26)") == (scheme == "dark")


def test_the_page_fetches_nothing(driver: Any, page: Path) -> None:
    driver.get(page.as_uri())
    names = driver.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert [name for name in names if not name.startswith("data:")] == []


def shown(driver: Any) -> list[str]:
    names: list[str] = driver.execute_script(
        "return [...document.querySelectorAll('.case')].filter((card) => card.offsetParent)"
        ".map((card) => card.querySelector('.file').textContent)"
    )
    return names


def choose(driver: Any, name: str, label: str) -> None:
    """Choose the option whose text begins with the label."""
    driver.execute_script(
        "const select = document.querySelector(`select[name=${arguments[0]}]`);"
        "select.value = [...select.options].find((o) => o.text.startsWith(arguments[1])).value;"
        "select.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        label,
    )


def test_images_are_sorted_by_confidence_either_way(driver: Any, page: Path) -> None:
    driver.get(page.as_uri())
    names = shown(driver)
    assert names[:3] == ["gull 0.png", "owl 0.png", "gull 1.png"]
    assert names[-1] == LONG
    choose(driver, "order", "least confident first")
    assert shown(driver) == names[::-1]


def test_images_are_filtered_by_rank_and_node(driver: Any, page: Path) -> None:
    driver.get(page.as_uri())
    everything = shown(driver)
    choose(driver, "node", "owls")
    assert shown(driver) == ["owl 0.png", "owl 1.png", "owl 2.png", "owl 3.png"]
    choose(driver, "rank", "species")
    assert shown(driver) == ["owl 0.png", "owl 1.png"]
    choose(driver, "node", "any node")
    assert set(shown(driver)) == {"owl 0.png", "owl 1.png", *(f"gull {n}.png" for n in range(4))}
    choose(driver, "rank", "no rank")
    assert shown(driver) == ["owl 3.png"]
    said = driver.execute_script("return document.querySelector('.filter output').value")
    assert said == f"1 of {len(everything)} images"


def test_without_scripts_every_image_is_shown(driver: Any, page: Path) -> None:
    driver.get(page.as_uri())
    everything = shown(driver)
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.get(page.as_uri())
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert shown(driver) == everything
    assert len(everything) == 13
    assert driver.execute_script("return document.querySelector('.filter').offsetParent") is None
