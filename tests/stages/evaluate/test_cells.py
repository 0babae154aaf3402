"""The worker of one cell, with an engine that follows a rule instead of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sekd.analysis.cell_key import CellKey
from sekd.analysis.cells import CellRows
from sekd.analysis.summary import measure_cell
from sekd.config import Control, EvaluateSpec, Paradigm, RunConfig
from sekd.data.controls import CONTROLS
from sekd.data.predictions import PREDICTIONS, read_predictions, scored_rows
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.engines import Ask
from sekd.errors import ConfigError
from sekd.stages.evaluate.candidates import Candidate
from sekd.stages.evaluate.cells import CellWorker, EvaluationCell, cell_fields, cells_of

PARADIGMS: tuple[Paradigm, ...] = ("joint", "independent", "conditioned")
NUM_ASKING_RUNS = 4
"""Three samples alone, and the others together."""


@pytest.fixture
def run(config: RunConfig, seen: Dataset, rule_cache: Any, rules: Any, tmp_path: Path) -> Any:
    def run_cell(
        paradigm: Paradigm, control: Control | None, rule: str = "alphabetic", **engine: Any
    ) -> tuple[pa.Table, ShardResult, Any]:
        """Return the rows, the result, and the engine with the requests that it saw."""
        engines = rule_cache(rules[rule])
        for name, value in engine.items():
            setattr(engines.engine, name, value)
        cell = EvaluationCell(Candidate("base", config.model), seen, paradigm, control)
        worker = CellWorker(config, cell, engines)
        folder = tmp_path / f"{paradigm}-{control}-{rule}"
        folder.mkdir()
        shard = Shard(0, tuple(seen.samples.ids.to_pylist()))
        result = worker.process(shard, folder, lambda _: None)
        worker.close()
        return read_predictions([result.files[PREDICTIONS]]), result, engines.engine

    return run_cell


@pytest.mark.parametrize("paradigm", PARADIGMS)
@pytest.mark.parametrize("control", [None, "circular"])
def test_costs_add_up_to_the_requests(
    run: Any, paradigm: Paradigm, control: Control | None
) -> None:
    _, result, engine = run(paradigm, control)
    asked = [request for requests in engine.runs[:NUM_ASKING_RUNS] for request in requests]
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


def test_the_latency_is_measured_on_samples_that_are_asked_about_alone(run: Any) -> None:
    _, result, engine = run("independent", None)
    assert [len(requests) for requests in engine.runs] == [4, 4, 4, 9 * 4]
    assert result.stats["latency"] > 0
    assert result.num_done == 12


def test_measuring_the_letters_of_joint_replies_costs_nothing(run: Any) -> None:
    rows, result, engine = run("joint", None)
    *first, measured = engine.runs
    written = [request for requests in first for request in requests]
    assert result.stats["calls"] == len(written) == 12
    assert len(measured) == 12 * 4
    assert all(isinstance(request, Ask) for request in measured)
    assert rows["option_logprobs"].null_count == 0
    for options, logprobs in zip(
        rows["options"].to_pylist(), rows["option_logprobs"].to_pylist(), strict=True
    ):
        assert len(logprobs) == len(options)


def test_a_refused_measurement_stays_unknown_and_its_sample_counts(run: Any) -> None:
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


def scores_of(rows: pa.Table, dataset: Dataset) -> dict[str, Any]:
    cell = CellRows(CellKey("seen", "base", "joint"), dataset.taxonomy, rows, 0, None)
    return measure_cell(cell, EvaluateSpec(num_bootstrap=5)).to_json()


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_answers_by_letter_are_wrong_under_circular(
    run: Any, paradigm: Paradigm, seen: Dataset
) -> None:
    """Each rotation has another node as its answer, which is wrong but can be parsed."""
    rows, _, _ = run(paradigm, "circular", "first")
    assert Counter(rows["rotation"].to_pylist()) == dict.fromkeys(range(4), 48)
    scores = scores_of(rows, seen)
    assert scores["num_samples"] == 12
    assert scores["por"]["value"] == 0
    assert scores["parse_failure_rate"]["value"] == 0
    assert scores["tice"] is None


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_answers_by_name_score_the_same_under_circular(
    run: Any, paradigm: Paradigm, seen: Dataset
) -> None:
    plain, _, _ = run(paradigm, None)
    circular, _, _ = run(paradigm, "circular")
    uncontrolled, rotated = (scores_of(rows, seen) for rows in (plain, circular))
    assert 0 < uncontrolled["por"]["value"] < 100
    assert rotated | {"tice": None} == uncontrolled | {"tice": None}
    assert uncontrolled["tice"] is not None
    assert scored_rows(circular)["rotation"].to_pylist() != []


def test_only_the_refused_sample_is_quarantined(run: Any, seen: Dataset) -> None:
    first_keys: list[str] = []

    def refuses(request: Any) -> bool:
        """Refuse every request about the first image that is asked about."""
        if not first_keys:
            first_keys.append(request.prompt.image_key)
        return bool(request.prompt.image_key == first_keys[0])

    rows, result, _ = run("independent", "circular", refuses=refuses)
    (quarantined,) = result.quarantined
    assert result.num_done == 11
    assert quarantined.sample_id not in rows["sample_id"].to_pylist()
    assert result.stats["calls"] == 11 * 16


def spec_of(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update=changes)})


def test_every_combination_is_a_cell_and_cells_of_a_candidate_follow_each_other(
    config: RunConfig, seen: Dataset
) -> None:
    config = spec_of(config, controls=("blind", "siblings"), paradigms=("joint", "conditioned"))
    candidates = [Candidate("base", config.model), Candidate("other", config.model)]
    cells = cells_of(config, candidates, [seen])
    assert [tuple(cell.names.values()) for cell in cells] == [
        (name, "seen", paradigm, control)
        for name in ("base", "other")
        for paradigm in ("joint", "conditioned")
        for control in ("none", "blind", "siblings")
    ]
    assert len({cell.folder for cell in cells}) == len(cells)


def test_a_reply_without_letters_is_not_forced(
    config: RunConfig, seen: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    config = spec_of(config, controls=(), paradigms=("joint", "joint_forced"))
    named = replace(seen, name="named", spec=seen.spec.model_copy(update={"wording": "paper"}))
    with caplog.at_level("INFO"):
        cells = cells_of(config, [Candidate("base", config.model)], [seen, named])
    assert [cell.paradigm for cell in cells] == ["joint", "joint_forced", "joint"]
    assert "named is not evaluated as joint_forced: replies of its wording hold no" in caplog.text


def test_controls_may_be_of_fewer_samples(config: RunConfig, seen: Dataset) -> None:
    config = spec_of(config, controls=("blind",), control_limit=5, paradigms=("joint",))
    plain, blind = cells_of(config, [Candidate("base", config.model)], [seen])
    assert (len(plain.dataset.samples), len(blind.dataset.samples)) == (12, 5)


def test_a_control_that_makes_no_sense_is_left_out_and_logged(
    config: RunConfig, seen: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    config = spec_of(config, controls=("siblings",), paradigms=("joint",))
    with caplog.at_level("INFO", logger="sekd"):
        siblings = CONTROLS["siblings"].dataset(seen)
        cells = cells_of(config, [Candidate("base", config.model)], [siblings])
    assert [cell.control for cell in cells] == [None]
    assert "seen is not evaluated under siblings" in caplog.text


def test_a_dataset_without_a_quiz_is_scored_by_paths_alone(
    config: RunConfig, seen: Dataset
) -> None:
    base = [Candidate("base", config.model)]
    unasked = seen.without_quiz()
    config = spec_of(config, controls=("blind", "circular"), paradigms=("joint", "descent"))
    with pytest.raises(ConfigError, match="children gives no quiz for joint; evaluate open or"):
        cells_of(config, base, [unasked])
    cells = cells_of(spec_of(config, paradigms=("open", "descent")), base, [unasked])
    assert [(cell.paradigm, cell.control) for cell in cells] == [
        ("open", None),
        ("open", "blind"),
        ("descent", None),
        ("descent", "blind"),
    ]


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


@pytest.mark.parametrize("setting", IRRELEVANT)
def test_a_setting_that_a_cell_does_not_depend_on_leaves_its_fields_alone(
    config: RunConfig, seen: Dataset, setting: str
) -> None:
    cell = EvaluationCell(Candidate("base", config.model), seen, "joint")
    assert cell_fields(IRRELEVANT[setting](config), cell) == cell_fields(config, cell)


def test_a_setting_that_a_cell_depends_on_changes_its_fields(
    config: RunConfig, seen: Dataset
) -> None:
    base = Candidate("base", config.model)
    joint, walked = EvaluationCell(base, seen, "joint"), EvaluationCell(base, seen, "conditioned")
    shuffled = EvaluationCell(base, seen, "joint", "shuffled")
    facts = IRRELEVANT["how teachers walk"](config)
    seeded = spec_of(config, seed=9)
    fields = [
        *(cell_fields(config, cell) for cell in (joint, walked, shuffled)),
        cell_fields(facts, walked),
        cell_fields(seeded, shuffled),
        cell_fields(config, EvaluationCell(Candidate("x", config.model), seen, "joint")),
        cell_fields(spec_of(config, engine_args={"a": 1}), joint),
    ]
    assert all(a != b for i, a in enumerate(fields) for b in fields[:i])
