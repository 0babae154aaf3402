"""The state pass itself: teacher-forced transcripts in, states at the answers out.

Two of a kind. Hooks in transformers give any layer of any model. vLLM's pooling runner gives the
final states alone, faster; what they mean is read with the same ``lm_head``, and the parity gate
holds both to the engine's answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftModel
from torch import Tensor

from sekd.config import RunConfig
from sekd.data.images import read_unchanged
from sekd.data.signals import TeacherAnswer, TeacherSample
from sekd.engines import Prompt
from sekd.errors import ConfigError
from sekd.models import loading
from sekd.models.batching import Batcher, to_device
from sekd.models.chat import Chat, TokenIds
from sekd.models.head import LMHead
from sekd.models.hooks import FINAL_NORM, capture_final_states, capture_states, layer_modules

# Shapes: N answers of a batch, D hidden size.


@dataclass(frozen=True)
class TranscriptRow:
    """One transcript and the answers in it: one row of a batch."""

    sample: TeacherSample
    token_ids: TokenIds
    answers: tuple[TeacherAnswer, ...]

    def prompt(self) -> Prompt:
        """With the image that the teacher saw.

        Raises:
            SampleError: if it is not there any more, or another one.
        """
        sample = self.sample
        image = read_unchanged(Path(sample.image), sample.image_sha256)
        return Prompt(self.token_ids, image, sample.image_sha256)


class StateExtractor(Protocol):
    """Runs transcripts through the model.

    Attributes:
        head: reads distributions off final states.
    """

    head: LMHead

    def run(self, passages: Sequence[TranscriptRow]) -> dict[str, Tensor]:
        """Layer -> states [N, D] of all answers in order, ``final_norm`` always among them.

        A state is the one that predicts the answer's letter: it stands one position before it.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def open_extractor(config: RunConfig) -> StateExtractor:
    """The pass that the config asks for.

    Raises:
        ConfigError: if it cannot give the layers.
    """
    return VllmExtractor(config) if config.elicit.states_engine == "vllm" else HookExtractor(config)


class HookExtractor:
    """Through transformers, with hooks on the decoder's blocks; no logits of the sequence."""

    def __init__(self, config: RunConfig) -> None:
        dataset = config.dataset(config.elicit.dataset, "elicit.dataset")
        chat = Chat(loading.load_processor(config.model), subject=dataset.subject)
        base = loading.load_model(config.model)
        self._lm_head = base.get_output_embeddings()
        self.head = LMHead(base)
        self._batcher = Batcher(
            chat, with_token_types=loading.forward_accepts(base, "mm_token_type_ids")
        )
        self._blocks = layer_modules(base, config.elicit.layers, config.model, "elicit.layers")
        self._model: Any = base
        if config.elicit.adapter is not None:  # not merged: as the engines answer with it
            self._model = PeftModel.from_pretrained(base, str(config.elicit.adapter)).eval()

    @torch.inference_mode()
    def run(self, passages: Sequence[TranscriptRow]) -> dict[str, Tensor]:
        """See :class:`Pass`."""
        prompts = [passage.prompt() for passage in passages]
        batch = self._batcher(
            [prompt.token_ids for prompt in prompts],
            [prompt.image for prompt in prompts],
            [prompt.image_key for prompt in prompts],
        )
        placed = [
            (row, answer.position + batch.shifts[row] - 1)
            for row, passage in enumerate(passages)
            for answer in passage.answers
        ]
        rows_N, positions_N = torch.tensor(placed).T
        with (
            capture_states(self._blocks, rows_N, positions_N) as states,
            capture_final_states(self._lm_head, rows_N, positions_N) as final,
        ):
            self._model(**to_device(batch.inputs, self._model), use_cache=False)
        return states | final

    def close(self) -> None:
        """Free the model."""
        del self._model, self._lm_head, self.head, self._blocks
        loading.free_memory()


class VllmExtractor:
    """Through vLLM's pooling runner, which gives final states and no others."""

    def __init__(self, config: RunConfig) -> None:
        from sekd.engines.vllm import VllmEncoder

        spec = config.elicit
        if spec.layers != (FINAL_NORM,):
            raise ConfigError(
                f"elicit.layers: vLLM gives {FINAL_NORM} alone, not {', '.join(spec.layers)}; set "
                f"layers: [{FINAL_NORM}], or states_engine: transformers"
            )
        # Of the model of transformers only lm_head is kept: weights are mapped, not read.
        self.head = LMHead(loading.load_model(config.model, "cpu"))
        loading.free_memory()
        self._encoder = VllmEncoder(
            config.model,
            adapter=spec.adapter,
            engine_args=spec.engine_args | spec.runtime.engine_args,
        )

    def run(self, passages: Sequence[TranscriptRow]) -> dict[str, Tensor]:
        """See :class:`Pass`."""
        encoded = self._encoder.encode([passage.prompt() for passage in passages])
        states = [
            states_LD[answer.position + len(states_LD) - len(passage.token_ids) - 1]
            for passage, states_LD in zip(passages, encoded, strict=True)
            for answer in passage.answers
        ]
        return {FINAL_NORM: torch.stack(states)}

    def close(self) -> None:
        """Free the model."""
        self._encoder.close()
