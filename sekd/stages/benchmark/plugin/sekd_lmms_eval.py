"""A model class for lmms-eval: any model that transformers loads as an image-text-to-text model.

It is imported by lmms-eval in its own environment, never by sekd. lmms-eval has a class of its own
for such models, ``huggingface``; in 0.7.3 it loads them without their head, and calls their
processor with an argument that transformers 5 refuses.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from lmms_eval.protocol import ChatMessages
from tqdm import tqdm
from transformers import AutoModelForImageTextToText, AutoProcessor

MANIFEST = ModelManifest("transformers", chat_class_path="sekd_lmms_eval.Transformers")

_MAX_NEW_TOKENS = 4096  # where a task does not say; the default of lmms-eval's own classes


class Transformers(lmms):
    """Generates greedily, or as the task says, on all GPUs there are, else on the CPU.

    Args:
        pretrained: a directory with a model and its processor.
        dtype: as torch names it.
        processor_args: JSON of the arguments with which the processor is loaded.
        batch_size: the number of conversations that are answered together.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        dtype: str = "bfloat16",
        processor_args: str = "{}",
        batch_size: str | int = 1,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        self._batch_size = int(batch_size)
        from_pretrained: Any = AutoModelForImageTextToText.from_pretrained
        model, info = from_pretrained(
            pretrained,
            dtype=getattr(torch, dtype),
            device_map="auto" if torch.cuda.is_available() else None,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
        _check_weights(pretrained, model, info)
        self._model = model.eval()
        self._processor = AutoProcessor.from_pretrained(
            pretrained, trust_remote_code=trust_remote_code, **json.loads(processor_args)
        )
        tokenizer = self._processor.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Return a reply per request, in their order."""
        replies: list[GenerationResult] = []
        with tqdm(total=len(requests), desc="replies") as bar:
            for _, group in groupby(requests, key=lambda request: request.args[2]):
                same_settings = list(group)
                for start in range(0, len(same_settings), self._batch_size):
                    batch = same_settings[start : start + self._batch_size]
                    replies += self._reply(batch)
                    bar.update(len(batch))
        return replies

    @torch.inference_mode()
    def _reply(self, requests: list[Instance]) -> list[GenerationResult]:
        chats = []
        for request in requests:
            _, to_messages, settings, doc_id, task, split = request.args
            messages = to_messages(self.task_dict[task][split][doc_id])
            chats.append(ChatMessages(messages=messages).to_hf_messages())
        inputs = self._processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        ).to(self._model.device, self._model.dtype)
        pad = self._processor.tokenizer.pad_token_id
        tokens = self._model.generate(**inputs, pad_token_id=pad, **_generation(settings))
        new = tokens[:, inputs["input_ids"].shape[1] :]
        texts = self._processor.batch_decode(new, skip_special_tokens=True)
        return [
            GenerationResult(text, TokenCounts(output_tokens=int((row != pad).sum())))
            for text, row in zip(texts, new, strict=True)
        ]

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not supported."""
        raise NotImplementedError("tasks of several rounds need another benchmark.model")

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not supported, as in lmms-eval's other chat models."""
        raise NotImplementedError("tasks by log-likelihood need another benchmark.model")


def _check_weights(directory: str, model: torch.nn.Module, info: dict[str, Any]) -> None:
    """Refuse weights that are missing, left over or not finite, before anything is asked.

    transformers fills missing weights with random numbers, and only a report says so.
    """
    problems = {
        "missing": info["missing_keys"],
        "not part of the model": info["unexpected_keys"],
        "of another shape": info["mismatched_keys"],
        "not finite": [
            name
            for name, weight in model.named_parameters()
            if weight.is_floating_point() and not bool(weight.isfinite().all())
        ],
    }
    found = [f"{len(names)} {kind}" for kind, names in problems.items() if names]
    if found:
        raise ValueError(f"{directory}: weights do not fit the model: {', '.join(found)}")


def _generation(settings: dict[str, Any]) -> dict[str, Any]:
    """Translate a task's generation settings into those of transformers."""
    temperature = settings.get("temperature") or 0
    sampling = {"temperature": temperature, "top_p": settings.get("top_p")}
    none = {"temperature": None, "top_p": None, "top_k": None}
    return {
        "max_new_tokens": settings.get("max_new_tokens", _MAX_NEW_TOKENS),
        "num_beams": settings.get("num_beams", 1),
        "do_sample": temperature > 0,
        **(sampling if temperature > 0 else none),
    }
