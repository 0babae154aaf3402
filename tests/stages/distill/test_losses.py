"""The loss terms against float64 references, at ordinary and at extreme values.

N rows, V vocabulary, K top-k entries, D hidden size, L letters.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sekd.config import Divergence
from sekd.stages.distill.losses import (
    feature_loss,
    hard_loss,
    rename_letters,
    soft_loss,
    top_k_soft_loss,
)

N, V = 6, 13
Array = NDArray[np.float64]


def draw(seed: int, *shape: int, scale: float = 3.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def log_softmax(logits: Tensor, temperature: float = 1.0) -> Array:
    values = logits.detach().double().numpy() / temperature
    values = values - values.max(-1, keepdims=True)
    return np.asarray(values - np.log(np.exp(values).sum(-1, keepdims=True)))


def divergence(teacher: Array, student: Array) -> Array:
    """KL(teacher || student) of each row of log-probabilities."""
    return np.asarray((np.exp(teacher) * (teacher - student)).sum(-1))


def top_k(teacher: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return ids and float32 log-probabilities as the engines store them, best first."""
    logprobs, ids = torch.from_numpy(log_softmax(teacher)).topk(k)
    return ids, logprobs.float()


def reference_top_k(student: Tensor, teacher: Tensor, k: int) -> Array:
    """KL over k tokens and one bucket for the rest."""
    columns = []
    for logits in (teacher, student):
        logprobs, order = log_softmax(logits), np.argsort(-log_softmax(teacher), -1)
        ordered = np.take_along_axis(logprobs, order, -1)
        tail = np.log(np.exp(ordered[:, k:]).sum(-1, keepdims=True))
        columns.append(np.concatenate([ordered[:, :k], tail], -1))
    return divergence(*columns)


def assert_close(tensor: Tensor, reference: Array | float, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(tensor.detach().numpy(), reference, rtol=1e-5, atol=atol)


def test_hard_loss_equals_the_reference() -> None:
    logits, targets = draw(0, N, V), torch.arange(N) * 2
    assert_close(hard_loss(logits, targets), -log_softmax(logits)[np.arange(N), targets])


def test_hard_loss_of_more_rows_than_one_chunk() -> None:
    logits, targets = draw(0, 70, V).requires_grad_(), torch.arange(70) % V
    losses, logprobs = hard_loss(logits, targets), logits.log_softmax(-1)[torch.arange(70), targets]
    assert_close(losses, -logprobs.detach().numpy())
    weights = draw(1, 70)
    (gradient,) = torch.autograd.grad((losses * weights).sum(), logits)
    (expected,) = torch.autograd.grad((-logprobs * weights).sum(), logits)
    assert_close(gradient, expected.numpy())


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest float32 tensor that is created."""

    numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for output in result if isinstance(result, tuple) else (result,):
            if isinstance(output, Tensor) and output.dtype == torch.float32:
                self.numel = max(self.numel, output.numel())
        return result


def test_hard_loss_makes_no_float32_copy_of_all_logits() -> None:
    logits = draw(0, 70, V).bfloat16().requires_grad_()
    with LargestTensor() as largest:
        hard_loss(logits, torch.arange(70) % V).sum().backward()
    assert 0 < largest.numel <= 32 * V


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_soft_loss_equals_the_reference(temperature: float) -> None:
    student, teacher = draw(1, N, V), draw(2, N, V)
    expected = divergence(log_softmax(teacher, temperature), log_softmax(student, temperature))
    assert_close(soft_loss(student, teacher, temperature=temperature), expected * temperature**2)


def test_soft_loss_is_the_forward_divergence() -> None:
    # KL(T || S): a token costs nothing if the teacher gives it no mass, and much if only the
    # student gives it none.
    peaked, flat = torch.tensor([[50.0, 0.0]]), torch.zeros(1, 2)
    assert soft_loss(flat, peaked).item() == pytest.approx(np.log(2))
    assert soft_loss(peaked, flat).item() > 20


def test_temperature_keeps_the_scale_of_gradients() -> None:
    # The reason for T^2 (Hinton et al.): as T grows, the gradient has a limit other than 0.
    norms = []
    for temperature in (20.0, 200.0):
        student = draw(1, N, V).requires_grad_()
        soft_loss(student, draw(2, N, V), temperature=temperature).sum().backward()
        assert student.grad is not None
        norms.append(student.grad.norm().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.2)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_soft_losses_are_zero_where_student_and_teacher_agree_and_only_there(scale: float) -> None:
    teacher = draw(3, N, V, scale=scale)
    ids, logprobs = top_k(teacher, 4)
    same = teacher + 7  # a constant on every logit does not change the distribution
    error = 1e-6 + 1e-6 * scale  # rounding error of a float32 sum of logits of this size
    for loss in (soft_loss(same, teacher), top_k_soft_loss(same, ids, logprobs)):
        assert loss.abs().max() < error
    # A real difference is well above that error.
    other = teacher.scatter_add(-1, ids[:, :1], torch.full((N, 1), -2 * scale))
    for loss in (soft_loss(other, teacher), top_k_soft_loss(other, ids, logprobs)):
        assert loss.min() > 10 * error


@pytest.mark.parametrize("k", [1, 3, V - 2])
def test_top_k_soft_loss_equals_the_reference(k: int) -> None:
    student, teacher = draw(4, N, V), draw(5, N, V)
    assert_close(top_k_soft_loss(student, *top_k(teacher, k)), reference_top_k(student, teacher, k))


@pytest.mark.parametrize("k", [V - 1, V])
@pytest.mark.parametrize("seed", range(5))
def test_top_k_is_exact_where_the_bucket_holds_one_token_or_none(k: int, seed: int) -> None:
    student, teacher = draw(seed, N, V).requires_grad_(), draw(seed + 50, N, V)
    loss = top_k_soft_loss(student, *top_k(teacher, k))
    assert_close(loss, divergence(log_softmax(teacher), log_softmax(student)))
    # The gradient of a cross-entropy: p_student - p_teacher.
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert_close(gradient, np.exp(log_softmax(student)) - np.exp(log_softmax(teacher)))


@pytest.mark.parametrize("seed", range(3))
def test_top_k_is_a_lower_bound_that_tightens(seed: int) -> None:
    student, teacher = draw(seed, N, V), draw(seed + 50, N, V)
    losses = [top_k_soft_loss(student, *top_k(teacher, k)) for k in range(1, V + 1)]
    losses.append(soft_loss(student, teacher))
    for coarse, fine in pairwise(losses):
        assert (coarse <= fine + 1e-5).all()
    assert (losses[0] < losses[-1] - 0.01).any()  # the bound is not exact


@pytest.mark.parametrize("scale", [30.0, 1000.0])
def test_the_tail_has_a_gradient_if_all_of_the_students_mass_is_on_the_top_k(scale: float) -> None:
    ids = torch.tensor([[0, 1, 2]])
    logits = torch.zeros(1, V).scatter(-1, ids, scale).requires_grad_()
    loss = top_k_soft_loss(logits, ids, torch.tensor([[0.5, 0.25, 0.15]]).log())
    # By hand: the student has 1/3 on each top token, and (V - 3) / 3 e^-scale on all others.
    top = sum(p * np.log(p * 3) for p in (0.5, 0.25, 0.15))
    assert_close(loss, top + 0.1 * (np.log(0.1) - (np.log((V - 3) / 3) - scale)), atol=1e-4)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    # p_student - p_teacher on the top; the teacher's tail is spread over the other tokens.
    assert_close(gradient[0, :3], np.array([1 / 3 - 0.5, 1 / 3 - 0.25, 1 / 3 - 0.15]))
    assert_close(gradient[0, 3:], -0.1 / (V - 3))


@pytest.mark.parametrize("probabilities", [[1.0], [0.5, 0.25, 0.25], [0.6, 0.3, 0.1 + 3e-7]])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_teacher_without_a_tail(probabilities: list[float], scale: float) -> None:
    # The float32 sum may exceed 1. The tail is then 0, not the logarithm of a negative number.
    logits = draw(6, 1, V, scale=scale).requires_grad_()
    ids = torch.arange(len(probabilities))[None]
    loss = top_k_soft_loss(logits, ids, torch.tensor([probabilities]).log())
    student = log_softmax(logits)[0]
    expected = sum(p * (np.log(p) - student[i]) for i, p in enumerate(probabilities))
    assert_close(loss, expected, atol=1e-4)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    target = np.array(probabilities + [0.0] * (V - len(probabilities)))
    assert_close(gradient[0], np.exp(student) - target)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("student_seed", [7, 8])  # 8 is the teacher itself
def test_values_and_gradients_are_finite(scale: float, student_seed: int) -> None:
    teacher = draw(8, N, V, scale=scale)
    ids, logprobs = top_k(teacher, 4)
    for loss_of in (
        lambda logits: hard_loss(logits, torch.zeros(N, dtype=torch.long)),
        lambda logits: soft_loss(logits, teacher),
        lambda logits: top_k_soft_loss(logits, ids, logprobs),
    ):
        logits = draw(student_seed, N, V, scale=scale).requires_grad_()
        loss = loss_of(logits)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 1.001  # as of every cross-entropy


def test_losses_are_computed_in_float32() -> None:
    student, teacher = draw(9, N, V).bfloat16(), draw(10, N, V).bfloat16()
    states, other = draw(11, N, V).bfloat16(), draw(12, N, V).bfloat16()
    ids, logprobs = top_k(teacher.float(), 3)
    for low, high in (
        (
            hard_loss(student, ids[:, 0]),
            hard_loss(student.float(), ids[:, 0]),
        ),
        (soft_loss(student, teacher), soft_loss(student.float(), teacher.float())),
        (
            top_k_soft_loss(student, ids, logprobs),
            top_k_soft_loss(student.float(), ids, logprobs),
        ),
        (feature_loss(states, other), feature_loss(states.float(), other.float())),
    ):
        assert low.dtype == torch.float32
        assert torch.equal(low, high)


def test_feature_loss_equals_the_reference() -> None:
    states, other = draw(13, N, 8), draw(14, N, 8)
    a, b = states.double().numpy(), other.double().numpy()
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    assert_close(feature_loss(states, other), 1 - cosine)


@pytest.mark.parametrize(("factor", "loss"), [(1.0, 0.0), (1e4, 0.0), (-1.0, 2.0), (-0.01, 2.0)])
def test_feature_loss_depends_on_directions_only(factor: float, loss: float) -> None:
    states = draw(15, N, 8)
    assert_close(feature_loss(states * factor, states), loss, atol=1e-6)
    assert_close(feature_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, factor]])), 1.0)


def test_feature_loss_of_a_zero_state_is_finite() -> None:
    states = torch.zeros(1, 8, requires_grad=True)
    loss = feature_loss(states, draw(16, 1, 8))
    loss.sum().backward()
    assert loss.item() == 1
    assert states.grad is not None
    assert states.grad.isfinite().all()


OLD, NEW = torch.tensor([[1, 2, 3], [1, 2, 3]]), torch.tensor([[7, 8, 9], [7, 8, 9]])


def test_rename_letters_exchanges_columns() -> None:
    logits = torch.arange(24.0).view(2, 12)
    renamed = rename_letters(logits, OLD, NEW)
    assert renamed[0].tolist() == [0, 7, 8, 9, 4, 5, 6, 1, 2, 3, 10, 11]
    assert torch.equal(renamed[1], renamed[0] + 12)
    assert torch.equal(rename_letters(logits, NEW, OLD), renamed)
    assert logits.flatten().tolist() == list(range(24))  # the input is unchanged


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([[1, 2], [3, 4]], [[5, 6], [7, 8]]),  # other letters in each row
        ([[1, 2], [3, 4]], [[1, 6], [3, 4]]),  # some of them the same token
        ([[1, 2], [3, 4]], [[2, 1], [4, 3]]),
        ([[1, 1], [3, 4]], [[5, 5], [7, 8]]),  # a row of one letter, padded
    ],
)
def test_rename_letters_is_an_involution(old: list[list[int]], new: list[list[int]]) -> None:
    logits, old_NL, new_NL = draw(17, 2, V), torch.tensor(old), torch.tensor(new)
    renamed = rename_letters(logits, old_NL, new_NL)
    assert torch.equal(renamed.sort(-1).values, logits.sort(-1).values)  # nothing lost or doubled
    assert torch.equal(renamed.gather(-1, new_NL), logits.gather(-1, old_NL))
    assert torch.equal(rename_letters(renamed, old_NL, new_NL), logits)


def test_renaming_to_the_same_letters_changes_nothing() -> None:
    logits = draw(18, 2, V)
    assert torch.equal(rename_letters(logits, OLD, OLD), logits)


def test_padding_by_the_first_letter_is_harmless() -> None:
    logits = draw(19, 2, V)
    padded = [torch.cat([ids, ids[:, :1], ids[:, :1]], -1) for ids in (OLD, NEW)]
    assert torch.equal(rename_letters(logits, *padded), rename_letters(logits, OLD, NEW))


def test_gradients_follow_their_letters() -> None:
    logits = draw(20, 2, V).requires_grad_()
    weights = draw(21, 2, V)
    (rename_letters(logits, OLD, NEW) * weights).sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, rename_letters(weights, OLD, NEW))


def test_padding_does_not_add_to_gradients() -> None:
    """A row with fewer options repeats its first letter, whose gradient still counts once."""
    logits, weights = draw(20, 2, V).requires_grad_(), draw(21, 2, V)
    padded = [torch.cat([ids, ids[:, :1], ids[:, :1]], -1) for ids in (OLD, NEW)]
    (rename_letters(logits, *padded) * weights).sum().backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad, rename_letters(weights, OLD, NEW))


def reference_divergence(kind: Divergence, teacher: Array, student: Array) -> Array:
    """The divergence of each row of log-probabilities, by its definition."""
    if kind == "forward":
        return divergence(teacher, student)
    if kind == "reverse":
        return divergence(student, teacher)
    middle = np.logaddexp(teacher, student) - np.log(2)
    return (divergence(teacher, middle) + divergence(student, middle)) / 2


@pytest.mark.parametrize("kind", get_args(Divergence))
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_every_divergence_equals_the_reference(kind: Divergence, temperature: float) -> None:
    student, teacher = draw(22, N, V), draw(23, N, V)
    expected = reference_divergence(
        kind, log_softmax(teacher, temperature), log_softmax(student, temperature)
    )
    loss = soft_loss(student, teacher, temperature=temperature, kind=kind)
    assert_close(loss, expected * temperature**2)


@pytest.mark.parametrize("kind", get_args(Divergence))
@pytest.mark.parametrize("k", [1, 3, V - 2, V])
def test_every_divergence_over_the_top_k_equals_the_reference(kind: Divergence, k: int) -> None:
    student, teacher = draw(24, N, V), draw(25, N, V)
    columns = []
    for logits in (teacher, student):
        order = np.argsort(-log_softmax(teacher), -1)
        ordered = np.take_along_axis(log_softmax(logits), order, -1)
        tail = np.log(np.exp(ordered[:, k:]).sum(-1, keepdims=True)) if k < V else ordered[:, :0]
        columns.append(np.concatenate([ordered[:, :k], tail], -1))
    assert_close(
        top_k_soft_loss(student, *top_k(teacher, k), kind=kind),
        reference_divergence(kind, *columns),
        atol=1e-4,  # the teacher's tail is 1 minus a float32 sum
    )


@pytest.mark.parametrize("kind", get_args(Divergence))
@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("student_seed", [26, 27])  # 27 is the teacher itself
def test_every_divergence_is_finite_where_all_mass_is_on_one_token(
    kind: Divergence, scale: float, student_seed: int
) -> None:
    """Its gradient is finite, too, whether the teacher has a tail or not."""
    teacher = draw(27, N, V, scale=scale)
    ids, logprobs = top_k(teacher, 3)
    without_tail = torch.tensor([[1.0, 0.0, 0.0]]).expand(N, -1).clamp_min(1e-30).log()
    for loss_of in (
        lambda logits: soft_loss(logits, teacher, kind=kind),
        lambda logits: top_k_soft_loss(logits, ids, logprobs, kind=kind),
        lambda logits: top_k_soft_loss(logits, ids, without_tail, kind=kind),
    ):
        logits = draw(student_seed, N, V, scale=scale).requires_grad_()
        loss = loss_of(logits)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()
        assert loss.min() > -1e-5 * scale


def test_jsd_is_symmetric_and_at_most_log_2() -> None:
    student, teacher = draw(28, N, V, scale=1000.0), draw(29, N, V, scale=1000.0)
    loss = soft_loss(student, teacher, kind="jsd")
    assert_close(loss, soft_loss(teacher, student, kind="jsd").numpy())
    assert loss.max() <= np.log(2) + 1e-6
    assert loss.max() > 0.6


def test_squared_feature_loss_is_relative_to_the_teacher() -> None:
    states, other = draw(30, N, 8), draw(31, N, 8)
    a, b = states.double().numpy(), other.double().numpy()
    expected = ((a - b) ** 2).sum(-1) / (b**2).sum(-1)
    assert_close(feature_loss(states, other, "mse"), expected)
    assert_close(feature_loss(states * 1e3, other * 1e3, "mse"), expected)
