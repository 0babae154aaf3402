"""Elicitation, second half: decoder states at the answers, by one teacher-forced pass per image.

The pass sees the *stored token ids* of each dialogue. Its own log-probabilities at the answers are
held against the engine's, so that a dropped image, a shifted position or another checkpoint fails
the shard instead of passing for a signal.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sekd.config import RunConfig
from sekd.data import signals
from sekd.data.shards import Quarantined, Shard, ShardResult
from sekd.data.signals import StateRow, TeacherAnswer, TeacherSample
from sekd.engines import engine_version
from sekd.errors import ShardError
from sekd.models import loading
from sekd.models.batching import AdaptiveBatchSize
from sekd.models.hooks import FINAL_NORM
from sekd.models.states import StateFile, pack_states, write_states
from sekd.stages.elicit.answers import answers_spec
from sekd.stages.elicit.extractors import StateExtractor, TranscriptRow, open_extractor
from sekd.stages.elicit.parity import ParityGate

STATES_VERSION = 2
"""Part of the fingerprint: raise it when the same input would give other states."""

# Shapes: N answers of a batch, D hidden size.


def states_fields(
    config: RunConfig, answers_fingerprint: str, answer_hashes: list[str]
) -> dict[str, Any]:
    """Everything that the states depend on: regenerated answers invalidate them."""
    return {
        "stage": "states",
        "version": STATES_VERSION,
        "spec": states_spec(config),
        "model": loading.model_identity(config.model),
        "engine": engine_version(config.elicit.states_engine),
        "answers": {"fingerprint": answers_fingerprint, "files": answer_hashes},
    }


def states_spec(config: RunConfig) -> dict[str, Any]:
    """The settings that the states depend on, as JSON."""
    own = config.elicit.model_dump(
        mode="json",
        include={"top_k", "layers", "states_engine", "state_dtype", "parity_limit"},
    )
    spec = answers_spec(config)
    return spec | {"elicit": spec["elicit"] | own}


@dataclass(frozen=True)
class _AnswerStates:
    """What is kept of one answer: states [D] on the CPU by layer, and its row but its number."""

    answer: TeacherAnswer
    states: Mapping[str, Tensor]
    row: StateRow


class StatesWorker:
    """Turns shards of answers into state tensors.

    Args:
        answers: shard index -> its transcripts and answers files.
    """

    def __init__(self, config: RunConfig, answers: Mapping[int, tuple[Path, ...]]) -> None:
        spec = config.elicit
        self._spec = spec
        self._answers = answers
        self._batch = AdaptiveBatchSize(spec.runtime.batch_size)
        self._gate = ParityGate.of(config.model.dtype, spec.state_dtype, spec.parity_limit)
        self._pass: StateExtractor = open_extractor(config)

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Run every transcript of the shard; see :class:`sekd.pipeline.runner.Worker`."""
        started = time.monotonic()
        samples = list(signals.TeacherShard(*self._answers[shard.index]))
        kept, quarantined = self._pass_over(samples, advance)
        done = [sample for sample in samples if sample.sample_id not in quarantined]
        if not done:
            raise ShardError(f"no sample is left: {next(iter(quarantined.values())).reason}")
        in_order = [
            kept[answer.sample_id, answer.level] for sample in done for answer in sample.answers
        ]
        rows = [replace(each.row, row=row) for row, each in enumerate(in_order)]
        states = {
            layer: torch.stack([each.states[layer] for each in in_order])
            for layer in in_order[0].states
        }
        files = {
            signals.STATES: folder / "states.safetensors",
            signals.STATE_ROWS: folder / "rows.parquet",
        }
        tensors = pack_states(states, self._spec.state_dtype)
        write_states(tensors, files[signals.STATES])
        signals.write_state_rows(rows, files[signals.STATE_ROWS])
        answers = [each.answer for each in in_order]
        stored = dict(_read_back(files[signals.STATES], len(rows)))
        parity = self._gate.check(answers, rows, self._restored(stored, answers))
        return ShardResult(
            files=files,
            num_done=len(done),
            quarantined=list(quarantined.values()),
            stats={"seconds": time.monotonic() - started, **parity},
        )

    def close(self) -> None:
        """Free the model."""
        self._pass.close()

    def _pass_over(
        self, samples: Sequence[TeacherSample], advance: Callable[[int], None]
    ) -> tuple[dict[tuple[str, int], _AnswerStates], dict[str, Quarantined]]:
        """What is kept by (sample, level), and samples that are too large, by id."""
        kept: dict[tuple[str, int], _AnswerStates] = {}
        quarantined: dict[str, Quarantined] = {}
        passages = _by_length(samples)
        num_passages = Counter(passage.sample.sample_id for passage in passages)
        while passages:
            batch = passages[: self._batch.size]
            found = self._batch.attempt(partial(self._run, batch), len(batch))
            if found is None and len(batch) > 1:
                continue
            passages = passages[len(batch) :]
            for each in found or ():
                kept[each.row.sample_id, each.row.level] = each
            for passage in batch:
                sample_id = passage.sample.sample_id
                if found is None:
                    reason = f"{len(passage.token_ids)} tokens do not fit into memory even alone"
                    quarantined[sample_id] = Quarantined(sample_id, reason)
                num_passages[sample_id] -= 1
                advance(num_passages[sample_id] == 0)
        return kept, quarantined

    def _run(self, passages: Sequence[TranscriptRow]) -> list[_AnswerStates]:
        states = self._pass.run(passages)
        answers = [answer for passage in passages for answer in passage.answers]
        seen = self._pass.head.distributions(
            states[FINAL_NORM],
            [answer.letter_ids for answer in answers],
            top_k=self._spec.top_k,
        )
        if FINAL_NORM not in self._spec.layers:
            del states[FINAL_NORM]
        on_cpu = {layer: state.cpu() for layer, state in states.items()}
        return [
            _AnswerStates(
                answer,
                {layer: state[index] for layer, state in on_cpu.items()},
                StateRow(
                    answer.sample_id,
                    answer.level,
                    row=-1,
                    option_logprobs=seen.logprobs[index].numpy(),
                    top_ids=seen.top_ids_NK[index].int().numpy(),
                    top_logprobs=seen.top_logprobs_NK[index].numpy(),
                ),
            )
            for index, answer in enumerate(answers)
        ]

    def _restored(
        self, stored: Mapping[str, Tensor], answers: Sequence[TeacherAnswer]
    ) -> list[NDArray[np.float32]] | None:
        """The options' log-probabilities as the stored final states give them back."""
        if FINAL_NORM not in stored:
            return None
        ids = [answer.letter_ids for answer in answers]
        logprobs = self._pass.head.distributions(stored[FINAL_NORM], ids, top_k=1).logprobs
        return [values.numpy() for values in logprobs]


def _by_length(samples: Sequence[TeacherSample]) -> list[TranscriptRow]:
    """All transcripts with answers, longest first: what does not fit into memory shows at once."""
    passages = [
        TranscriptRow(sample, transcript.token_ids, answers)
        for sample in samples
        for number, transcript in enumerate(sample.transcripts)
        if (answers := tuple(each for each in sample.answers if each.transcript == number))
    ]
    return sorted(passages, key=lambda passage: passage.answers[-1].num_prompt_tokens, reverse=True)


def _read_back(path: Path, num_rows: int) -> Iterator[tuple[str, Tensor]]:
    """Every stored layer.

    Raises:
        ShardError: if a row is missing or a number is not finite.
    """
    for layer, states in StateFile(path):
        if len(states) != num_rows:
            raise ShardError(f"{path}: {layer} has {len(states)} rows for {num_rows} answers")
        if not torch.isfinite(states).all():
            raise ShardError(f"{path}: a state of {layer} is not finite")
        yield layer, states
