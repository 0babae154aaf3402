"""The student's loss: one forward pass of the joint prompts, with logits at target tokens only.

Replayed sequences take two more forward passes: one of the student, and one of the base model,
which is the same model with its adapter switched off.
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
from sekd.stages.distill import distributed
from sekd.stages.distill.collate import MicroBatch, SequenceBatch
from sekd.stages.distill.terms import JOINT_TERMS, REPLAY_TERMS, JointOutputs, ReplayOutputs

# Shapes: N target tokens, M answer letters among them, V vocabulary.


class Objective:
    """Computes those terms of the loss whose weight is not zero.

    Args:
        model: the base model with its adapter.
        stored: names of the layers whose states the shards hold.

    Raises:
        ConfigError: if a layer of ``distill.layers`` is not stored, or if ``distill.temperature``
            needs the final states and they are not stored.
    """

    def __init__(
        self, model: PeftModel, model_spec: ModelSpec, spec: DistillSpec, stored: Sequence[str]
    ) -> None:
        base = cast("PreTrainedModel", model.get_base_model())
        self._spec = spec
        self._model = model
        self._lm_head: nn.Module = base.get_output_embeddings()
        self._joint_terms = [term for term in JOINT_TERMS if getattr(spec.losses, term.name)]
        self._replay_terms = [term for term in REPLAY_TERMS if getattr(spec.losses, term.name)]
        self._reads_teacher_logits = any(term.reads_teacher_logits for term in self._joint_terms)
        requested = spec.layers or stored
        blocks = layer_modules(base, requested, model_spec, "distill.layers")
        layers = [*blocks]
        if FINAL_NORM in requested:
            layers.append(FINAL_NORM)
        missing = set(layers) - set(stored)
        if missing:
            raise ConfigError(
                f"distill.layers: no states of {', '.join(sorted(missing))} are stored; there are "
                f"{', '.join(stored)} (elicit.layers)"
            )
        if self._reads_teacher_logits and FINAL_NORM not in stored and spec.temperature != 1:
            raise ConfigError(
                f"distill.temperature: {spec.temperature:g}, but the top k alone are known at "
                f"temperature 1; add {FINAL_NORM} to elicit.layers"
            )
        reads_states = any(term.reads_states for term in self._joint_terms)
        self._layers = layers if reads_states else []
        self._blocks = blocks if reads_states else {}

    def __call__(self, model: nn.Module, batch: MicroBatch) -> dict[str, Tensor]:
        """Compute the terms of a micro-batch.

        Args:
            model: the base model with its adapter, or its wrapper (DDP, FSDP).

        Returns:
            Term name -> float32 scalar: the sum over the sequences of the term's kind, divided by
            the number of all sequences in the micro-batch.
        """
        device = next(self._lm_head.parameters()).device
        joint, replay = None, None
        if batch.joint is not None:
            joint = _move(batch.joint, model, device)
        if batch.replay is not None and self._replay_terms:
            replay = _move(batch.replay, model, device)
        runs_joint, runs_replay = joint is not None, replay is not None
        if distributed.uses_fsdp():
            runs_joint, runs_replay = distributed.any_rank([runs_joint, runs_replay])
        terms: dict[str, Tensor] = {}
        # Dummy forward pass, so that all FSDP ranks run the same collectives: a rank that lacks one
        # kind of sequences runs that kind's passes on the other kind, with a gradient of zero.
        dummy_loss = torch.zeros((), device=device)
        if joint is not None:
            joint_outputs = self._joint_outputs(model, joint)
            terms |= {
                term.name: term.compute(joint_outputs, self._spec) for term in self._joint_terms
            }
        elif runs_joint:
            assert replay is not None
            dummy_loss = dummy_loss + 0 * self._target_logits(model, replay).float().mean()
        if replay is not None:
            replay_outputs = self._replay_outputs(model, replay)
            terms |= {
                term.name: term.compute(replay_outputs, self._spec) for term in self._replay_terms
            }
        elif runs_replay:
            assert joint is not None
            replay_outputs = self._replay_outputs(model, joint)
            dummy_loss = dummy_loss + 0 * replay_outputs.student_logits_NV.float().mean()
        return {name: term + dummy_loss for name, term in terms.items()}

    def weighted(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the loss: the sum of the terms, each times its weight in the config."""
        return torch.stack([getattr(self._spec.losses, name) * terms[name] for name in terms]).sum()

    def _joint_outputs(self, model: nn.Module, batch: SequenceBatch) -> JointOutputs:
        targets, signals, named = batch.targets, batch.signals, batch.open_signals
        letters, branches = targets.select(targets.is_letter_N), targets.select(targets.is_branch_N)
        others = targets.select(~(targets.is_letter_N | targets.is_branch_N))
        # Each kind is one contiguous slice of the logits, so that its gradient is allocated once.
        kinds = [others, letters, branches]
        sizes = list(map(len, kinds))
        teacher_states_MD = None
        if self._reads_teacher_logits and signals is not None:
            teacher_states_MD = signals.states.get(FINAL_NORM)
        if teacher_states_MD is not None:
            sizes.append(len(letters))
        rows, positions = letters.rows_N, letters.positions_N
        if named is not None:
            rows = torch.cat([rows, named.rows_P])
            positions = torch.cat([positions, named.positions_P])
        with (
            capture_states(self._blocks, rows, positions) as states,
            logits_at(
                self._lm_head,
                torch.cat([kind.rows_N for kind in kinds]),
                torch.cat([kind.positions_N for kind in kinds]),
                teacher_states_MD,
            ) as final_states,
        ):
            logits = model(**batch.inputs, use_cache=False).logits
        at_letters = {layer: found[: len(letters)] for layer, found in states.items()}
        at_letters[FINAL_NORM] = final_states[0][len(others) : len(others) + len(letters)]
        slices = logits.split(sizes)
        return JointOutputs(
            letters=letters,
            others=others,
            branches=branches,
            other_logits_TV=slices[0],
            letter_logits_MV=slices[1],
            branch_logits_BV=slices[2],
            teacher_logits_MV=slices[3].detach() if teacher_states_MD is not None else None,
            states={layer: at_letters[layer] for layer in self._layers},
            name_states={layer: states[layer][len(letters) :] for layer in self._blocks},
            signals=signals,
            open_signals=named,
        )

    def _replay_outputs(self, model: nn.Module, batch: SequenceBatch) -> ReplayOutputs:
        with torch.no_grad(), self._model.disable_adapter():
            base_logits_NV = self._target_logits(model, batch)
        return ReplayOutputs(
            targets=batch.targets,
            student_logits_NV=self._target_logits(model, batch),
            base_logits_NV=base_logits_NV,
        )

    def _target_logits(self, model: nn.Module, batch: SequenceBatch) -> Tensor:
        """Return the logits [N, V] of the target tokens."""
        with logits_at(self._lm_head, batch.targets.rows_N, batch.targets.positions_N):
            logits: Tensor = model(**batch.inputs, use_cache=False).logits
        return logits


def _move(batch: SequenceBatch, model: nn.Module, device: torch.device) -> SequenceBatch:
    """Move targets and signals to the logits' device, and inputs to the model's."""
    return replace(batch.to(device), inputs=to_device(batch.inputs, model))
