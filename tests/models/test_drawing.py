"""The next token is the one at which the cumulative distribution passes a uniform number, over any vocabulary."""

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper

from instructloop.models import drawing
from instructloop.models.drawing import Sampling, draw


def logits_of(num_rows: int, size: int) -> torch.Tensor:
    return 3 * torch.randn(num_rows, size, generator=torch.Generator().manual_seed(size))


@pytest.mark.parametrize("size", [1, 5, 64, 65, 130, 1000])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_draw_is_the_inverse_of_the_cumulative_distribution(size: int, temperature: float):
    logits_AV = logits_of(50, size)
    uniform_A = torch.rand(50, generator=torch.Generator().manual_seed(0))
    token_A, logprob_A = draw(logits_AV, uniform_A, Sampling(1, temperature))
    logprobs_AV = (logits_AV.double() / temperature).log_softmax(-1)
    for row, logprobs_V in enumerate(logprobs_AV.numpy()):
        expected = np.searchsorted(np.exp(logprobs_V).cumsum(), float(uniform_A[row]), side="right")
        assert int(token_A[row]) == min(expected, size - 1)
        assert float(logprob_A[row]) == pytest.approx(logprobs_V[int(token_A[row])], abs=1e-5)


@pytest.mark.parametrize(
    ("rule", "warpers"),
    [
        ({"top_k": 7}, [TopKLogitsWarper(7)]),
        ({"top_k": 500}, [TopKLogitsWarper(500)]),
        ({"top_p": 0.7}, [TopPLogitsWarper(0.7)]),
        ({"top_p": 0.999}, [TopPLogitsWarper(0.999)]),
        ({"top_k": 20, "top_p": 0.8}, [TopKLogitsWarper(20), TopPLogitsWarper(0.8)]),
    ],
)
@pytest.mark.parametrize("first_largest", [1, 9, 256])
def test_draws_are_those_of_what_transformers_keeps(monkeypatch, rule, warpers, first_largest: int):
    monkeypatch.setattr(drawing, "FIRST_LARGEST", first_largest)
    logits_AV = logits_of(40, 300)
    kept_AV = LogitsProcessorList(warpers)(None, logits_AV).double().softmax(-1)
    uniform_A = torch.rand(40, generator=torch.Generator().manual_seed(1))
    token_A, logprob_A = draw(logits_AV, uniform_A, Sampling(1, 1.0, **rule))
    expected_A1 = torch.searchsorted(kept_AV.cumsum(-1), uniform_A.double()[:, None], right=True)
    assert token_A.tolist() == expected_A1[:, 0].tolist()
    torch.testing.assert_close(logprob_A, logits_AV.log_softmax(-1).gather(1, expected_A1)[:, 0])


def test_equals_of_the_last_one_that_stays_in_stay_in():
    logits_AV = torch.tensor([[0.0, 1.0, 0.0, -1.0]])
    for rule in ({"top_k": 2}, {"top_p": 0.6}):  # e / (e + 2 + 1/e) = .53, so one of the two zeros is needed
        drawn = {int(draw(logits_AV, torch.tensor([u]), Sampling(1, 1.0, **rule))[0]) for u in np.linspace(0, 0.99, 30)}
        assert drawn == {0, 1, 2}


@pytest.mark.parametrize("size", [3, 64, 200])
def test_the_ends_of_the_uniform_numbers_never_draw_an_impossible_token(size: int):
    logits_AV = torch.full((2, size), -torch.inf)
    logits_AV[:, 1:3] = logits_of(2, 2)
    token_A, _ = draw(logits_AV, torch.tensor([0.0, 1.0]), Sampling(1, 1.0))
    assert token_A.tolist() == [1, 2]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_show_in_the_logprob(value: float, temperature: float):
    logits_AV = logits_of(3, 100)
    logits_AV[1, 70] = value
    _, logprob_A = draw(logits_AV, torch.tensor([0.1, 0.5, 0.9]), Sampling(1, temperature))
    assert logprob_A.isfinite().tolist() == [True, False, True]
