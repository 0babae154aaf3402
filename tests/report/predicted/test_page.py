"""Tests of the page of predictions."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from page_elements import Elements
from predicted_paths import GULL, OWL, draw_images, predicted

from sekd.data.image_refs import ImageRef
from sekd.data.path_predictions import PathPrediction, RankedPath
from sekd.report.predicted import page as page_module
from sekd.report.predicted.page import MAX_SIDE, PageNotes, render_predictions

HOSTILE = '<img src=x onerror="alert(1)">'


class SpacedElements(Elements):
    """The text has a space where a tag is."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        self.text += " "


PREDICTIONS = [
    predicted("one.png", GULL, (1, 0.9, 0.4), "seagull"),
    predicted("two.png", OWL, (1, 0.9, 0.9)),
    predicted("three.png", GULL, (0.3, 0.9, 0.9)),
    PathPrediction(image="four.png", error="cannot be decoded: truncated"),
]
NOTES = PageNotes(title="photos", min_confidence=0.5, facts={"model": "a-model"})


def render(
    predictions: list[PathPrediction],
    images: dict[str, ImageRef],
    notes: PageNotes = NOTES,
) -> SpacedElements:
    return SpacedElements(render_predictions(predictions, lambda _: images, notes))


def test_each_image_stands_with_its_path_and_its_probabilities(tmp_path: Path) -> None:
    page = render(PREDICTIONS, draw_images(tmp_path, ["one.png", "two.png", "three.png"]))
    assert [each["alt"] for each in page.of("img")] == ["two.png", "one.png", "three.png"]
    for image in page.of("img"):
        assert (image["src"] or "").startswith("data:image/webp;base64,")
        assert int(image["width"] or 0) == MAX_SIDE
    text = " ".join(page.text.split())
    assert "3 of 4 images have a path" in text
    assert "barn owl species, 81 % two.png class bird 100 % order owls 90 %" in text
    # The species of the first image is not trusted, and nothing of the third one's path is.
    assert "gulls order, 90 % one.png" in text
    assert "herring gull seagull 36 %" in text
    assert "Stopped: species: herring gull has a probability of 0.36, less than 0.5" in text
    assert "Not sure of any rank three.png" in text
    assert "four.png cannot be decoded: truncated" in text
    assert "a-model" in text
    assert "uncalibrated" in text
    doubtful = [tag for tag in page.of("tr") if tag.get("class") == "doubtful"]
    assert len(doubtful) == 1 + 3


def test_bars_are_as_long_as_the_path_is_probable(tmp_path: Path) -> None:
    page = render(PREDICTIONS[1:2], {})
    bars = [float(tag["width"] or 0) for tag in page.of("rect") if tag["class"] == "probability"]
    assert bars == [100.0, 90.0, 81.0]
    lines = {tag["x1"] for tag in page.of("line") if tag["class"] == "threshold"}
    assert lines == {"50.0"}


def test_images_can_be_filtered_by_rank_and_by_node() -> None:
    page = render(PREDICTIONS, {})
    text = " ".join(page.text.split())
    assert "any rank no rank (1) order (1) species (1)" in text
    assert "any node bird (3) gulls (2) owls (1) barn owl (1) herring gull (seagull) (2)" in text
    groups = [tag["label"] for tag in page.of("optgroup")]
    assert groups == ["class", "order", "species"]
    numbers = [tag["data-nodes"] for tag in page.of("article")]
    assert numbers[0] != numbers[1] == numbers[2]


def test_a_restriction_and_other_paths_are_shown() -> None:
    paths = (RankedPath("root/a", GULL, 0.5), RankedPath("root/b", OWL, 0.25))
    restricted = replace(PREDICTIONS[0], outside=0.125, paths=paths)
    page = render([restricted], {}, replace(NOTES, restriction="2 of 9 leaves"))
    text = " ".join(page.text.split())
    assert "Only answers within 2 of 9 leaves were possible." in text
    assert "Outside the restriction: 12 % " in text
    assert "probably none of what was allowed" not in text
    lost = render([replace(restricted, outside=0.75)], {}, NOTES).text
    assert "Outside the restriction: 75 %, so it is probably none of what was allowed" in lost
    assert "bird \u203a owls \u203a barn owl 25 %" in text


def test_hostile_names_are_text() -> None:
    hostile = predicted(HOSTILE, (HOSTILE, HOSTILE, HOSTILE), (1, 1, 1), HOSTILE)
    failed = PathPrediction(image=HOSTILE, error=HOSTILE)
    notes = PageNotes(title=HOSTILE, restriction=HOSTILE, facts={HOSTILE: HOSTILE}, table=HOSTILE)
    page = render([hostile, failed], {}, notes)
    assert not page.of("img")
    assert len(page.of("script")) == 1
    assert page.text.count(HOSTILE) > 10


def test_the_page_loads_nothing_from_outside(tmp_path: Path) -> None:
    images = draw_images(tmp_path, ["one.png", "two.png", "three.png"])
    html = render_predictions(PREDICTIONS, lambda _: images, NOTES)
    for tag, attributes in SpacedElements(html).tags:
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("data:", "#")), tag
        assert "style" not in attributes
    assert not re.search(r"url\(|@import|https?://", html)
    assert "default-src &#39;none&#39;; img-src data:; style-src &#39;sha256-" in html


def test_a_page_of_many_images_stays_small_and_says_what_it_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page_module, "NUM_SHOWN", 10)
    monkeypatch.setattr(page_module, "NUM_FAILURES", 3)
    many = [predicted(f"{n}.png", GULL, (1, 1, n / 3000)) for n in range(3000)]
    failed = [PathPrediction(image=f"bad {n}.png", error="broken") for n in range(1500)]
    page = render([*many, *failed], {}, replace(NOTES, table="all.csv"))
    text = " ".join(page.text.split())
    assert len(page.of("article")) == 10
    assert "10 of 3,000 images are shown" in text
    assert text.count("all.csv holds all.") == 2
    assert text.count(" broken ") == 3
    assert "And 1,497 more." in text
    assert "herring gull (3,000)" in text


def test_thumbnails_have_a_limit_of_bytes_and_missing_images_a_placeholder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = draw_images(tmp_path, ["one.png", "two.png", "three.png"])
    del images["one.png"]
    (tmp_path / "1.png").write_bytes(b"no picture")
    text = render(PREDICTIONS, images).text
    assert "not found" in text
    assert "cannot be read any more" in text
    monkeypatch.setattr(page_module, "MAX_BYTES", 0)
    assert "left out to keep the page small" in render(PREDICTIONS, images).text


def test_a_page_without_any_path_lists_the_failures() -> None:
    page = render(PREDICTIONS[3:], {})
    assert "0 of 1 images have a path" in page.text
    assert "cannot be decoded: truncated" in page.text
    assert not page.of("article")
    assert not page.of("form")
