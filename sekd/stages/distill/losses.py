"""The terms of the student's loss, each per row; the caller averages.

Shapes: N rows (supervised positions), V vocabulary, D hidden size, K top-k entries. All arithmetic
is in float32 and no divergence is clamped: a negative value would be a bug to see.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def hard_loss(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """L_hard: cross-entropy on the teacher's token, ``-log p_student(target)``. Returns [N]."""
    return functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")


def soft_loss(logits_NV: Tensor, teacher_logits_NV: Tensor, temperature: float = 1.0) -> Tensor:
    """L_soft: forward KL over the whole vocabulary, ``T^2 sum_v p_T(v) log(p_T(v) / p_S(v))``.

    The paper names a KL divergence without its direction; forward, teacher to student, is ours.
    Returns [N].
    """
    student = (logits_NV.float() / temperature).log_softmax(-1)
    teacher = (teacher_logits_NV.float() / temperature).log_softmax(-1)
    divergence = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    return divergence * temperature**2


def top_k_soft_loss(logits_NV: Tensor, top_ids_NK: Tensor, top_logprobs_NK: Tensor) -> Tensor:
    """Forward KL over the teacher's top k and one bucket for all the rest.

    A lower bound of :func:`soft_loss` at temperature 1, for shards without final states. The
    student's tail is summed from its own logits, not taken as 1 - sum, so that its gradient stays
    finite where the top k hold all of its mass. Returns [N].
    """
    student = logits_NV.float().log_softmax(-1)
    student_tail = student.scatter(-1, top_ids_NK, -torch.inf).logsumexp(-1, keepdim=True)
    teacher = top_logprobs_NK.float()
    teacher_tail = (1 - teacher.exp().sum(-1, keepdim=True)).clamp_min(0)  # a rounding error, no KL
    inside = teacher.exp() * (teacher - student.gather(-1, top_ids_NK))
    if top_ids_NK.shape[-1] == logits_NV.shape[-1]:
        return inside.sum(-1)  # nothing is outside; a tail of rounding errors would cost infinity
    tail = torch.xlogy(teacher_tail, teacher_tail) - teacher_tail * student_tail
    return inside.sum(-1) + torch.where(teacher_tail > 0, tail, 0.0).squeeze(-1)


def feature_loss(states_ND: Tensor, teacher_states_ND: Tensor) -> Tensor:
    """L_feat: cosine distance, ``1 - cos(h_student, h_teacher)``; the distance is ours. [N]."""
    return 1 - functional.cosine_similarity(states_ND.float(), teacher_states_ND.float(), dim=-1)


def rename_letters(logits_NV: Tensor, old_NL: Tensor, new_NL: Tensor) -> Tensor:
    """Exchange columns, so that option l stands at ``new[l]`` where it stood at ``old[l]``.

    The teacher's letter may be the token "B" and the student's " D": the distribution follows the
    node. Per row, the two sets of letters must be the same or disjoint. Rows shorter than L repeat
    their first letter.
    """
    if torch.equal(old_NL, new_NL):
        return logits_NV
    old, new = logits_NV.gather(-1, old_NL), logits_NV.gather(-1, new_NL)
    return logits_NV.scatter(-1, old_NL, new).scatter(-1, new_NL, old)
