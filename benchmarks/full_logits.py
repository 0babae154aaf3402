"""Compute the four losses of distillation over full logits, as they are usually written."""

from __future__ import annotations

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional
from trl.experimental.gkd import GKDTrainer

from sekd.config import RunConfig
from sekd.stages.distill.collate import MicroBatch, Signals

# Shapes: B batch, L padded length, M letters, V vocabulary, D hidden size.


class FullLogits:
    """The terms as they are usually written: logits and states at all positions, then masks.

    Labels are -100 at positions without a target, as in transformers, and the divergence is that of
    trl's GKD trainer. No teacher runs: its log-probabilities are scattered to the letters, and all
    other positions stay zero.
    """

    def __init__(self, student: PeftModel, config: RunConfig) -> None:
        self._lm_head = student.get_base_model().get_output_embeddings()
        self._layers = {"block_4": 5, "final_norm": -1}  # index in hidden_states: 0 is the input

    def __call__(self, student: PeftModel, batch: MicroBatch) -> dict[str, Tensor]:
        assert batch.joint is not None
        targets, teacher = batch.joint.targets, batch.joint.signals
        assert teacher is not None
        output = student(**batch.joint.inputs, use_cache=False, output_hidden_states=True)
        logits_BLV = output.logits.float()
        shape = logits_BLV.shape[:2]
        places = (targets.rows_N, targets.positions_N)
        labels_BL = torch.full(shape, -100).index_put(places, targets.token_ids_N)
        weights_BL = torch.zeros(shape).index_put(places, targets.weights_N)
        is_letter_BL = torch.zeros(shape, dtype=torch.bool).index_put(places, targets.is_letter_N)

        nll_BL = functional.cross_entropy(
            logits_BLV.flatten(0, 1), labels_BL.flatten(), ignore_index=-100, reduction="none"
        ).view(shape)
        teacher_BLV = torch.zeros_like(logits_BLV)
        teacher_BLV[is_letter_BL] = self._teacher(teacher)
        kl_M = GKDTrainer.generalized_jsd_loss(
            logits_BLV,
            teacher_BLV,
            labels_BL.where(is_letter_BL, -100),
            beta=0,
            reduction="none",
        ).sum(-1)

        distances = []
        for layer, index in self._layers.items():
            states_BLD = output.hidden_states[index]
            teacher_BLD = torch.zeros_like(states_BLD)
            teacher_BLD[is_letter_BL] = teacher.states[layer].float()
            distances.append(1 - functional.cosine_similarity(states_BLD, teacher_BLD, dim=-1))
        # The last state is no target if the student has to write another letter.
        is_same_BL = is_letter_BL.clone()
        is_same_BL[is_letter_BL] = labels_BL[is_letter_BL] == teacher.chosen_letters_M
        distance_BL = (distances[0] + distances[1] * is_same_BL) / 2
        return {
            "hard": (nll_BL * weights_BL * is_letter_BL).sum(),
            "format": (nll_BL * weights_BL * ~is_letter_BL).sum(),
            "soft": (kl_M * weights_BL[is_letter_BL]).sum(),
            "feature": (distance_BL * weights_BL * is_letter_BL).sum(),
        }

    @torch.no_grad()
    def _teacher(self, teacher: Signals) -> Tensor:
        """Return log-probabilities [M, V] with the teacher's letters renamed to the student's."""
        scores_MV = self._lm_head(teacher.states["final_norm"].float()).log_softmax(-1)
        old, new = teacher.teacher_letters_ML, teacher.student_letters_ML
        renamed_MV = scores_MV.scatter(-1, old, scores_MV.gather(-1, new))
        return renamed_MV.scatter(-1, new, teacher.logprobs_ML).log_softmax(-1)

    def weighted(self, terms: dict[str, Tensor]) -> Tensor:
        return torch.stack(list(terms.values())).sum()
