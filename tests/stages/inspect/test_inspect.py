"""sekd inspect shows what is in the shards: as text, as JSON and as an HTML page."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from command_line import sekd

from sekd.data.toyworld import write_world
from sekd.report.inspect.page import render_inspection
from sekd.report.inspect.text import probability_bar
from sekd.report.inspect.views import OptionView, SampleView, TurnView

NUM_SAMPLES = 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which every question was asked in two orders of its options."""
    directory = tmp_path_factory.mktemp("inspected")
    write_world(directory / "world", num_train=NUM_SAMPLES, num_test=1, seed=0)
    done = sekd("elicit", directory / "world/config.yaml", "--set", "elicit.permutations=2")
    assert done.exit_code == 0, done.output
    return directory


@pytest.fixture(scope="module")
def sample_id(run: Path) -> str:
    return str(json.loads(sekd("inspect", run, "--json").output)["least_confident"][0])


def test_an_overview_summarizes_every_level(run: Path) -> None:
    overview = json.loads(sekd("inspect", run, "--json").output)
    assert overview["num_samples"] == NUM_SAMPLES
    assert [level["num_answers"] for level in overview["levels"]] == [NUM_SAMPLES] * 4
    for level in overview["levels"]:
        assert 0.25 < level["confidence"] <= 1
        assert 0 <= level["accuracy"] <= 1
        assert level["num_cached_tokens"] < level["num_prompt_tokens"]
    shown = sekd("inspect", run).output
    assert f"{NUM_SAMPLES} samples elicited" in shown
    assert overview["least_confident"][0] in shown


def test_a_sample_is_shown_turn_by_turn(run: Path, sample_id: str) -> None:
    sample = json.loads(sekd("inspect", run, sample_id, "--json").output)
    shown = sekd("inspect", run, sample_id).output
    assert [turn["level"] for turn in sample["turns"]] == [1, 2, 3, 4]
    assert sample["image"].endswith(sample_id)
    for turn in sample["turns"]:
        (answer,) = (option for option in turn["options"] if option["is_answer"])
        assert turn["said"].split()[0] == answer["letter"]
        assert answer["name"] in turn["said"]
        assert all(option["name"] in turn["heard"] for option in turn["options"])
        mass = sum(option["probability"] for option in turn["options"])
        assert mass == pytest.approx(turn["option_mass"], abs=1e-5)
        assert answer["probability"] / mass == pytest.approx(turn["confidence"], abs=1e-5)
        assert set(turn["norms"]) == {"block_2", "final_norm"}
        assert turn["parity"] < 1e-3
        assert turn["top"][0]["probability"] == max(top["probability"] for top in turn["top"])
        assert f"level {turn['level']}: {turn['rank']}" in shown
        assert f"{answer['probability']:.4f}" in shown
    assert "as shown" in shown


def test_a_sample_is_shown_before_its_states_exist(
    run: Path, sample_id: str, tmp_path: Path
) -> None:
    (tmp_path / "answers").symlink_to(run / "answers")
    sample = json.loads(sekd("inspect", tmp_path, sample_id, "--json").output)
    assert all(turn["top"] == [] and turn["parity"] is None for turn in sample["turns"])


def test_an_unknown_sample_and_an_empty_run_are_errors(
    run: Path, sample_id: str, tmp_path: Path
) -> None:
    wrong = sekd("inspect", run, sample_id + "x")
    assert wrong.exit_code == 2
    assert f"did you mean {sample_id}?" in wrong.stderr
    (tmp_path / "sekd.log").touch()
    empty = sekd("inspect", tmp_path)
    assert empty.exit_code == 2
    assert "no shard of answers is done; run sekd elicit first" in empty.stderr


def test_a_page_of_a_run_shows_its_least_confident_samples(
    run: Path, sample_id: str, tmp_path: Path
) -> None:
    assert sekd("inspect", run, "--html", tmp_path / "page.html").exit_code == 0
    text = (tmp_path / "page.html").read_text("utf-8")
    assert sample_id in text
    assert text.count("data:image/webp;base64,") == NUM_SAMPLES
    assert "http://" not in text
    assert "https://" not in text


def test_a_page_escapes_names_and_marks_a_missing_image() -> None:
    option = OptionView("A", "<b>&gull", 0.5, 0.5, is_answer=True, is_truth=False)
    turn = TurnView(
        level=1,
        rank="class<i>",
        heard="<image> which?",
        said="A",
        options=(option,),
        option_mass=0.5,
        confidence=1.0,
        num_prompt_tokens=9,
        num_cached_tokens=0,
        top=(),
        tail_mass=None,
        norms={},
        parity=None,
    )
    text = render_inspection("<script>", None, [SampleView("<s>", "/nowhere.png", (turn,))])
    assert "<b>&gull" not in text
    assert "&lt;b&gt;&amp;gull" in text
    assert "<script>" not in text
    assert "cannot be read any more" in text


@pytest.mark.parametrize(
    ("share", "blocks"), [(0, ""), (1, "█" * 24), (0.5, "█" * 12), (1 / 48, "▌"), (2, "█" * 24)]
)
def test_a_bar_is_proportional_to_its_share(share: float, blocks: str) -> None:
    assert probability_bar(share) == blocks
    assert math.ceil(share * 24) >= len(blocks)
