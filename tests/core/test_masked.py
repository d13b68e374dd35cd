"""Sums over masks: what they add, what they never read, how they merge."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from instructloop.core.masked import Sum, masked_sum, whiten

NAN, INF = float("nan"), float("inf")


def test_only_what_the_mask_keeps_is_summed_and_counted():
    x_BC = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    mask_BC = torch.tensor([[True, False, True], [False, True, False]])
    result = masked_sum(x_BC, mask_BC)
    assert float(result.total) == 21.0  # 1 + 4 + 16
    assert float(result.count) == 3


@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 1e30])
def test_what_is_off_the_mask_is_never_read_nor_given_a_gradient(garbage: float):
    x_BC = torch.tensor([[1.0, garbage]], requires_grad=True)
    mask_BC = torch.tensor([[True, False]])
    result = masked_sum(x_BC, mask_BC)
    result.total.backward()
    assert float(result.detach().total) == 1.0
    assert x_BC.grad.tolist() == [[1.0, 0.0]]


def test_a_bfloat16_sum_is_taken_in_float32():
    x_BC = torch.ones(1, 1000, dtype=torch.bfloat16)
    result = masked_sum(x_BC, torch.ones(1, 1000, dtype=torch.bool))
    assert result.total.dtype == torch.float32
    # bfloat16 has 8 bits of mantissa: 257 does not exist there, let alone 999 + 1.
    assert float(result.total) == 1000.0
    assert float(masked_sum(x_BC[:, :257], torch.ones(1, 257, dtype=torch.bool)).total) == 257.0


def test_a_mean_of_merged_sums_is_the_mean_of_the_whole_not_of_the_means():
    merged = Sum(torch.tensor(3.0), torch.tensor(1)) + Sum(torch.tensor(2.0), torch.tensor(4))
    assert float(merged.mean()) == pytest.approx(1.0)  # 5 / 5, where the mean of the means 3 and .5 is 1.75
    assert float(Sum(3.0, 1.0) + Sum(2.0, 4.0)) == pytest.approx(1.0)


def test_a_mean_over_nothing_is_an_error():
    with pytest.raises(ValueError, match="count 0"):
        Sum(torch.tensor(0.0), torch.tensor(0)).mean()


def test_a_mean_keeps_its_gradient_and_detach_cuts_it():
    x_BC = torch.tensor([[2.0, 4.0]], requires_grad=True)
    result = masked_sum(x_BC * x_BC, torch.ones(1, 2, dtype=torch.bool))
    assert not result.detach().total.requires_grad
    result.mean().backward()
    assert x_BC.grad.tolist() == [[2.0, 4.0]]  # 2 x / 2


def test_whitened_values_have_mean_0_and_variance_1_over_the_mask():
    x_BC = torch.tensor([[3.0, 4.0, 4.0], [4.0, 5.0, NAN]])
    mask_BC = torch.tensor([[True, True, True], [True, True, False]])
    expected = [-1.5811, 0.0, 0.0, 0.0, 1.5811]  # mean 4, variance 2 / 5 = .4, 1 / sqrt(.4) = 1.5811
    assert whiten(x_BC, mask_BC, shift_mean=True)[mask_BC].tolist() == pytest.approx(expected, abs=1e-4)


def test_whitening_without_the_shift_keeps_the_mean():
    x_BC = torch.tensor([[3.0, 4.0, 4.0, 4.0, 5.0]])
    whitened = whiten(x_BC, torch.ones(1, 5, dtype=torch.bool), shift_mean=False)
    assert float(whitened.mean()) == pytest.approx(4.0)
    assert float(whitened.var(correction=0)) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("shift_mean", [True, False])
def test_padding_does_not_change_what_whitening_gives_and_stays_0(shift_mean: bool):
    x_BC = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    mask_BC = torch.arange(6) < torch.tensor([[6], [1], [3], [5]])
    padded_x = torch.cat([x_BC, torch.full((4, 3), NAN)], 1)
    padded_mask = torch.cat([mask_BC, torch.zeros(4, 3, dtype=torch.bool)], 1)
    whitened = whiten(padded_x, padded_mask, shift_mean=shift_mean)
    assert torch.allclose(whitened[:, :6], whiten(x_BC, mask_BC, shift_mean=shift_mean))
    assert (whitened[~padded_mask] == 0).all()


def test_whitening_of_equal_values_does_not_explode():
    whitened = whiten(torch.full((2, 2), 7.0), torch.ones(2, 2, dtype=torch.bool), shift_mean=True)
    assert math.isfinite(float(whitened.abs().sum()))
    assert float(whitened.abs().max()) < 1e-3


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(TypeCheckError):
        masked_sum(torch.zeros(2, 3), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(TypeCheckError):
        masked_sum(torch.zeros(2, 3), torch.ones(2, 3))  # a mask of floats
