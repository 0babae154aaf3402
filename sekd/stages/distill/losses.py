"""The terms of the student's loss, each per row; the caller averages.

Shapes: N rows (supervised positions), V vocabulary, D hidden size, K top-k entries, L options. All
arithmetic is in float32 and no divergence is clamped: a negative value would be a bug to see.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from sekd.config import Distance, Divergence

_LEAST_TAIL = 2.0**-24
"""Rounding error of a sum of float32 probabilities near one. A smaller tail cannot be told from
none, which would make the reverse divergence infinite."""
_ROWS_AT_ONCE = 32
"""So many rows of [N, V] logits are in float32 at the same time."""


def hard_loss(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """L_hard: cross-entropy on the teacher's token, ``-log p_S(target)``. Returns float32 [N].

    A few rows at a time, and again for the gradient: no second [N, V] is kept beside the logits.
    """

    def of_some(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        return functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")

    twice = partial(checkpoint, of_some, use_reentrant=False, preserve_rng_state=False)
    parts = zip(logits_NV.split(_ROWS_AT_ONCE), targets_N.split(_ROWS_AT_ONCE), strict=True)
    return torch.cat([twice(*part) for part in parts])


def divergence_of(kind: Divergence, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
    """Divergence of two log-distributions over the last axis. Returns float32 [N].

    ``forward``: KL(T || S) = sum_v p_T log(p_T / p_S); ``reverse``: KL(S || T);
    ``jsd``: (KL(T || M) + KL(S || M)) / 2 with M = (p_T + p_S) / 2, at most log 2.
    A teacher's probability of zero (``-inf``) adds nothing to ``forward``. The paper names a KL
    divergence without its direction.
    """
    if kind == "forward":
        return _kl(teacher_NV, student_NV)
    if kind == "reverse":
        return _kl(student_NV, teacher_NV)
    middle_NV = torch.logaddexp(teacher_NV, student_NV) - math.log(2)
    return (_kl(teacher_NV, middle_NV) + _kl(student_NV, middle_NV)) / 2


def _kl(of_NV: Tensor, against_NV: Tensor) -> Tensor:
    """sum_v p (log p - log q), where 0 log 0 = 0."""
    possible_NV = of_NV > -torch.inf
    of_NV = torch.where(possible_NV, of_NV, 0.0)
    return torch.where(possible_NV, of_NV.exp() * (of_NV - against_NV), 0.0).sum(-1)


def soft_loss(
    logits_NV: Tensor,
    teacher_logits_NV: Tensor,
    *,
    temperature: float = 1.0,
    kind: Divergence = "forward",
) -> Tensor:
    """L_soft over the whole vocabulary, ``T^2 D(softmax(t / T), softmax(s / T))``.

    Returns float32 [N].
    """
    student_NV = (logits_NV.float() / temperature).log_softmax(-1)
    teacher_NV = (teacher_logits_NV.float() / temperature).log_softmax(-1)
    return divergence_of(kind, student_NV, teacher_NV) * temperature**2


def top_k_soft_loss(
    logits_NV: Tensor,
    top_ids_NK: Tensor,
    top_logprobs_NK: Tensor,
    *,
    kind: Divergence = "forward",
) -> Tensor:
    """L_soft over the teacher's top k and one bucket for all the rest; temperature 1.

    A lower bound of :func:`soft_loss`, for shards without final states. The student's tail is
    summed from its own logits, not taken as 1 - sum, so that its gradient stays finite where the
    top k hold all of its mass. Returns float32 [N].
    """
    all_NV = logits_NV.float().log_softmax(-1)
    student_NK, teacher_NK = all_NV.gather(-1, top_ids_NK), top_logprobs_NK.float()
    if top_ids_NK.shape[-1] == logits_NV.shape[-1]:  # nothing is outside
        return divergence_of(kind, student_NK, teacher_NK)
    tail_N1 = all_NV.scatter(-1, top_ids_NK, -torch.inf).logsumexp(-1, keepdim=True)
    mass_N1 = 1 - teacher_NK.exp().sum(-1, keepdim=True)
    teacher_tail_N1 = mass_N1.clamp_min(_LEAST_TAIL if kind == "reverse" else 0.0).log()
    return divergence_of(
        kind, torch.cat([student_NK, tail_N1], -1), torch.cat([teacher_NK, teacher_tail_N1], -1)
    )


def feature_loss(states_ND: Tensor, teacher_states_ND: Tensor, kind: Distance = "cosine") -> Tensor:
    """L_feat between decoder states; the paper does not give the distance. Returns float32 [N].

    ``cosine``: ``1 - cos(h_S, h_T)``; ``mse``: ``|h_S - h_T|^2 / |h_T|^2``, relative, because
    decoder states of different layers and models differ in length by orders of magnitude.
    """
    student_ND, teacher_ND = states_ND.float(), teacher_states_ND.float()
    if kind == "cosine":
        return 1 - functional.cosine_similarity(student_ND, teacher_ND, dim=-1)
    return (student_ND - teacher_ND).square().sum(-1) / teacher_ND.square().sum(-1)


def rename_letters(logits_NV: Tensor, old_NL: Tensor, new_NL: Tensor) -> Tensor:
    """Exchange columns, so that option l stands at ``new[l]`` where it stood at ``old[l]``.

    The teacher's letter may be the token "B" and the student's " D": the distribution follows the
    node. Per row, the two sets of letters must be the same or disjoint. Rows shorter than L repeat
    their first letter.
    """
    if torch.equal(old_NL, new_NL):
        return logits_NV
    # By a permutation of the columns: values scattered twice would get their gradient twice.
    columns_NV = torch.arange(logits_NV.shape[-1], device=logits_NV.device).expand_as(logits_NV)
    columns_NV = columns_NV.scatter(-1, old_NL, new_NL).scatter(-1, new_NL, old_NL)
    return logits_NV.gather(-1, columns_NV)
