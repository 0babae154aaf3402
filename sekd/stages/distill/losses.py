"""The formulas of the student's loss. Each function returns one value per row; the caller averages.

Shapes: N rows (target tokens), V vocabulary, D hidden size, K top-k entries, L options. All
arithmetic is in float32. No divergence is clamped, so that a negative value shows a bug.
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
"""Rounding error of a sum of float32 probabilities near 1. A smaller tail cannot be distinguished
from 0, which would make the reverse divergence infinite."""
_CHUNK_SIZE = 32
"""The number of rows of [N, V] logits that are converted to float32 at a time."""


def hard_loss(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """L_hard: cross-entropy on the teacher's token, ``-log p_S(target)``. Returns float32 [N].

    It is computed in chunks of rows, and recomputed for the gradient, so that no second tensor of
    the size [N, V] is kept beside the logits.
    """

    def chunk_loss(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        return functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")

    recomputed = partial(checkpoint, chunk_loss, use_reentrant=False, preserve_rng_state=False)
    chunks = zip(logits_NV.split(_CHUNK_SIZE), targets_N.split(_CHUNK_SIZE), strict=True)
    return torch.cat([recomputed(logits, targets) for logits, targets in chunks])


def divergence_of(kind: Divergence, student_NV: Tensor, teacher_NV: Tensor) -> Tensor:
    """Divergence of two log-distributions over the last axis. Returns float32 [N].

    ``forward``: KL(T || S) = sum_v p_T log(p_T / p_S); ``reverse``: KL(S || T);
    ``jsd``: (KL(T || M) + KL(S || M)) / 2 with M = (p_T + p_S) / 2, at most log 2.
    A teacher's probability of 0 (``-inf``) adds nothing to ``forward``. The paper names a KL
    divergence, but not its direction.
    """
    if kind == "forward":
        return _kl(teacher_NV, student_NV)
    if kind == "reverse":
        return _kl(student_NV, teacher_NV)
    middle_NV = torch.logaddexp(teacher_NV, student_NV) - math.log(2)
    return (_kl(teacher_NV, middle_NV) + _kl(student_NV, middle_NV)) / 2


def _kl(p_NV: Tensor, q_NV: Tensor) -> Tensor:
    """KL(P || Q) = sum_v p (log p - log q) of log-probabilities, where 0 log 0 = 0."""
    is_possible_NV = p_NV > -torch.inf
    p_NV = torch.where(is_possible_NV, p_NV, 0.0)
    return torch.where(is_possible_NV, p_NV.exp() * (p_NV - q_NV), 0.0).sum(-1)


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
    """L_soft over the teacher's top k and one bucket for all other tokens, at temperature 1.

    It is a lower bound of :func:`soft_loss`, for shards without final states. The student's tail is
    summed from its own logits instead of 1 - sum, so that its gradient stays finite if the top k
    hold all of its mass. Returns float32 [N].
    """
    all_NV = logits_NV.float().log_softmax(-1)
    student_NK, teacher_NK = all_NV.gather(-1, top_ids_NK), top_logprobs_NK.float()
    if top_ids_NK.shape[-1] == logits_NV.shape[-1]:  # there is no tail
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


def branch_loss(
    logits_NV: Tensor,
    token_ids_NK: Tensor,
    teacher_NK: Tensor,
    *,
    temperature: float = 1.0,
    kind: Divergence = "forward",
) -> Tensor:
    """L_soft over those tokens that the teacher gives a probability, ``-inf`` for all others.

    Both distributions are renormalised over these tokens, ``T^2 D(softmax(t / T), softmax(s / T))``
    as in :func:`soft_loss`. A row with one token, or none, has loss 0. Returns float32 [N].
    """
    is_known_NK = teacher_NK > -torch.inf

    def renormalised(values_NK: Tensor) -> Tensor:
        # A finite number that is 0 as a probability: the gradient of -inf is not a number.
        return (values_NK.float() / temperature).masked_fill(~is_known_NK, -1e4).log_softmax(-1)

    student_NK = renormalised(logits_NV.gather(-1, token_ids_NK))
    divergence_N = divergence_of(kind, student_NK, renormalised(teacher_NK))
    has_choice_N = is_known_NK.sum(-1) > 1
    return torch.where(has_choice_N, divergence_N, 0.0) * temperature**2


def rename_letters(logits_NV: Tensor, old_NL: Tensor, new_NL: Tensor) -> Tensor:
    """Exchange columns, so that option l moves from column ``old[l]`` to column ``new[l]``.

    For the same node, the teacher's letter may be the token "B" and the student's " D"; the
    probability has to follow the node. In each row, the two sets of letters must be equal or
    disjoint. Rows with fewer than L options repeat their first letter.
    """
    if torch.equal(old_NL, new_NL):
        return logits_NV
    # Gather by a permutation of the columns, because a value that is scattered twice would get its
    # gradient twice.
    columns_NV = torch.arange(logits_NV.shape[-1], device=logits_NV.device).expand_as(logits_NV)
    columns_NV = columns_NV.scatter(-1, old_NL, new_NL).scatter(-1, new_NL, old_NL)
    return logits_NV.gather(-1, columns_NV)
