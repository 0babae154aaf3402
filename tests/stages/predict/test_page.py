"""`sekd predict --html`, from images to the page."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from command_line import sekd

from sekd.commands import exit_codes


@pytest.fixture
def images(world: Path, tmp_path: Path) -> list[Path]:
    """Six images, and one that is broken."""
    broken = tmp_path / "broken.png"
    broken.write_text("no image", "utf-8")
    return [*sorted((world / "seen" / "images").rglob("*.png"))[:6], broken]


def test_the_page_shows_what_the_table_holds(
    world: Path, images: list[Path], tmp_path: Path
) -> None:
    table, page = tmp_path / "out.jsonl", tmp_path / "out.html"
    result = sekd(
        *("predict", *images, "--run", world / "config.yaml", "--output", table, "--html", page),
        *("--min-confidence", "0.5", "--top-k", "2"),
    )
    assert result.exit_code == 0, result.output
    assert f"page: {page}" in result.stderr
    rows = [json.loads(line) for line in table.read_text("utf-8").splitlines()]
    html = page.read_text("utf-8")
    assert html.count("data:image/webp;base64,") == 6
    cards = html.split("<article")[1:]
    shown = [re.search(r'class="file">(.*?)</p>', card) for card in cards]
    predicted = sorted(
        (row for row in rows if not row["error"]), key=lambda row: -row["probability"]
    )
    assert [match and match[1] for match in shown] == [row["image"] for row in predicted]
    for card, row in zip(cards, predicted, strict=True):
        assert (row["accepted_name"] or "Not sure of any rank") in card
    assert "broken.png" in html.split('id="failures"')[1]
    assert "6 of 7 images have a path" in html
    assert "uncalibrated" in html


def test_a_page_of_shards_needs_no_table_and_is_the_same_again(
    world: Path, images: list[Path], tmp_path: Path
) -> None:
    page = tmp_path / "out.html"
    command = ("predict", *images, "--run", world / "config.yaml", "--html", page, "--single-pass")
    shards = ("--set", "evaluate.runtime.shard_size=3")
    result = sekd(*command, *shards)
    assert result.exit_code == 0, result.output
    assert f"shards: {page}.run" in result.stderr
    first = page.read_text("utf-8")
    assert (tmp_path / "out.html.run").is_dir()
    assert sekd(*command, *shards).exit_code == 0
    assert page.read_text("utf-8") == first
    assert "How they were made" in first


def test_a_restriction_is_said(world: Path, images: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    taxonomy = json.loads((world / "seen" / "taxonomy.json").read_text("utf-8"))
    leaf = next(iter(taxonomy))
    only = tmp_path / "only.txt"
    only.write_text(f"{leaf}\n", "utf-8")
    result = sekd(
        *("predict", images[0], "--run", world / "config.yaml", "--html", page, "--only", only)
    )
    assert result.exit_code == 0, result.output
    html = page.read_text("utf-8")
    assert f"Only answers within 1 of {len(taxonomy)} leaves were possible." in html
    assert "Outside the restriction" in html


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_computed(
    world: Path, images: list[Path], tmp_path: Path
) -> None:
    command = ("predict", images[0], "--run", world / "config.yaml", "--html")
    for place, reason in ((tmp_path / "no" / "page.html", "no folder"), (tmp_path, "is a folder")):
        result = sekd(*command, place)
        assert result.exit_code == exit_codes.CONFIG
        assert reason in result.stderr


def test_a_path_that_is_no_text_is_shown_with_its_bytes(
    world: Path, images: list[Path], tmp_path: Path
) -> None:
    page = tmp_path / "out.html"
    odd = tmp_path / os.fsdecode(b"caf\xe9.png")
    odd.write_bytes(images[0].read_bytes())
    result = sekd("predict", odd, "--run", world / "config.yaml", "--html", page)
    assert result.exit_code == 0, result.output
    assert "caf\\udce9.png" in page.read_text("utf-8")
