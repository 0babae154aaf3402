"""Elicitation, second half: decoder states at the answers, by one teacher-forced pass per image.

The pass sees the *stored token ids* of each dialogue. Its own log-probabilities at the answers are
held against the engine's, so that a dropped image, a shifted position or another checkpoint fails
the shard instead of passing for a signal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from sekd.config import DType, RunConfig
from sekd.data import signals
from sekd.data.samples import read_unchanged
from sekd.data.shards import Shard, ShardResult
from sekd.data.signals import StateRow, TeacherSample
from sekd.errors import ConfigError, ShardError
from sekd.stages import models
from sekd.stages.batches import Batcher, only_rows, to_device
from sekd.stages.chat import Chat
from sekd.stages.elicit.answers import answers_spec

STATES_VERSION = 1
"""Part of the fingerprint: raise it when the same input would give other states."""
FINAL_NORM = "final_norm"

# Half-precision kernels differ between engines; the figures are those of the two engines on the
# same model, with room: 4e-5 in float32, below 0.02 on average in bfloat16.
_PARITY_LIMITS: Mapping[DType, float] = {"float32": 1e-3, "bfloat16": 0.05, "float16": 0.05}

# Shapes: N answers of a batch, D hidden size.


def states_fields(
    config: RunConfig, answers_fingerprint: str, answer_hashes: list[str]
) -> dict[str, Any]:
    """Everything that the states depend on: regenerated answers invalidate them."""
    return {
        "stage": "states",
        "version": STATES_VERSION,
        "spec": states_spec(config),
        "model": models.identity(config.model),
        "answers": {"fingerprint": answers_fingerprint, "files": answer_hashes},
    }


def states_spec(config: RunConfig) -> dict[str, Any]:
    """The settings that the states depend on, as JSON."""
    own = config.elicit.model_dump(mode="json", include={"layers", "state_dtype", "parity_limit"})
    spec = answers_spec(config)
    return spec | {"elicit": spec["elicit"] | own}


def layer_modules(model: PreTrainedModel, layers: Sequence[str]) -> dict[str, nn.Module]:
    """Block modules by resolved name; ``middle`` becomes ``block_<i>``, ``final_norm`` is left out.

    Raises:
        ConfigError: if there is no such layer; the message says which there are.
    """
    path, blocks = models.decoder_blocks(model)
    named = {f"block_{index}": block for index, block in enumerate(blocks)}
    resolved: dict[str, nn.Module] = {}
    for layer in layers:
        name = f"block_{len(blocks) // 2}" if layer == "middle" else layer
        if name == FINAL_NORM:
            continue
        if name not in named:
            raise ConfigError(
                f"elicit.layers: no {layer!r} in {type(model).__name__}; there are block_0 to "
                f"block_{len(blocks) - 1} ({path}), middle and {FINAL_NORM}"
            )
        resolved[name] = named[name]
    return resolved


@contextmanager
def captured(
    blocks: Mapping[str, nn.Module], rows_N: Tensor, positions_N: Tensor
) -> Iterator[dict[str, Tensor]]:
    """Each block's output [N, D] at these positions, there once the context is left.

    Rows are taken out after the model ran: under activation checkpointing a block runs again in the
    backward pass, and must then do exactly what it did before.
    """
    outputs: dict[str, Tensor] = {}
    states: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            outputs[name] = output[0] if isinstance(output, tuple) else output

        return hook

    with ExitStack() as stack:
        for name, block in blocks.items():
            stack.callback(block.register_forward_hook(keep(name)).remove)
        yield states
    for name, hidden in outputs.items():
        states[name] = hidden[rows_N.to(hidden.device), positions_N.to(hidden.device)]


class StatesWorker:
    """Turns shards of answers into state tensors.

    Args:
        answers: shard index -> its transcripts and answers files.
    """

    def __init__(self, config: RunConfig, answers: Mapping[int, tuple[Path, ...]]) -> None:
        self._spec = config.elicit
        self._answers = answers
        limit = config.elicit.parity_limit
        self._limit = _PARITY_LIMITS[config.model.dtype] if limit is None else limit
        self._dtype = getattr(torch, config.elicit.state_dtype)
        dataset = config.dataset(config.elicit.dataset, "elicit.dataset")
        chat = Chat(models.load_processor(config.model), subject=dataset.subject)
        self._model = models.load_model(config.model)
        self._lm_head = self._model.get_output_embeddings()
        self._batcher = Batcher(
            chat, with_token_types=models.takes(self._model, "mm_token_type_ids")
        )
        self._blocks = layer_modules(self._model, config.elicit.layers)

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        """Run every transcript of the shard; see :class:`sekd.pipeline.runner.Worker`."""
        started = time.monotonic()
        samples = list(signals.TeacherShard(*self._answers[shard.index]))
        parts: list[dict[str, Tensor]] = []
        rows: list[StateRow] = []
        size = self._spec.runtime.batch_size
        for start in range(0, len(samples), size):
            batch = samples[start : start + size]
            states, logprobs = self._run(batch)
            parts.append(states)
            rows += _rows(batch, logprobs, first_row=len(rows))
            advance(len(batch))
        tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        parity = _check_parity(samples, rows, self._limit)
        files = {
            signals.STATES: folder / "states.safetensors",
            signals.STATE_ROWS: folder / "rows.parquet",
        }
        save_file(tensors, files[signals.STATES], metadata={"layers": ",".join(tensors)})
        signals.write_state_rows(rows, files[signals.STATE_ROWS])
        _check_states(files[signals.STATES], tensors, rows)
        figures = {"seconds": time.monotonic() - started, **parity}
        return ShardResult(files=files, num_done=len(samples), figures=figures)

    def close(self) -> None:
        """Free the model."""
        del self._model, self._lm_head, self._blocks
        models.free_memory()

    @torch.inference_mode()
    def _run(self, samples: Sequence[TeacherSample]) -> tuple[dict[str, Tensor], list[np.ndarray]]:
        """States [N, D] on the CPU by layer name, and each answer's option log-probabilities."""
        batch = self._batcher(
            [sample.token_ids for sample in samples],
            [read_unchanged(Path(sample.image), sample.image_sha256) for sample in samples],
            [sample.image_sha256 for sample in samples],
        )
        answers = [(row, answer) for row, sample in enumerate(samples) for answer in sample.answers]
        rows_N = torch.tensor([row for row, _ in answers])
        # The state that predicts a token stands one position before it.
        positions_N = torch.tensor(
            [answer.position + batch.shifts[row] - 1 for row, answer in answers]
        )
        with (
            captured(self._blocks, rows_N, positions_N) as states,
            only_rows(self._lm_head, rows_N, positions_N) as final,
        ):
            logits = self._model(**to_device(batch.inputs, self._model), use_cache=False).logits
        logprobs = logits.float().log_softmax(-1).cpu().numpy()
        if FINAL_NORM in self._spec.layers:
            states[FINAL_NORM] = final[0]
        kept = {name: state.to("cpu", self._dtype).contiguous() for name, state in states.items()}
        options = [
            logprobs[row, list(answer.letter_ids)] for row, (_, answer) in enumerate(answers)
        ]
        return kept, options


def _rows(
    samples: Sequence[TeacherSample], logprobs: Sequence[np.ndarray], first_row: int
) -> list[StateRow]:
    answers = [answer for sample in samples for answer in sample.answers]
    return [
        StateRow(answer.sample_id, answer.level, first_row + index, values.tolist())
        for index, (answer, values) in enumerate(zip(answers, logprobs, strict=True))
    ]


def _check_parity(
    samples: Sequence[TeacherSample], rows: Sequence[StateRow], limit: float
) -> dict[str, float]:
    """Differences between engine and state pass over a shard.

    Raises:
        ShardError: if the mean is beyond ``limit``; the worst answer is named.
    """
    answers = [answer for sample in samples for answer in sample.answers]
    seen = [np.array(row.option_logprobs) for row in rows]
    differences = np.array(
        [
            abs(float(answer.option_logprobs[answer.choice]) - float(values[answer.choice]))
            for answer, values in zip(answers, seen, strict=True)
        ]
    )
    agreed = [answer.choice == int(v.argmax()) for answer, v in zip(answers, seen, strict=True)]
    figures = {
        "parity_mean": float(differences.mean()),
        "parity_max": float(differences.max()),
        "parity_top1": float(np.mean(agreed)),
    }
    if not figures["parity_mean"] <= limit:  # also true of NaN
        worst = answers[int(np.nan_to_num(differences, nan=np.inf).argmax())]
        raise ShardError(
            f"the state pass disagrees with the engine: log-probabilities of the answers differ by "
            f"{figures['parity_mean']:.2g} on average, beyond {limit:g} (elicit.parity_limit); "
            f"worst is sample {worst.sample_id}, level {worst.level}, by "
            f"{figures['parity_max']:.2g}"
        )
    return figures


def _check_states(path: Path, written: Mapping[str, Tensor], rows: Sequence[StateRow]) -> None:
    for name, tensor in load_file(path).items():
        if len(tensor) != len(rows) or not torch.equal(tensor, written[name]):
            raise ShardError(f"{path}: {name} does not read back as it was written")
        if not torch.isfinite(tensor).all():
            raise ShardError(f"{path}: a state of {name} is not finite")
