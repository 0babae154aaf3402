from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluations import DIAGNOSIS, HOSTILE, comparison, metrics, rate, row, whole_metrics, write_run
from page_elements import Elements

from sekd.analysis.results import Evaluation
from sekd.data.stage_record import StageRecord
from sekd.report import PAGE, build_report
from sekd.report import page as page_module
from sekd.report.thumbnails import MAX_SIDE


def page_of(run: Path) -> str:
    return build_report(Evaluation.read(run))[PAGE]


def test_hostile_names_are_text(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path))
    elements = Elements(page)
    assert len(elements.of("script")) == 1  # our own
    assert all("onerror" not in attributes for _, attributes in elements.tags)
    assert not any((each["src"] or "").startswith("x") for each in elements.of("img"))
    for names in HOSTILE.values():
        for name in names[1:]:
            assert name in elements.text
    assert "</style><script>alert(3)</script>" in elements.text  # the model's path, in the config


def test_the_page_loads_nothing_from_outside(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path))
    elements = Elements(page)
    for tag, attributes in elements.tags:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name)
            # Links lead to a place in the page or to its own tables, which a reader opens himself.
            assert value is None or value.startswith(("data:", "#", "report/")), (tag, value)
    assert not re.search(r"url\(|@import|https?://", page)
    (policy,) = [m["content"] for m in elements.of("meta") if m.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_the_first_screen_has_the_four_figures(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path))
    top = Elements(page[: page.index("<main>")]).text
    for said in (
        "Gained",
        "+60.0",
        "Kept",
        "Lost",
        "\u221220.0",
        "Cost",
        "one call",
    ):
        assert said in top


def test_images_are_small_and_inside_the_page(tmp_path: Path) -> None:
    pictures = Elements(page_of(write_run(tmp_path))).of("img")
    assert len(pictures) == 24
    for each in pictures:
        assert (each["width"], each["height"]) == (str(MAX_SIDE), str(MAX_SIDE * 3 // 4))
        assert (each["src"] or "").startswith("data:image/webp;base64,")


def test_a_missing_or_broken_image_becomes_a_placeholder(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes(b"no picture")
    elements = Elements(page_of(run))
    assert len(elements.of("img")) == 22
    assert elements.text.count("cannot be read any more") == 2


def test_a_sample_that_left_the_dataset_becomes_a_placeholder(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    table = tmp_path / "images.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    assert Elements(page_of(run)).text.count("not in the dataset any more") == 1


def test_a_report_without_the_dataset_has_no_images(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "taxonomy.json").unlink()
    elements = Elements(page_of(run))
    assert not elements.of("img")
    assert elements.text.count("dataset not found") == 24


def sections(run: Path) -> set[str]:
    return {str(each["id"]) for each in Elements(page_of(run)).of("section") if "id" in each}


ALL = {
    "cells", "controls", "depth", "first-error", "agreement", "confidence", "cost", "cases",
    "origin",
}  # fmt: skip


def changed(**changes: Any) -> dict[str, Any]:
    """The metrics of a whole run, with these changes to every row."""
    content = whole_metrics()
    return content | {"rows": [row | changes for row in content["rows"]]}


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (whole_metrics(), set()),
        (changed(cost=None), {"cost"}),
        (changed(diagnosis=DIAGNOSIS), {"confidence"}),
        (whole_metrics() | {"comparisons": []}, {"agreement"}),
        (metrics(*whole_metrics()["rows"][:6]), {"controls", "agreement"}),
    ],
    ids=["whole", "no cost", "no log-probabilities", "no comparisons", "no controls"],
)
def test_sections_without_figures_are_not_shown(
    tmp_path: Path, content: dict[str, Any], missing: set[str]
) -> None:
    run = write_run(tmp_path)
    (run / "metrics.json").write_text(json.dumps(content))
    assert sections(run) == ALL - missing


def test_a_run_without_a_quiz_has_a_report_of_its_own_paradigms(tmp_path: Path) -> None:
    cells = [("base", "open", 40.0), ("student", "open", 70.0), ("base", "descent", 60.0)]
    rows = [row(model, paradigm, hca) for model, paradigm, hca in cells]
    compared = [
        comparison(("student", "open"), ("base", "descent"), (10.0, 4.0, 16.0)),
        comparison(("student", "open"), ("base", "open"), (30.0, 20.0, 40.0)),
    ]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics(*rows, comparisons=compared)))
    elements = Elements(page_of(tmp_path))
    assert "Open: the model names the path without options" in elements.text
    assert "Descent: the model chooses among all children" in elements.text
    assert "Conditioned:" not in elements.text
    assert "student open, teacher descent" in elements.text
    assert "117 % of the teacher" in elements.text.replace("\N{NO-BREAK SPACE}", " ")


def test_metrics_alone_are_enough_for_a_report(tmp_path: Path) -> None:
    flat = row(level_accuracy={"1": None}, accuracy_given_parent_correct={}, tice=None)
    (tmp_path / "metrics.json").write_text(json.dumps(metrics(flat)))
    assert sections(tmp_path) == {"cells", "first-error", "origin"}


def test_the_papers_figures_are_shown_apart_and_named(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    content = changed(accuracy_given_parent_correct={"2": rate(75.0), "3": rate(60.0)})
    (run / "metrics.json").write_text(json.dumps(content))
    page = page_of(run)
    elements = Elements(page)
    papers = [each for each in elements.of("figure") if each["class"] == "paper"]
    assert len(papers) == 2
    assert elements.text.count("the paper's own: ") == 2
    assert "aria-label=\"Accuracy in percent by level, the paper's own: base" in page


def test_every_drawing_has_its_figures_as_text(tmp_path: Path) -> None:
    page = page_of(write_run(tmp_path))
    (drawing,) = re.findall(r'aria-label="(HCA in percent with[^"]*)"', page)
    assert (
        "base 10.0 (7.0\u201313.0); student 70.0 (67.0\u201373.0); blind, n 24: student 15.0"
        in drawing
    )


@pytest.mark.parametrize(
    ("zero_shot", "said"),
    [(False, "taught"), (True, "zero-shot: not all of it was taught")],
)
def test_the_page_says_which_taxonomies_were_taught(
    tmp_path: Path, zero_shot: bool, said: str
) -> None:
    run = write_run(tmp_path)
    (run / "metrics.json").write_text(json.dumps(changed(zero_shot=zero_shot)))
    page = page_of(run)
    assert f"<td>{said}</td></tr>" in page[page.index('id="origin"') :]
    assert ("birds (zero-shot)" in Elements(page).text) == zero_shot


def test_the_page_says_how_many_images_were_walked(tmp_path: Path) -> None:
    made = [StageRecord("answers", "f1", {}, 4000, 2), StageRecord("predictions/birds-base", "f2")]
    results = Evaluation.read(write_run(tmp_path), made)
    page = build_report(results)[PAGE]
    assert (
        "4,000 images walked once; labels chose the options of its questions, and no label was a "
        "target"
    ) in page
    assert "without a human label" not in page
    assert results.config is not None
    data = {name: spec.model_copy(update={"options": "children"})
            for name, spec in results.config.data.items()}  # fmt: skip
    config = results.config.model_copy(update={"data": data})
    assert "no label was used" in build_report(replace(results, config=config))[PAGE]
    distill = config.distill.model_copy(update={"labels": "truth"})
    config = config.model_copy(update={"distill": distill})
    assert "labels were the student" in build_report(replace(results, config=config))[PAGE]


def test_every_table_is_written_in_three_formats(tmp_path: Path) -> None:
    files = build_report(Evaluation.read(write_run(tmp_path)))
    names = ("cells", "differences", "path_metrics", "levels", "first_error", "calibration",
             "confusions", "cost", "controls", "controlled_cells")  # fmt: skip
    expected = {f"report/{name}.{suffix}" for name in names for suffix in ("md", "csv", "tex")}
    assert files.keys() == expected | {PAGE}
    assert r"\<i\>gull\</i\>" in files["report/confusions.md"]


def test_contents_and_table_links_lead_somewhere(tmp_path: Path) -> None:
    files = build_report(Evaluation.read(write_run(tmp_path)))
    elements = Elements(files[PAGE])
    links = [each["href"] or "" for each in elements.of("a")]
    ids = {attributes.get("id") for _, attributes in elements.tags}
    assert {link for link in links if link.startswith("#")} == {
        f"#{section}"
        for section in ("cells", "controls", "depth", "first-error", "agreement", "confidence",
                        "cost", "cases", "origin")
    }  # fmt: skip
    assert all(link[1:] in ids for link in links if link.startswith("#"))
    tables = {link for link in links if not link.startswith("#")}
    assert "report/cells.csv" in tables
    assert tables <= files.keys()


def test_a_drawing_without_words_is_hidden_from_screen_readers(tmp_path: Path) -> None:
    drawings = Elements(page_of(write_run(tmp_path))).of("svg")
    decorations = [each for each in drawings if not each.get("aria-label")]
    assert decorations
    assert all(each.get("aria-hidden") == "true" for each in decorations)
    assert all("role" not in each for each in decorations)


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2)."""
    channels = (int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_a_contrast_of_four_and_a_half() -> None:
    css = (Path(page_module.__file__).parent / "page_files" / "page.css").read_text()
    themes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", theme)) for theme in css.split(":root")[1:]
    ]
    light, dark, printed = themes
    inks = ("ink", "soft", "base", "student", "other", "joint", "independent", "conditioned",
            "right", "wrong")  # fmt: skip
    pairs = [(ink, paper) for ink in inks for paper in ("paper", "raised")]
    pairs += [("on-dark", "step-1"), ("on-dark", "step-2"), ("ink", "none"), ("paper", "student")]
    pairs += [("on-light", f"step-{number}") for number in range(3, 8)]
    for theme in (light, dark, light | printed):
        for ink, paper in pairs:
            lighter, darker = sorted((luminance(theme[ink]), luminance(theme[paper])))[::-1]
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (ink, paper, theme[ink])


def test_the_same_run_gives_the_same_report(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    assert build_report(Evaluation.read(run)) == build_report(Evaluation.read(run))
