"""One cell's worker over an engine without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sekd.analysis.cell_metrics import metrics_row
from sekd.config import Control, EvaluateSpec, Paradigm, RunConfig
from sekd.data.predictions import PREDICTIONS, read_predictions, scored_rows
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.engines import Ask
from sekd.errors import ConfigError
from sekd.stages.elicit.answers import dataset_fields
from sekd.stages.evaluate.candidates import Candidate
from sekd.stages.evaluate.cells import CellWorker, EvaluationCell, cell_fields, cells_of

PARADIGMS: tuple[Paradigm, ...] = ("joint", "independent", "conditioned")


@pytest.fixture
def run(config: RunConfig, seen: Dataset, kept: Any, rules: Any, tmp_path: Path) -> Any:
    def run_cell(
        paradigm: Paradigm, control: Control | None, rule: str = "alphabetic", **engine: Any
    ) -> tuple[pa.Table, ShardResult, Any]:
        """Rows, result, and the engine with its requests."""
        keeper = kept(rules[rule])
        for name, value in engine.items():
            setattr(keeper.engine, name, value)
        cell = EvaluationCell(Candidate("base", config.model), seen, paradigm, control)
        worker = CellWorker(config, cell, keeper)
        folder = tmp_path / f"{paradigm}-{control}-{rule}"
        folder.mkdir()
        shard = Shard(0, tuple(seen.samples.ids.to_pylist()))
        result = worker.process(shard, folder, lambda _: None)
        worker.close()
        return read_predictions([result.files[PREDICTIONS]]), result, keeper.engine

    return run_cell


@pytest.mark.parametrize("paradigm", PARADIGMS)
@pytest.mark.parametrize("control", [None, "circular"])
def test_costs_add_up_to_the_requests(
    run: Any, paradigm: Paradigm, control: Control | None
) -> None:
    _, result, engine = run(paradigm, control)
    asked = engine.runs[0]
    assert (
        result.stats["calls"]
        == len(asked)
        == 12 * {"joint": 1}.get(paradigm, 4) * (4 if control else 1)
    )
    prompts = sum(len(request.prompt.token_ids) for request in asked)
    assert result.stats["cached_tokens"] == 3 * len(asked)
    assert result.stats["prefill_tokens"] == prompts - 3 * len(asked)
    if paradigm != "joint":
        assert result.stats["decode_tokens"] == len(asked)


def test_what_is_measured_in_joint_replies_costs_nothing(run: Any) -> None:
    rows, result, engine = run("joint", None)
    written, measured = engine.runs
    assert result.stats["calls"] == len(written) == 12
    assert len(measured) == 12 * 4
    assert all(isinstance(request, Ask) for request in measured)
    assert rows["option_logprobs"].null_count == 0
    lengths = {level: len(each) for level, each in zip(
        rows["level"].to_pylist(), rows["options"].to_pylist(), strict=True)}  # fmt: skip
    for level, logprobs in zip(
        rows["level"].to_pylist(), rows["option_logprobs"].to_pylist(), strict=True
    ):
        assert len(logprobs) == lengths[level]


def test_a_joint_letter_that_is_refused_stays_unknown_and_its_sample_counts(run: Any) -> None:
    rows, result, _ = run("joint", None, refuses=lambda request: isinstance(request, Ask))
    assert (result.num_done, list(result.quarantined)) == (12, [])
    assert rows["option_logprobs"].null_count == len(rows) == 48


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_blind_prompts_hold_no_image_and_no_placeholder(
    run: Any, paradigm: Paradigm, words: Any
) -> None:
    (image_id,) = words.encode(words.processor.image_token)
    _, _, engine = run(paradigm, None)
    assert all(image_id in r.prompt.token_ids and r.prompt.image for r in engine.runs[0])
    _, _, engine = run(paradigm, "blind")
    for request in (request for requests in engine.runs for request in requests):
        assert image_id not in request.prompt.token_ids
        assert request.prompt.image is None
        assert request.prompt.image_key == ""


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_who_answers_by_letter_is_wrong_in_a_circle(
    run: Any, paradigm: Paradigm, seen: Dataset
) -> None:
    """In each rotation another node; that is wrong, but it could be parsed."""
    rows, _, _ = run(paradigm, "circular", "first")
    assert Counter(rows["rotation"].to_pylist()) == dict.fromkeys(range(4), 48)
    scores = metrics_row(rows, seen.taxonomy, EvaluateSpec(num_bootstrap=5), {})
    assert scores["num_samples"] == 12
    assert scores["por"]["value"] == 0
    assert scores["parse_failure_rate"]["value"] == 0
    assert scores["tice"] is None


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_who_answers_by_name_is_as_good_in_a_circle(
    run: Any, paradigm: Paradigm, seen: Dataset
) -> None:
    plain, _, _ = run(paradigm, None)
    circular, _, _ = run(paradigm, "circular")
    spec = EvaluateSpec(num_bootstrap=5)
    by_name, in_a_circle = (
        metrics_row(rows, seen.taxonomy, spec, {}) for rows in (plain, circular)
    )
    assert 0 < by_name["por"]["value"] < 100
    assert in_a_circle | {"tice": None} == by_name | {"tice": None}
    assert by_name["tice"] is not None
    assert scored_rows(circular)["rotation"].to_pylist() != []


def test_a_refused_sample_is_set_aside_alone(run: Any, seen: Dataset) -> None:
    bad: list[str] = []

    def refuses(request: Any) -> bool:
        bad[:] = bad or [request.prompt.image_key]
        return bool(request.prompt.image_key == bad[0])

    rows, result, _ = run("independent", "circular", refuses=refuses)
    (quarantined,) = result.quarantined
    assert result.num_done == 11
    assert quarantined.sample_id not in rows["sample_id"].to_pylist()
    assert result.stats["calls"] == 11 * 16


def spec_of(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update=changes)})


def test_the_matrix_is_whole_and_one_contender_comes_after_another(
    config: RunConfig, seen: Dataset
) -> None:
    config = spec_of(config, controls=("blind", "siblings"), paradigms=("joint", "conditioned"))
    contenders = [Candidate("base", config.model), Candidate("other", config.model)]
    cells = cells_of(config, contenders, [seen])
    assert [tuple(cell.names.values()) for cell in cells] == [
        (name, "seen", paradigm, control)
        for name in ("base", "other")
        for paradigm in ("joint", "conditioned")
        for control in ("none", "blind", "siblings")
    ]
    assert len({cell.folder for cell in cells}) == len(cells)


def test_controls_may_be_of_fewer_samples(config: RunConfig, seen: Dataset) -> None:
    config = spec_of(config, controls=("blind",), control_limit=5, paradigms=("joint",))
    plain, blind = cells_of(config, [Candidate("base", config.model)], [seen])
    assert (len(plain.dataset.samples), len(blind.dataset.samples)) == (12, 5)


def test_a_control_that_makes_no_sense_is_left_out_with_a_word(
    config: RunConfig, seen: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    from sekd.stages.evaluate.controls import controlled_dataset

    config = spec_of(config, controls=("siblings",), paradigms=("joint",))
    with caplog.at_level("INFO", logger="sekd"):
        cells = cells_of(
            config, [Candidate("base", config.model)], [controlled_dataset("siblings", seen)]
        )
    assert [cell.control for cell in cells] == [None]
    assert "seen is not evaluated under siblings" in caplog.text


def test_walked_datasets_have_no_questions_to_score(config: RunConfig, seen: Dataset) -> None:
    from dataclasses import replace

    walked = replace(seen, spec=seen.spec.model_copy(update={"distractors": "walk"}))
    with pytest.raises(ConfigError, match="walk has no fixed questions to score"):
        cells_of(config, [Candidate("base", config.model)], [walked])


Change = Callable[[RunConfig], RunConfig]
IRRELEVANT: dict[str, Change] = {
    "other paradigms": lambda c: spec_of(c, paradigms=("joint",)),
    "other controls": lambda c: spec_of(c, controls=("circular",)),
    "other datasets": lambda c: spec_of(c, datasets=("seen",)),
    "the bootstrap": lambda c: spec_of(c, num_bootstrap=7, seed=8),
    "how teachers walk": lambda c: c.model_copy(
        update={"elicit": c.elicit.model_copy(update={"permutations": 2, "style": "facts"})}
    ),
}


def print_of(config: RunConfig, seen: Dataset, cell: EvaluationCell) -> Any:
    return cell_fields(config, cell, dataset_fields(seen, ["x"] * len(seen.samples)))


@pytest.mark.parametrize("what", IRRELEVANT)
def test_what_a_cell_does_not_depend_on_leaves_it_finished(
    config: RunConfig, seen: Dataset, what: str
) -> None:
    cell = EvaluationCell(Candidate("base", config.model), seen, "joint")
    assert print_of(IRRELEVANT[what](config), seen, cell) == print_of(config, seen, cell)


def test_what_a_cell_depends_on_makes_it_another(config: RunConfig, seen: Dataset) -> None:
    base = Candidate("base", config.model)
    joint, walked = EvaluationCell(base, seen, "joint"), EvaluationCell(base, seen, "conditioned")
    shuffled = EvaluationCell(base, seen, "joint", "shuffled")
    facts = IRRELEVANT["how teachers walk"](config)
    seeded = spec_of(config, seed=9)
    prints = [
        *(print_of(config, seen, cell) for cell in (joint, walked, shuffled)),
        print_of(facts, seen, walked),
        print_of(seeded, seen, shuffled),
        print_of(config, seen, EvaluationCell(Candidate("x", config.model), seen, "joint")),
        print_of(spec_of(config, engine_args={"a": 1}), seen, joint),
    ]
    assert all(a != b for i, a in enumerate(prints) for b in prints[:i])
