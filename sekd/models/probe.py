"""Read one plain prompt through a model when it is loaded, and measure what no config says.

A model must be causal: an answer in a dialogue may not change with what comes after it. Its own
logits must be those that :class:`~sekd.models.head.LMHead` reads off its final states. And its
cache may be continued only if it keeps the keys and values of every token and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from sekd.errors import ConfigError
from sekd.models.batching import Batch, Batcher, to_device
from sekd.models.chat import Chat
from sekd.models.head import LMHead
from sekd.models.hooks import logits_at
from sekd.models.plain import plain_prompt

_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.03, torch.float16: 0.01}
"""Largest difference of logits, relative to the largest of them (or 1)."""

# Shapes: N places of the probe, D hidden size, V vocabulary.


@dataclass(frozen=True)
class ProbedModel:
    """A model's head and cache, as one plain prompt showed them.

    Attributes:
        head: reads logits off final states, as the model's own forward does.
        head_difference: the largest difference between log-probabilities that ``head`` reads off
            states of the prompt and the model's own.
        supports_prefix_reuse: whether its cache may be continued, see
            :func:`supports_prefix_reuse`.
    """

    head: LMHead
    head_difference: float
    supports_prefix_reuse: bool


def supports_prefix_reuse(config: PreTrainedConfig) -> bool:
    """Return whether the model's cache keeps every token, so that a row may have holes.

    Sliding windows and recurrent states count tokens, holes included, and layers of cross attention
    (Mllama) keep the image. For such models every prompt is computed from its beginning.
    """
    text_config = config.get_text_config()
    layers = DynamicCache(config=text_config).layers
    has_cross_attention = bool(getattr(text_config, "cross_attention_layers", None))
    return not has_cross_attention and all(type(layer) is DynamicLayer for layer in layers)


@torch.inference_mode()
def probe_model(model: PreTrainedModel, chat: Chat, batcher: Batcher) -> ProbedModel:
    """Read the plain prompt and its first half, as one batch.

    Raises:
        ConfigError: if the model's logits are not finite, it is not causal, or its logits are not
            those of its head.
    """
    token_ids, image, image_key = plain_prompt(chat)
    num_prefix = len(chat.image_prefix_ids)
    half = (num_prefix + len(token_ids)) // 2
    batch = batcher([token_ids[:half], token_ids], [image, image], [image_key, image_key])
    cache = None
    if supports_prefix_reuse(model.config):
        cache = DynamicCache(config=model.config.get_text_config())
    ends = torch.tensor([half, half, len(token_ids)]) + batch.shifts[0] - 1
    lm_head = model.get_output_embeddings()
    with logits_at(lm_head, torch.tensor([0, 1, 1]), ends) as states:
        logits_NV = model(
            **to_device(batch.inputs, model), past_key_values=cache, use_cache=cache is not None
        ).logits
    name = type(model).__name__
    tolerance = _TOLERANCES.get(model.dtype, 0.03) * max(1.0, float(logits_NV.abs().max()))
    if not bool(logits_NV.isfinite().all()):
        raise ConfigError(
            f"{name} computes logits that are not finite; its weights are damaged, or model.dtype "
            f"({model.dtype}) is too narrow for it"
        )
    logits_NV = logits_NV.float()
    short_V, long_V, _ = logits_NV
    if _differ(short_V, long_V, tolerance):
        raise ConfigError(
            f"{name} reads its prompt in both directions: text that follows changes what it "
            "answered before, so that its answers cannot be distilled; take a causal model"
        )
    head = LMHead.of(model)
    read_NV = head.logits(states[0]) if states else None
    if read_NV is None or _differ(read_NV, logits_NV, tolerance):
        raise ConfigError(
            f"{name}: its logits are not those that lm_head reads off its last states, so that "
            "stored states would not give back its distributions"
        )
    difference = (read_NV.log_softmax(-1) - logits_NV.log_softmax(-1)).abs().max()
    is_continued = cache is not None and _keeps_each_token(cache, batch)
    return ProbedModel(head, float(difference), is_continued)


def _differ(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool((one - other).abs().max() > tolerance)


def _keeps_each_token(cache: DynamicCache, batch: Batch) -> bool:
    num_tokens = batch.inputs["input_ids"].shape[1]
    return all(
        isinstance(layer, DynamicLayer) and layer.get_seq_length() == num_tokens
        for layer in cache.layers
    )
