"""Teacher signals on disk: nothing is lost, joined by position, or taken unchecked."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.data import signals
from sekd.data.signals import (
    ANSWERS,
    TRANSCRIPTS,
    StateRow,
    TeacherAnswer,
    TeacherSample,
    TeacherShard,
    TeacherTranscript,
    check_samples,
    read_state_rows,
    write_samples,
    write_state_rows,
)
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ShardError

LETTER_IDS = (65, 66, 67, 68)


def make_sample(sample_id: str, num_levels: int, seed: int = 0) -> TeacherSample:
    """A correct sample, whose levels have different numbers of options.

    Samples of an odd seed have a transcript for each level.
    """
    rng = np.random.default_rng([seed, num_levels])
    texts: list[list[int]] = [[1, 2, 3]]
    answers = []
    for level in range(1, num_levels + 1):
        if level > 1 and seed % 2:
            texts.append([1, 2, 3, level])
        num_options = int(rng.integers(1, 5))
        logprobs = np.log(rng.dirichlet(np.ones(num_options + 2))).astype(np.float32)[:num_options]
        choice = int(logprobs.argmax())
        options = tuple(f"root/ö {level}/{option}" for option in range(num_options))
        answers.append(
            TeacherAnswer(
                sample_id=sample_id,
                level=level,
                rank=f"rank {level}",
                options=options,
                answer=options[choice],
                transcript=len(texts) - 1,
                position=len(texts[-1]),
                letter_ids=LETTER_IDS[:num_options],
                option_logprobs=logprobs[::-1],
                mean_logprobs=logprobs,
                num_prompt_tokens=2**30,
                num_cached_tokens=level,
                truth=options[-1] if level % 2 else None,
            )
        )
        texts[-1] += [LETTER_IDS[choice], 4, 5]
    return TeacherSample(
        sample_id=sample_id,
        image=f"/bilder/{sample_id}.jpg",
        image_sha256="0f" * 32,
        transcripts=tuple(
            TeacherTranscript(tuple(text), tuple(token in LETTER_IDS for token in text))
            for text in texts
        ),
        answers=tuple(answers),
    )


def plain(value: Any) -> Any:
    """A value with arrays as (dtype, list), so that it can be compared."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [type(value), *map(plain, value)]
    return (value.dtype, value.tolist()) if isinstance(value, np.ndarray) else value


def plains(samples: Sequence[TeacherSample]) -> list[Any]:
    return [plain(asdict(sample)) for sample in samples]


def reopen(samples: Sequence[TeacherSample], folder: Path) -> TeacherShard:
    files = write_samples(samples, folder)
    return TeacherShard(files[TRANSCRIPTS], files[ANSWERS])


SAMPLES = [make_sample(f"s{i}", num_levels, i) for i, num_levels in enumerate([3, 1, 4, 2])]


@settings(max_examples=25, deadline=None)
@given(
    ids=st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=4),
    data=st.data(),
)
def test_samples_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], data: st.DataObject
) -> None:
    levels = [data.draw(st.integers(0, 5)) for _ in ids]
    samples = [
        make_sample(i, n, data.draw(st.integers(0, 99))) for i, n in zip(ids, levels, strict=True)
    ]
    shard = reopen(samples, tmp_path_factory.mktemp("shard"))
    assert (len(shard), shard.sample_ids) == (len(ids), ids)
    assert plains(list(shard)) == plains(samples)


@pytest.mark.parametrize(
    "index", [slice(None), slice(1, 3), slice(None, None, -2), slice(-2, 99), slice(3, 1)]
)
def test_slices_are_those_of_a_list(tmp_path: Path, index: slice) -> None:
    assert plains(reopen(SAMPLES, tmp_path)[index]) == plains(SAMPLES[index])


def test_indices_are_those_of_a_list(tmp_path: Path) -> None:
    shard = reopen(SAMPLES, tmp_path)
    assert plains([shard[-1], shard[2]]) == plains([SAMPLES[-1], SAMPLES[2]])
    for index in (4, -5):
        with pytest.raises(IndexError):
            shard[index]


def test_only_the_rows_of_indexed_samples_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, row_of = [], signals.row_of

    def watch(row_class: type, cells: dict[str, Any]) -> Any:
        if row_class is TeacherAnswer:
            read.append((cells["sample_id"], cells["level"]))
        return row_of(row_class, cells)

    monkeypatch.setattr(signals, "row_of", watch)
    shard = reopen(SAMPLES, tmp_path)
    assert read == []
    _ = shard[1:2], shard[3]
    assert read == [("s1", 1), ("s3", 1), ("s3", 2)]


def edit(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def test_answers_are_joined_by_id_and_level(tmp_path: Path) -> None:
    files = write_samples(SAMPLES, tmp_path)
    rows = list(range(sum(len(sample.answers) for sample in SAMPLES)))
    random.Random(0).shuffle(rows)
    edit(files[ANSWERS], lambda table: table.take(rows))
    rows = list(range(sum(len(sample.transcripts) for sample in SAMPLES)))
    edit(files[TRANSCRIPTS], lambda table: table.take(rows[::-1]))
    shard = TeacherShard(files[TRANSCRIPTS], files[ANSWERS])
    assert plains(list(shard)) == plains(SAMPLES[::-1])


def test_answers_without_a_transcript_are_refused(tmp_path: Path) -> None:
    files = write_samples(SAMPLES, tmp_path)
    edit(files[TRANSCRIPTS], lambda table: table.slice(1))
    with pytest.raises(ShardError, match=rf"{files[ANSWERS]}: an answer of 's0'"):
        TeacherShard(files[TRANSCRIPTS], files[ANSWERS])


def cast(name: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        return table.set_column(place, pa.field(name, kind, nullable=False), table[name].cast(kind))

    return change


@pytest.mark.parametrize("role", [TRANSCRIPTS, ANSWERS])
@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns(["sample_id"]),
        lambda table: table.append_column("reply", pa.nulls(len(table), pa.string())),
        lambda table: table.rename_columns(["id", *table.column_names[1:]]),
        lambda table: table.select(table.column_names[::-1]),
        cast("sample_id", pa.large_string()),
    ],
)
def test_other_columns_are_refused(
    tmp_path: Path, role: str, change: Callable[[pa.Table], pa.Table]
) -> None:
    files = write_samples(SAMPLES, tmp_path)
    edit(files[role], change)
    with pytest.raises(ShardError, match=rf"{files[role]}: its columns"):
        TeacherShard(files[TRANSCRIPTS], files[ANSWERS])


@pytest.mark.parametrize(
    ("probabilities", "tail_mass"),
    [
        ([0.5, 0.25], 0.25),
        ([1.0], 0.0),
        ([0.5, 0.25, 0.125, 0.125], 0.0),
        ([0.7, 0.2, 0.1 + 1e-6], 0.0),  # rounding may pass 1; a mass is never below 0
        ([0.9999], 1e-4),
    ],
)
def test_tail_mass_is_the_probability_outside_the_top_k(
    tmp_path: Path, probabilities: list[float], tail_mass: float
) -> None:
    top = np.log(np.array(probabilities)).astype(np.float32)
    row = StateRow("a", 1, 0, top, np.arange(len(top), dtype=np.int32), top)
    write_state_rows([row], tmp_path / "rows")
    (stored,) = pq.read_table(tmp_path / "rows")["tail_mass"].to_pylist()
    assert stored == pytest.approx(tail_mass, abs=2e-7)
    assert stored >= 0


def test_mass_and_confidence_are_stored_beside_each_answer(tmp_path: Path) -> None:
    """The mass of the options in the whole vocabulary; the answer's share of that mass."""
    first, second_answer = CLEAN.answers
    sure = replace(second_answer, mean_logprobs=np.log(array(0.05, 0.9)))
    files = write_samples([replace(CLEAN, answers=(first, sure))], tmp_path)
    stored = pq.read_table(files[ANSWERS])
    assert stored["option_mass"].to_pylist() == pytest.approx([0.75, 0.95])
    assert stored["confidence"].to_pylist() == pytest.approx([2 / 3, 0.9 / 0.95])
    shard = TeacherShard(files[TRANSCRIPTS], files[ANSWERS])
    assert shard.lowest_confidence() == {"bad": pytest.approx(2 / 3)}


def test_checking_accepts_correct_samples(tmp_path: Path) -> None:
    check_samples(reopen(SAMPLES, tmp_path), [sample.sample_id for sample in SAMPLES], tmp_path)
    check_samples(reopen([], tmp_path), [], tmp_path)


@pytest.mark.parametrize(
    "ids", [["s0", "s1", "s2"], ["s1", "s0", "s2", "s3"], ["s0", "s1", "s2", "s3", "s4"], []]
)
def test_checking_finds_other_samples(tmp_path: Path, ids: list[str]) -> None:
    with pytest.raises(ShardError, match=rf"{tmp_path}: holds other samples"):
        check_samples(reopen(SAMPLES, tmp_path), ids, tmp_path)


# A sample with two levels of options A and B, both answered with B at positions 2 and 4.
TEXT = TeacherTranscript((1, 2, 66, 3, 66), (False, False, True, False, True))
CLEAN = TeacherSample(
    *("bad", "x.jpg", "0f" * 32, (TEXT,)),
    answers=tuple(
        TeacherAnswer(
            *("bad", level, "class", ("n/a", "n/b"), "n/b", 0, 2 * level, (65, 66)),
            option_logprobs=np.log([0.25, 0.5]).astype(np.float32),
            mean_logprobs=np.log([0.25, 0.5]).astype(np.float32),
            num_prompt_tokens=9,
            num_cached_tokens=0,
            truth=None,
        )
        for level in (1, 2)
    ),
)


def second(**fields: object) -> Callable[[], TeacherSample]:
    first, answer = CLEAN.answers
    return lambda: replace(CLEAN, answers=(first, replace(answer, **fields)))


def array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (second(position=3), "level 2: no letter of it at position 3"),
        (second(position=5), "level 2: no letter of it at position 5"),  # past the end
        (second(position=-1), "level 2: no letter of it at position -1"),  # B, were it a list's
        (second(letter_ids=(66, 65)), "level 2: no letter"),
        (second(answer="n/a", position=4), "level 2: no letter"),  # of A, where a B is
        (second(transcript=1), "level 2: there is no transcript 1"),
        (second(transcript=-1), "level 2: there is no transcript -1"),
        (second(mean_logprobs=array(-0.5, -1)), "level 2: the answer is not the most probable"),
        (second(mean_logprobs=array(np.nan, -1)), "level 2: a log-probability is missing or not"),
        (second(option_logprobs=array(-1, np.nan)), "level 2: a log-probability is missing or not"),
        (second(option_logprobs=array(np.inf, -1)), "level 2: a log-probability is missing or not"),
        (second(option_logprobs=array(-1)), "level 2: a log-probability is missing or not"),
        (second(level=1), "level 1: expected a level below level 1"),
        (second(level=0), "level 0: expected a level below level 0"),
        (
            lambda: replace(CLEAN, transcripts=(replace(TEXT, token_ids=(1, 2, 66)),)),
            "level 2: no letter",
        ),
        (lambda: replace(CLEAN, answers=()), "has no answer"),
    ],
)
def test_checking_finds_each_fault(
    tmp_path: Path, broken: Callable[[], TeacherSample], message: str
) -> None:
    check_samples(reopen([CLEAN], tmp_path), ["bad"], tmp_path)
    shard = reopen([*SAMPLES, broken()], tmp_path)
    with pytest.raises(ShardError, match=rf"{tmp_path}: sample bad,? {message}"):
        check_samples(shard, shard.sample_ids, tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("answer", "n/c", "the answer 'n/c' is not an option"),
        ("mean_logprobs", [-1.0], "a log-probability is missing or not finite"),
    ],
)
def test_checking_finds_a_changed_cell(
    tmp_path: Path, column: str, value: object, message: str
) -> None:
    files = write_samples([CLEAN], tmp_path)

    def change(table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        rows[1][column] = value
        return pa.Table.from_pylist(rows, table.schema)

    edit(files[ANSWERS], change)
    with pytest.raises(ShardError, match=f"sample bad, level 2: {message}"):
        check_samples(TeacherShard(files[TRANSCRIPTS], files[ANSWERS]), ["bad"], tmp_path)


@pytest.mark.parametrize("truth", [None, "animal/bird"])
def test_an_answer_gives_its_question_back(truth: str | None) -> None:
    taxonomy = Taxonomy.from_paths({"bird": ["animal", "bird"], "dog": ["animal", "dog"]})
    options = ("animal/dog", "animal/bird")
    answer = replace(CLEAN.answers[0], options=options, answer="animal/bird", truth=truth)
    question = answer.question(taxonomy)
    assert [node.id for node in question.options] == list(options)
    assert (question.truth and question.truth.id, question.level) == (truth, 1)
    assert answer.choice == 1


def test_state_rows_round_trip(tmp_path: Path) -> None:
    ids = np.array([7, 3], np.int32)
    rows = [
        StateRow("b", 2, 0, array(-0.5), ids, array(-0.5, -1)),
        StateRow("a", 1, 1, array(-1, -2), ids[:1], array(-1)),
        StateRow("b", 1, 2, array(0), ids, array(-2, -3)),
    ]
    write_state_rows(rows, tmp_path / "rows")
    read = read_state_rows(tmp_path / "rows")
    assert list(read) == [("b", 2), ("a", 1), ("b", 1)]
    assert [plain(asdict(row)) for row in read.values()] == [plain(asdict(row)) for row in rows]
    edit(tmp_path / "rows", cast("row", pa.int64()))
    with pytest.raises(ShardError, match="its columns"):
        read_state_rows(tmp_path / "rows")
