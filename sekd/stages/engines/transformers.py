"""The engine that runs anywhere: transformers, batched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel

from sekd.config import ModelSpec
from sekd.stages.batches import Batcher, only_rows, to_device
from sekd.stages.chat import Chat
from sekd.stages.engines.protocol import Answer, Prompt, Reply
from sekd.stages.models import free_memory, load_model, takes


class TransformersEngine:
    """Answers in batches of ``batch_size``; logits are computed at the last position only."""

    name = "transformers"
    version = transformers.__version__

    def __init__(
        self, spec: ModelSpec, chat: Chat, *, adapter: Path | None, batch_size: int
    ) -> None:
        self._chat = chat
        self._batch_size = batch_size
        base = load_model(spec)
        self._lm_head = base.get_output_embeddings()
        self._batcher = Batcher(chat, with_token_types=takes(base, "mm_token_type_ids"))
        self._eos_ids = _as_list(base.generation_config.eos_token_id)
        self._model: Any = base
        if adapter is not None:
            self._model = PeftModel.from_pretrained(base, str(adapter)).eval()

    def answer(
        self, prompts: Sequence[Prompt], option_ids: Sequence[Sequence[int]], *, top_k: int
    ) -> list[Answer]:
        """See :class:`~sekd.stages.engines.protocol.Engine`."""
        answers: list[Answer] = []
        for part in self._parts(len(prompts)):
            answers += self._answer_batch(prompts[part], option_ids[part], top_k)
        return answers

    def generate(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int, stop_id: int
    ) -> list[Reply]:
        """See :class:`~sekd.stages.engines.protocol.Engine`."""
        replies: list[Reply] = []
        for part in self._parts(len(prompts)):
            replies += self._generate_batch(prompts[part], max_new_tokens, stop_id)
        return replies

    def close(self) -> None:
        """Free the model."""
        del self._model, self._lm_head
        free_memory()

    def _parts(self, length: int) -> Iterator[slice]:
        for start in range(0, length, self._batch_size):
            yield slice(start, start + self._batch_size)

    @torch.inference_mode()
    def _answer_batch(
        self, prompts: Sequence[Prompt], option_ids: Sequence[Sequence[int]], top_k: int
    ) -> list[Answer]:
        batch = self._batcher(
            [prompt.token_ids for prompt in prompts],
            [prompt.image for prompt in prompts],
            [prompt.image_key for prompt in prompts],
        )
        last_N = torch.tensor(batch.lengths) - 1
        with only_rows(self._lm_head, torch.arange(len(prompts)), last_N):
            logits_NV = self._model(**to_device(batch.inputs, self._model), use_cache=False).logits
        logprobs_NV = logits_NV.float().log_softmax(-1).cpu()
        top = logprobs_NV.topk(min(top_k, logprobs_NV.shape[-1]))
        answers = []
        for row, ids in enumerate(option_ids):
            options = logprobs_NV[row, torch.tensor(ids)].numpy()
            answers.append(
                Answer(
                    choice=int(options.argmax()),
                    option_logprobs=options,
                    top_ids=top.indices[row].int().numpy(),
                    top_logprobs=top.values[row].numpy(),
                    num_prompt_tokens=batch.lengths[row],
                    num_cached_tokens=0,
                )
            )
        return answers

    @torch.inference_mode()
    def _generate_batch(
        self, prompts: Sequence[Prompt], max_new_tokens: int, stop_id: int
    ) -> list[Reply]:
        batch = self._batcher(
            [prompt.token_ids for prompt in prompts],
            [prompt.image for prompt in prompts],
            [prompt.image_key for prompt in prompts],
            padding_side="left",
        )
        stop_ids = {stop_id, *self._eos_ids}
        inputs = to_device(batch.inputs, self._model)
        sequences = self._model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=sorted(stop_ids),
            pad_token_id=stop_id,
        )
        replies = []
        for row, sequence in enumerate(sequences[:, inputs["input_ids"].shape[1] :].tolist()):
            end = next((i for i, token in enumerate(sequence) if token in stop_ids), len(sequence))
            replies.append(Reply(tuple(sequence[:end]), batch.lengths[row]))
        return replies


def _as_list(value: int | list[int] | None) -> list[int]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
