"""Log-probabilities chunk by chunk are those of one softmax over all logits, value and gradient, and keep less."""

import pytest
import torch

from instructloop.models import head
from instructloop.models.head import plain_head, token_logprobs
from tests.tiny import tiny_lm

NUM_ROWS, WIDTH, VOCABULARY = 7, 4, 11


def drawn(dtype: torch.dtype, *, with_bias: bool) -> tuple[list[torch.Tensor | None], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (NUM_ROWS, WIDTH), (VOCABULARY, WIDTH), (VOCABULARY,)
    found = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
    token_N = torch.randint(VOCABULARY, (NUM_ROWS,), generator=generator)
    return [*found[:2], found[2] if with_bias else None], token_N


@pytest.mark.parametrize("rows_of_a_chunk", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("with_bias", [True, False])
def test_chunks_give_the_softmax_of_all_logits(
    monkeypatch: pytest.MonkeyPatch, rows_of_a_chunk: int, temperature: float, with_bias: bool
):
    monkeypatch.setattr(head, "CHUNK_BYTES", 4 * VOCABULARY * rows_of_a_chunk)
    (hidden_ND, weight_VD, bias_V), token_N = drawn(torch.float32, with_bias=with_bias)
    inputs = [tensor for tensor in (hidden_ND, weight_VD, bias_V) if tensor is not None]
    above_N = torch.linspace(-1, 2, NUM_ROWS)
    found_N = token_logprobs(hidden_ND, weight_VD, bias_V, token_N, temperature=temperature)
    found = torch.autograd.grad(found_N, inputs, above_N)
    logits_NV = torch.nn.functional.linear(hidden_ND, weight_VD, bias_V).double() / temperature
    expected_N = logits_NV.log_softmax(-1)[torch.arange(NUM_ROWS), token_N]
    expected = torch.autograd.grad(expected_N, inputs, above_N.double())
    torch.testing.assert_close(found_N.double(), expected_N, atol=1e-6, rtol=0)
    for gradient, expected_gradient in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=1e-5)


def test_no_row_has_no_gradient_and_frozen_weights_get_none():
    (hidden_ND, weight_VD, _), token_N = drawn(torch.float32, with_bias=False)
    none = token_logprobs(hidden_ND[:0], weight_VD, None, token_N[:0], temperature=1.0)
    none.sum().backward()
    assert not hidden_ND.grad.any()
    assert not weight_VD.grad.any()
    frozen_VD = weight_VD.detach()
    token_logprobs(hidden_ND, frozen_VD, None, token_N, temperature=1.0).sum().backward()
    assert hidden_ND.grad.any()
    assert frozen_VD.grad is None


def test_log_probabilities_are_float32_where_weights_are_not():
    (hidden_ND, weight_VD, _), token_N = drawn(torch.bfloat16, with_bias=False)
    found_N = token_logprobs(hidden_ND, weight_VD, None, token_N, temperature=1.0)
    found_N.sum().backward()
    assert found_N.dtype == torch.float32
    assert weight_VD.grad.dtype == torch.bfloat16
    expected_N = (hidden_ND @ weight_VD.T).float().log_softmax(-1)[torch.arange(NUM_ROWS), token_N]
    torch.testing.assert_close(found_N, expected_N, atol=1e-6, rtol=0)


def test_one_chunk_at_most_is_kept_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(head, "CHUNK_BYTES", 4 * VOCABULARY * 2)
    (hidden_ND, weight_VD, _), token_N = drawn(torch.float32, with_bias=False)
    kept: list[int] = []

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        token_logprobs(hidden_ND, weight_VD, None, token_N, temperature=1.0)
    assert sorted(kept) == sorted([7 * 4, 11 * 4, 7, 1 * 11])  # hidden states, matrix, tokens, a last chunk of one row


@pytest.mark.parametrize(
    ("family", "is_plain"), [("llama", True), ("gpt2", True), ("gemma2", False), ("granite", False), ("cohere", False)]
)
def test_a_head_is_used_alone_only_where_logits_are_what_it_gives(family: str, is_plain: bool):
    model, _ = tiny_lm(family)
    assert (plain_head(model) is not None) == is_plain
    model.get_output_embeddings().register_forward_hook(lambda *_: None)
    assert plain_head(model) is None
