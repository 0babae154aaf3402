"""State extractors: run teacher-forced transcripts through a model, return states at the answers.

Hooks in transformers give any layer of any model. vLLM's pooling runner is faster but gives only
the final states. Both read distributions with the same ``lm_head``, and the parity gate compares
both with the engine's answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sekd.config import RunConfig
from sekd.data.image_refs import ImageRef
from sekd.data.images import Reading, read_unchanged
from sekd.data.signals import TeacherAnswer, TeacherSample
from sekd.engines import Prompt
from sekd.errors import ConfigError
from sekd.models import loading
from sekd.models.adapters import adapted_spec, load_adapter
from sekd.models.batching import Batcher, forward_arguments, to_device
from sekd.models.chat import TokenIds, load_chat
from sekd.models.head import LMHead
from sekd.models.hooks import FINAL_NORM, capture_final_states, capture_states, layer_modules
from sekd.models.plain import plain_prompt
from sekd.models.probe import probe_model

# Shapes: N answers of a batch, L tokens of a row, D hidden size.


@dataclass(frozen=True)
class TranscriptRow:
    """One transcript and the answers in it, which is one row of a batch."""

    sample: TeacherSample
    token_ids: TokenIds
    answers: tuple[TeacherAnswer, ...]

    def prompt(self, reading: Reading) -> Prompt:
        """Join the token ids with the image that the teacher saw, read as the teacher's was.

        Raises:
            SampleError: if the image is missing or was changed.
        """
        sample = self.sample
        image = read_unchanged(ImageRef.parse(sample.image), sample.image_sha256, reading)
        return Prompt(self.token_ids, image, sample.image_sha256)


class StateExtractor(Protocol):
    """A model that gives the decoder states of transcripts.

    Attributes:
        head: turns final states into distributions over the vocabulary.
    """

    head: LMHead

    def run(self, rows: Sequence[TranscriptRow]) -> dict[str, Tensor]:
        """Return layer -> states [N, D] of all answers in order, always with ``final_norm``.

        The state of an answer is the one that predicts its letter, one position before the letter.
        """
        ...

    def run_plain(self) -> None:
        """Run the plain picture through the model, to see whether it works at all."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


class HookExtractor:
    """Runs the model in transformers, with hooks on its blocks; computes no logits of sequences."""

    def __init__(self, config: RunConfig) -> None:
        dataset = config.dataset(config.elicit.dataset, "elicit.dataset")
        model = adapted_spec(config.model, config.elicit.adapter)
        self._chat = load_chat(model, subject=dataset.subject)
        self._reading = Reading(dataset.pixel_limit, self._chat.used_pixels)
        base = loading.load_model(model)
        self._lm_head = base.get_output_embeddings()
        self._batcher = Batcher(self._chat, forward_arguments(base))
        self.head = probe_model(base, self._chat, self._batcher).head
        self._blocks = layer_modules(base, config.elicit.layers, config.model, "elicit.layers")
        self._model: Any = base
        if config.elicit.adapter is not None:  # not merged, because the engines do not merge it
            self._model = load_adapter(base, config.elicit.adapter)

    @torch.inference_mode()
    def run(self, rows: Sequence[TranscriptRow]) -> dict[str, Tensor]:
        """See :class:`StateExtractor`."""
        prompts = [row.prompt(self._reading) for row in rows]
        batch = self._batcher(
            [prompt.token_ids for prompt in prompts],
            [prompt.image for prompt in prompts],
            [prompt.image_key for prompt in prompts],
        )
        places = [
            (index, answer.position + batch.shifts[index] - 1)
            for index, row in enumerate(rows)
            for answer in row.answers
        ]
        rows_N, positions_N = torch.tensor(places).T
        with (
            capture_states(self._blocks, rows_N, positions_N) as states,
            capture_final_states(self._lm_head, rows_N, positions_N) as final,
        ):
            self._model(**to_device(batch.inputs, self._model), use_cache=False)
        return states | final

    @torch.inference_mode()
    def run_plain(self) -> None:
        """See :class:`StateExtractor`."""
        token_ids, image, image_key = plain_prompt(self._chat)
        batch = self._batcher([token_ids], [image], [image_key])
        self._model(**to_device(batch.inputs, self._model), use_cache=False)

    def close(self) -> None:
        """Free the model."""
        del self._model, self._lm_head, self.head, self._blocks
        loading.free_memory()


class VllmExtractor:
    """Runs the model in vLLM's pooling runner, which gives no states but the final ones."""

    def __init__(self, config: RunConfig) -> None:
        from sekd.engines.vllm import VllmEncoder

        spec, dataset = config.elicit, config.dataset(config.elicit.dataset, "elicit.dataset")
        if spec.layers != (FINAL_NORM,):
            raise ConfigError(
                f"elicit.layers: vLLM gives {FINAL_NORM} alone, not {', '.join(spec.layers)}; set "
                f"layers: [{FINAL_NORM}], or states_engine: transformers"
            )
        model = adapted_spec(config.model, spec.adapter)
        self._chat = load_chat(model, subject=dataset.subject)
        self._reading = Reading(dataset.pixel_limit, self._chat.used_pixels)
        # Only lm_head is kept of this model. Loading it is cheap: weights are mapped, not read, and
        # without its blocks the model's forward, which is run once, reads few of them.
        base = loading.load_model(model, "cpu")
        _, blocks = loading.decoder_blocks(base, config.model.decoder_blocks)
        del blocks[:]
        self.head = LMHead.of(base)
        del base, blocks
        loading.free_memory()
        self._encoder = VllmEncoder(
            model,
            adapter=spec.adapter,
            engine_args=spec.engine_args | spec.runtime.engine_args,
        )

    def run(self, rows: Sequence[TranscriptRow]) -> dict[str, Tensor]:
        """See :class:`StateExtractor`."""
        encoded = self._encoder.encode([row.prompt(self._reading) for row in rows])
        states = []
        for row, states_LD in zip(rows, encoded, strict=True):
            shift = len(states_LD) - len(row.token_ids)  # the image placeholder was expanded
            states += [states_LD[answer.position + shift - 1] for answer in row.answers]
        return {FINAL_NORM: torch.stack(states)}

    def run_plain(self) -> None:
        """See :class:`StateExtractor`."""
        self._encoder.encode([Prompt(*plain_prompt(self._chat))])

    def close(self) -> None:
        """Free the model."""
        self._encoder.close()


_EXTRACTORS: Mapping[str, Callable[[RunConfig], StateExtractor]] = {
    "transformers": HookExtractor,
    "vllm": VllmExtractor,
}
"""``elicit.states_engine`` -> extractor."""


def open_extractor(config: RunConfig) -> StateExtractor:
    """Load the model into the extractor that the config names.

    Raises:
        ConfigError: if the extractor cannot give one of ``elicit.layers``.
    """
    return _EXTRACTORS[config.elicit.states_engine](config)
