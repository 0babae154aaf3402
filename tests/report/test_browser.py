"""The page in a real browser: Debian's chromium, driven by its chromedriver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from browser import needs_browser
from click.testing import CliRunner
from evaluations import write_run
from PIL import Image

from sekd.analysis.results import Evaluation
from sekd.report import PAGE, build_report

pytestmark = needs_browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("evaluated"))
    page = run / PAGE
    page.write_text(build_report(Evaluation.read(run))[PAGE], encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def driver(screenshots: ModuleType, report: Path) -> Iterator[Any]:
    with screenshots.browser() as driver:
        driver.get(report.as_uri())
        yield driver


@pytest.mark.parametrize("size", ["DESKTOP", "PHONE"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen_and_no_error_is_logged(
    driver: Any, screenshots: ModuleType, report: Path, size: str, scheme: str
) -> None:
    screenshots.set_screen(driver, getattr(screenshots, size), scheme)
    driver.get(report.as_uri())
    width = driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= getattr(screenshots, size)[0]
    assert driver.get_log("browser") == []
    dark = "rgb(21, 23, 26)"
    background = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (background == dark) == (scheme == "dark")


@pytest.mark.parametrize("size", ["DESKTOP", "PHONE"])
def test_the_key_figures_are_on_the_first_screen(
    driver: Any, screenshots: ModuleType, report: Path, size: str
) -> None:
    screenshots.set_screen(driver, getattr(screenshots, size), "light")
    driver.get(report.as_uri())
    bottoms = driver.execute_script(
        "return [...document.querySelectorAll('.figure .number')]"
        ".map((each) => each.getBoundingClientRect().bottom)"
    )
    assert len(bottoms) == 4
    assert max(bottoms) < getattr(screenshots, size)[1]


def test_the_page_fetches_nothing(driver: Any, report: Path) -> None:
    driver.get(report.as_uri())
    names = driver.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [name for name in names if not name.startswith("data:")] == []


def shown(driver: Any) -> list[tuple[str, str]]:
    return [
        tuple(each)
        for each in driver.execute_script(
            "return [...document.querySelectorAll('.case')].filter((e) => e.offsetParent)"
            ".map((e) => [e.dataset.dataset, e.dataset.kind])"
        )
    ]


def test_the_gallery_can_be_filtered(driver: Any, report: Path) -> None:
    driver.get(report.as_uri())
    everything = shown(driver)
    kind = everything[-1][1]
    assert len({name for _, name in everything}) > 1
    driver.execute_script(
        "const select = document.querySelector('select[name=kind]'); select.value = arguments[0];"
        "select.dispatchEvent(new Event('input', {bubbles: true}))",
        kind,
    )
    assert shown(driver) == [each for each in everything if each[1] == kind]
    said = driver.execute_script("return document.querySelector('.filter output').value")
    assert said == f"{len(shown(driver))} of {len(everything)} images"


def test_without_scripts_every_case_is_shown(driver: Any, report: Path) -> None:
    driver.get(report.as_uri())
    everything = shown(driver)
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    driver.get(report.as_uri())
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert len(shown(driver)) == len(everything) == 24
    assert driver.execute_script("return document.querySelector('.filter').offsetParent") is None


def column(driver: Any, index: int) -> list[str]:
    cells: list[str] = driver.execute_script(
        "return [...document.querySelectorAll('#cells table')][0].querySelectorAll('tbody tr')"
        ".values().map((row) => row.cells[arguments[0]].innerText.split(/\\s/)[0]).toArray()",
        index,
    )
    return cells


def test_a_table_is_sorted_by_the_heading_that_is_pressed(
    driver: Any, screenshots: ModuleType, report: Path
) -> None:
    screenshots.set_screen(driver, screenshots.DESKTOP, "light")
    driver.get(report.as_uri())
    heading = "document.querySelector('#cells table').tHead.rows[0].cells[3]"
    assert column(driver, 3) == ["10.0", "40.0", "80.0", "70.0", "20.0", "79.0"]
    driver.execute_script(f"{heading}.querySelector('button').click()")
    assert column(driver, 3) == ["80.0", "79.0", "70.0", "40.0", "20.0", "10.0"]
    assert driver.execute_script(f"return {heading}.ariaSort") == "descending"
    driver.execute_script(f"{heading}.querySelector('button').click()")
    assert column(driver, 3) == ["10.0", "20.0", "40.0", "70.0", "79.0", "80.0"]
    models = column(driver, 1)
    assert models == ["base", "student", "base", "student", "student", "base"]  # shown again


def test_hca_is_seen_on_a_phone_without_scrolling(
    driver: Any, screenshots: ModuleType, report: Path
) -> None:
    screenshots.set_screen(driver, screenshots.PHONE, "light")
    driver.get(report.as_uri())
    rights = driver.execute_script(
        "return [...document.querySelectorAll('#cells table')][0].querySelectorAll('tr')"
        ".values().map((row) => row.cells[3].getBoundingClientRect().right).toArray()"
    )
    assert max(rights) <= screenshots.PHONE[0]


def test_screenshots_for_the_documentation_are_taken(
    screenshots: ModuleType, report: Path, tmp_path: Path
) -> None:
    result = CliRunner().invoke(screenshots.main, [str(report), str(tmp_path / "images")])
    assert result.exit_code == 0, result.output
    images = {path.stem: path for path in (tmp_path / "images").glob("*.png")}
    names = "desktop-light desktop-dark phone phone-cells gallery print terminal"
    assert images.keys() == set(names.split())
    assert Image.open(images["desktop-light"]).size == screenshots.DESKTOP
    assert all(path.stat().st_size < 300_000 for path in images.values())
