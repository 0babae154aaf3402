"""The second stage of elicitation: decoder states at the answers, by a teacher-forced pass.

The pass runs over the *stored token ids* of each dialogue. Its log-probabilities at the answers are
compared with the engine's, so that a dropped image, a shifted position or another checkpoint fails
the shard instead of being stored as a signal.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
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
from sekd.errors import SampleError, ShardError
from sekd.models import loading
from sekd.models.adapters import adapted_spec
from sekd.models.batching import AdaptiveBatchSize
from sekd.models.hooks import FINAL_NORM
from sekd.models.refusals import find_refused
from sekd.models.states import StateFile, pack_states, write_states
from sekd.stages.elicit.answers import answers_spec
from sekd.stages.elicit.extractors import StateExtractor, TranscriptRow, open_extractor
from sekd.stages.elicit.parity import ParityGate
from sekd.stages.prepare import check_num_quarantined

STATES_VERSION = 2
"""Part of the fingerprint: raise it when the same input would give other states."""

# Shapes: N answers of a batch, D hidden size.


def states_fields(config: RunConfig, answers_stage: str) -> dict[str, Any]:
    """Gather everything that the states depend on beside the answers' files; its hash is the
    fingerprint.

    Args:
        answers_stage: fingerprint of the answers' stage.
    """
    return {
        "stage": "states",
        "version": STATES_VERSION,
        "spec": states_spec(config),
        "model": loading.model_identity(adapted_spec(config.model, config.elicit.adapter)),
        "engine": engine_version(config.elicit.states_engine),
        "answers": answers_stage,
    }


def states_spec(config: RunConfig) -> dict[str, Any]:
    """Dump the settings that the states depend on, as JSON."""
    settings = config.elicit.model_dump(
        mode="json",
        include={"top_k", "layers", "states_engine", "state_dtype"},
    )
    spec = answers_spec(config)
    return spec | {"elicit": spec["elicit"] | settings}


@dataclass(frozen=True)
class _AnswerStates:
    """The states and the distribution at one answer, on the CPU.

    Attributes:
        states: layer -> state [D].
        option_logprobs, top_ids, top_logprobs: see :class:`~sekd.data.signals.StateRow`.
    """

    answer: TeacherAnswer
    states: Mapping[str, Tensor]
    option_logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]

    def to_row(self, index: int) -> StateRow:
        """Make the row on disk of an answer whose states are row ``index`` of the tensors."""
        return StateRow(
            self.answer.sample_id,
            self.answer.level,
            row=index,
            option_logprobs=self.option_logprobs,
            top_ids=self.top_ids,
            top_logprobs=self.top_logprobs,
        )


class StatesWorker:
    """Turns shards of answers into state tensors.

    Args:
        answers: shard index -> its files of transcripts and answers.
    """

    def __init__(self, config: RunConfig, answers: Mapping[int, tuple[Path, ...]]) -> None:
        spec = config.elicit
        self._spec = spec
        self._answers = answers
        self._batch = AdaptiveBatchSize(spec.runtime.batch_size)
        self._gate = ParityGate.of(config.model.dtype, spec.state_dtype, spec.parity_limit)
        self._extractor: StateExtractor = open_extractor(config)

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Run every transcript of the shard; see :class:`sekd.pipeline.work.Worker`."""
        started = time.monotonic()
        samples = list(signals.TeacherShard(*self._answers[shard.index]))
        extracted, quarantined = self._extract_all(samples, advance)
        done = [sample for sample in samples if sample.sample_id not in quarantined]
        check_num_quarantined([*quarantined.values()], len(samples), self._spec.max_quarantined)
        if not done:
            raise ShardError(f"no sample is left: {next(iter(quarantined.values())).reason}")
        answers = [answer for sample in done for answer in sample.answers]
        in_order = [extracted[answer.sample_id, answer.level] for answer in answers]
        rows = [states.to_row(index) for index, states in enumerate(in_order)]
        files = {
            signals.STATES: folder / "states.safetensors",
            signals.STATE_ROWS: folder / "rows.parquet",
        }
        tensors = {
            layer: torch.stack([states.states[layer] for states in in_order])
            for layer in in_order[0].states
        }
        write_states(pack_states(tensors, self._spec.state_dtype), files[signals.STATES])
        signals.write_state_rows(rows, files[signals.STATE_ROWS])
        stored = dict(_read_back(files[signals.STATES], len(rows)))
        parity = self._gate.check(answers, rows, self._restored_logprobs(stored, answers))
        return ShardResult(
            files=files,
            num_done=len(done),
            quarantined=list(quarantined.values()),
            stats={"seconds": time.monotonic() - started, **parity},
        )

    def close(self) -> None:
        """Free the model."""
        self._extractor.close()

    def _extract_all(
        self, samples: Sequence[TeacherSample], advance: Callable[[int], None]
    ) -> tuple[dict[tuple[str, int], _AnswerStates], dict[str, Quarantined]]:
        """Return states by (sample id, level), and the samples that cannot be used, by their id."""
        extracted: dict[tuple[str, int], _AnswerStates] = {}
        quarantined: dict[str, Quarantined] = {}
        rows = longest_first(samples)
        num_rows_left = Counter(row.sample.sample_id for row in rows)
        for row, outcome in self._outcomes(rows):
            sample_id = row.sample.sample_id
            if isinstance(outcome, SampleError):
                quarantined.setdefault(sample_id, Quarantined(sample_id, str(outcome)))
            else:
                for states in outcome:
                    extracted[sample_id, states.answer.level] = states
            num_rows_left[sample_id] -= 1
            if num_rows_left[sample_id] == 0:
                advance(1)
        return extracted, quarantined

    def _outcomes(
        self, rows: Sequence[TranscriptRow]
    ) -> Iterator[tuple[TranscriptRow, list[_AnswerStates] | SampleError]]:
        """Run all rows in batches; yields each row with its states or why it cannot be used."""
        while rows:
            batch = rows[: self._batch.size]
            try:
                states = self._batch.attempt(partial(self._extract, batch), len(batch))
            except Exception as error:  # noqa: BLE001  whose fault it is shows below
                refused = find_refused(
                    batch,
                    error,
                    run=lambda row: self._extract([row]),
                    run_plain=self._extractor.run_plain,
                )
                for index, reason in refused.items():
                    yield batch[index], reason
                rows = [row for index, row in enumerate(rows) if index not in refused]
                continue
            if states is None and len(batch) > 1:
                continue  # the batch size has been halved
            rows = rows[len(batch) :]
            if states is None:
                yield batch[0], _row_too_large(batch[0])
            else:
                yield from zip(batch, states, strict=True)

    def _extract(self, rows: Sequence[TranscriptRow]) -> list[list[_AnswerStates]]:
        """Run one batch; returns for each row the states of its answers, in their order."""
        states = self._extractor.run(rows)
        answers = [answer for row in rows for answer in row.answers]
        distributions = self._extractor.head.distributions(
            states[FINAL_NORM],
            [answer.letter_ids for answer in answers],
            top_k=self._spec.top_k,
        )
        if FINAL_NORM not in self._spec.layers:
            del states[FINAL_NORM]
        on_cpu = {layer: states_ND.cpu() for layer, states_ND in states.items()}
        in_order = iter(
            _AnswerStates(
                answer,
                {layer: states_ND[index] for layer, states_ND in on_cpu.items()},
                option_logprobs=distributions.logprobs[index].numpy(),
                top_ids=distributions.top_ids_NK[index].int().numpy(),
                top_logprobs=distributions.top_logprobs_NK[index].numpy(),
            )
            for index, answer in enumerate(answers)
        )
        return [list(islice(in_order, len(row.answers))) for row in rows]

    def _restored_logprobs(
        self, stored: Mapping[str, Tensor], answers: Sequence[TeacherAnswer]
    ) -> list[NDArray[np.float32]] | None:
        """Compute the options' log-probabilities from the stored final states, if there are any."""
        if FINAL_NORM not in stored:
            return None
        letter_ids = [answer.letter_ids for answer in answers]
        restored = self._extractor.head.distributions(stored[FINAL_NORM], letter_ids, top_k=1)
        return [logprobs.numpy() for logprobs in restored.logprobs]


def longest_first(samples: Sequence[TeacherSample]) -> list[TranscriptRow]:
    """List the transcripts that hold answers, the longest first.

    So a row that does not fit into memory shows at once, and rows of one batch need little padding.
    """
    rows = []
    for sample in samples:
        for number, transcript in enumerate(sample.transcripts):
            answers = tuple(answer for answer in sample.answers if answer.transcript == number)
            if answers:
                rows.append(TranscriptRow(sample, transcript.token_ids, answers))
    return sorted(rows, key=lambda row: row.answers[-1].num_prompt_tokens, reverse=True)


def _row_too_large(row: TranscriptRow) -> SampleError:
    return SampleError(f"{len(row.token_ids)} tokens do not fit into memory even alone")


def _read_back(path: Path, num_rows: int) -> Iterator[tuple[str, Tensor]]:
    """Read every stored layer.

    Raises:
        ShardError: if a row is missing or a number is not finite.
    """
    for layer, states in StateFile(path):
        if len(states) != num_rows:
            raise ShardError(f"{path}: {layer} has {len(states)} rows for {num_rows} answers")
        if not torch.isfinite(states).all():
            raise ShardError(f"{path}: a state of {layer} is not finite")
        yield layer, states
