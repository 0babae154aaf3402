"""The student's loss: one forward pass of the joint prompts, logits at learned positions only.

Replayed sequences take two more, of the student and of the base below the same adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from sekd.config import DistillSpec, ModelSpec
from sekd.errors import ConfigError
from sekd.models.batching import to_device
from sekd.models.hooks import FINAL_NORM, capture_states, layer_modules, logits_at
from sekd.stages.distill import distributed as ranks
from sekd.stages.distill.collate import MicroBatch, SequenceBatch, Signals
from sekd.stages.distill.losses import (
    feature_loss,
    hard_loss,
    rename_letters,
    soft_loss,
    top_k_soft_loss,
)

# Shapes: N learned tokens, M letters among them, V vocabulary.

TERMS = ("hard", "format", "text", "soft", "feature", "replay")
"""Names of the terms, as the weights in the config have them."""


class Objective:
    """Computes the terms of the loss whose weight is not zero.

    Args:
        model: the base with its adapter.
        stored: layers that the shards have states of.

    Raises:
        ConfigError: if a layer is not stored, or a temperature wants a state that is not.
    """

    def __init__(
        self, model: PeftModel, model_spec: ModelSpec, spec: DistillSpec, stored: Sequence[str]
    ) -> None:
        base = cast("PreTrainedModel", model.get_base_model())
        blocks = layer_modules(base, spec.layers or stored, model_spec, "distill.layers")
        layers = [*blocks, *[FINAL_NORM] * (FINAL_NORM in (spec.layers or stored))]
        missing = set(layers) - set(stored)
        if missing:
            raise ConfigError(
                f"distill.layers: no states of {', '.join(sorted(missing))} are stored; there are "
                f"{', '.join(stored)} (elicit.layers)"
            )
        if FINAL_NORM not in stored and spec.losses.soft and spec.temperature != 1:
            raise ConfigError(
                f"distill.temperature: {spec.temperature:g}, but the top k alone are known at "
                f"temperature 1; add {FINAL_NORM} to elicit.layers"
            )
        self._spec, self._weights = spec, spec.losses
        self._model = model
        self._lm_head: nn.Module = base.get_output_embeddings()
        self._layers = layers if self._weights.feature else []
        self._blocks = blocks if self._weights.feature else {}

    def __call__(self, model: nn.Module, batch: MicroBatch) -> dict[str, Tensor]:
        """Terms of a micro-batch by name, each a float32 scalar: a sum over the sequences of its
        kind, by the number of all sequences.

        Args:
            model: the base with its adapter, or what it was wrapped into (DDP, FSDP).
        """
        device = next(self._lm_head.parameters()).device

        def moved(part: SequenceBatch) -> SequenceBatch:
            return replace(part.to(device), inputs=to_device(part.inputs, model))

        joint = moved(batch.joint) if batch.joint else None
        replay = moved(batch.replay) if batch.replay and self._weights.replay else None
        kinds = (joint is not None, replay is not None)
        passes = ranks.any_rank(kinds) if ranks.uses_fsdp() else kinds
        terms: dict[str, Tensor] = {}
        nought = torch.zeros((), device=device)
        if joint is not None:
            terms |= self._joint(model, joint)
        elif passes[0]:
            assert replay is not None
            # Nought, by way of a pass that is there for other processes alone: where weights are
            # spread over them, each has to go through every pass of any.
            nought = nought + 0 * self._logits(model, replay).float().mean()
        if replay is not None:
            terms["replay"] = self._replay(model, replay)
        elif passes[1]:
            assert joint is not None
            nought = nought + 0 * self._replay(model, joint)
        return {name: term + nought for name, term in terms.items()}

    def weighted(self, terms: dict[str, Tensor]) -> Tensor:
        """The loss: their sum under the configured weights."""
        return torch.stack([getattr(self._weights, name) * terms[name] for name in terms]).sum()

    def _joint(self, model: nn.Module, part: SequenceBatch) -> dict[str, Tensor]:
        learned, signals = part.learned, part.signals
        assert signals is not None
        is_letter_N, weights = learned.is_letter_N, self._weights
        is_exact = bool(weights.soft) and FINAL_NORM in signals.states
        # The letters last: each kind is then one piece of the logits, whose gradient is made once.
        order_N = is_letter_N.int().argsort(stable=True)
        num_letters = len(signals.targets_M)
        num_other = len(order_N) - num_letters
        with (
            capture_states(
                self._blocks, learned.rows_N[is_letter_N], learned.positions_N[is_letter_N]
            ) as states,
            logits_at(
                self._lm_head,
                learned.rows_N[order_N],
                learned.positions_N[order_N],
                signals.states[FINAL_NORM] if is_exact else None,
            ) as final,
        ):
            all_logits = model(**part.inputs, use_cache=False).logits
        others, logits_MV, *teacher = all_logits.split(
            [num_other, num_letters, *[num_letters] * is_exact]
        )
        targets_M, weights_M = learned.targets_N[is_letter_N], learned.weights_N[is_letter_N]
        terms: dict[str, Tensor] = {}
        if weights.hard or weights.format or weights.text:
            other_losses = hard_loss(others, learned.targets_N[~is_letter_N])
            loss_M = hard_loss(logits_MV, targets_M)
            terms["hard"] = (loss_M * weights_M).sum()
            terms["format"] = (other_losses * learned.weights_N[~is_letter_N]).sum()
            loss_N = torch.cat([other_losses, loss_M])
            terms["text"] = (loss_N * learned.text_weights_N[order_N]).sum()
        if weights.soft:
            teacher_MV = teacher[0].detach() if is_exact else None
            terms["soft"] = (self._soft(logits_MV, teacher_MV, signals) * weights_M).sum()
        if weights.feature:
            states[FINAL_NORM] = final[0][num_other:]
            is_same_M = targets_M == signals.targets_M
            terms["feature"] = (self._feature(states, signals, is_same_M) * weights_M).sum()
        return {name: term for name, term in terms.items() if getattr(weights, name)}

    def _feature(self, states: dict[str, Tensor], signals: Signals, is_same_M: Tensor) -> Tensor:
        """Mean distance over the layers, per letter.

        The final state *is* the distribution of the next token: where the student is to write
        another token for the same node, the teacher's final state would lead it astray.
        """
        distances = []
        for name in self._layers:
            distance_M = feature_loss(states[name], signals.states[name], self._spec.distance)
            distances.append(distance_M * is_same_M if name == FINAL_NORM else distance_M)
        return torch.stack(distances).mean(0)

    def _soft(self, logits_MV: Tensor, teacher_MV: Tensor | None, signals: Signals) -> Tensor:
        """Exact where the teacher's final state is stored, top k and tail otherwise.

        The letters' own probabilities are the engine's, over all orders of the options.
        """
        teacher_letters, teacher_logprobs = signals.teacher_letters_ML, signals.logprobs_ML
        kind = self._spec.divergence
        if teacher_MV is None:
            # Our ids are ordered by letter; the student's columns are renamed to the teacher's.
            renamed = rename_letters(logits_MV, signals.student_letters_ML, teacher_letters)
            top_logprobs = signals.top_logprobs_MK
            for letter, logprob in zip(teacher_letters.T, teacher_logprobs.T, strict=True):
                is_letter = signals.top_ids_MK == letter[:, None]
                top_logprobs = torch.where(is_letter, logprob[:, None], top_logprobs)
            top_logprobs = top_logprobs - top_logprobs.logsumexp(-1, keepdim=True).clamp_min(0)
            return top_k_soft_loss(renamed, signals.top_ids_MK, top_logprobs, kind=kind)
        teacher_MV = teacher_MV.float().log_softmax(-1)
        teacher_MV = teacher_MV.scatter(-1, teacher_letters, teacher_logprobs)
        teacher_MV = rename_letters(teacher_MV, teacher_letters, signals.student_letters_ML)
        return soft_loss(logits_MV, teacher_MV, temperature=self._spec.temperature, kind=kind)

    def _replay(self, model: nn.Module, part: SequenceBatch) -> Tensor:
        """KL from the base to the student at every token that the model is to write."""
        with torch.no_grad(), self._model.disable_adapter():
            base_NV = self._logits(model, part)
        return (soft_loss(self._logits(model, part), base_NV) * part.learned.weights_N).sum()

    def _logits(self, model: nn.Module, part: SequenceBatch) -> Tensor:
        """Of the learned tokens alone, [N, V]."""
        with logits_at(self._lm_head, part.learned.rows_N, part.learned.positions_N):
            logits: Tensor = model(**part.inputs, use_cache=False).logits
        return logits
