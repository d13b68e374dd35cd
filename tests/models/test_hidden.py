"""Packed rows give what padded rows give, value and gradient, in every family that is packed; nothing leaks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from instructloop.models import attention, hidden
from instructloop.models.hidden import is_packable
from instructloop.models.lm import completion_logprobs, save_lm
from instructloop.models.scalar import ScalarModel
from tests.tiny import tiny_lm

FAMILY = pytest.mark.parametrize("family", sorted(hidden.FAMILIES))
PROMPTS = [[10, 11, 12], [70], [20], [30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41], [50, 51], [60, 61, 62, 63]]
COMPLETIONS = [[13, 14, 0], [], [21, 22, 23, 24, 25, 26, 27, 28, 29, 0], [], [52], [64, 65, 66, 67, 0]]


def gradients(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()])


def measured(model: torch.nn.Module, numbers: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return numbers and the gradient of a sum of them that weighs each otherwise."""
    model.zero_grad()
    found = numbers()
    (found * torch.linspace(-1, 2, found.numel()).view_as(found)).sum().backward()
    return found.detach(), gradients(model)


def must_be_equal(model: torch.nn.Module, numbers: Callable[[], torch.Tensor], patch: pytest.MonkeyPatch) -> None:
    """Packed and padded (transformers' own attention under its own mask) give the same numbers and gradients."""
    found, gradient = measured(model, numbers)
    with patch.context() as padded:
        padded.setattr(hidden, "FAMILIES", frozenset())
        expected, expected_gradient = measured(model, numbers)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    largest = float(expected_gradient.abs().max())
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-5 * max(largest, 1.0), rtol=1e-5)
    assert largest > 0.1


@FAMILY
@pytest.mark.parametrize("tied", [True, False])
def test_logprobs_and_their_gradient_are_those_of_padded_rows(family: str, tied: bool, monkeypatch: pytest.MonkeyPatch):
    model, text = tiny_lm(family, tied=tied)
    assert is_packable(model)
    tokens_BT, attention_BT, mask_BC = text.pad_left_right(PROMPTS, COMPLETIONS)
    must_be_equal(
        model,
        lambda: completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=0.7)[mask_BC],
        monkeypatch,
    )


@FAMILY
def test_scores_and_values_and_their_gradient_are_those_of_padded_rows(family: str, monkeypatch: pytest.MonkeyPatch):
    try:
        model, text = ScalarModel.from_lm(*tiny_lm(family), seed=1)
    except ValueError:
        pytest.skip("no sequence-classification sister")
    tokens_BT, attention_BT, mask_BC = text.pad_left_right(PROMPTS, COMPLETIONS)
    width = mask_BC.shape[1]
    for numbers in (  # the head of `[70]` and nothing has no completion, but a score
        lambda: model.score(tokens_BT, attention_BT),
        lambda: model.per_token(tokens_BT, attention_BT)[attention_BT],
        lambda: model.per_token(tokens_BT, attention_BT, last=width)[mask_BC],
    ):
        must_be_equal(model, numbers, monkeypatch)


RANKED = {
    0: [[10, 11, 12, 13, 14, 0], [10, 11, 12, 15, 0], [10, 11, 12, 0], [10, 11, 12, 16, 17, 18, 19, 0]],
    1: [[20, *range(30, 50), 21, 0], [20, *range(30, 50), 22, 23, 0], [20, *range(30, 50), 24, 25, 0]],
    2: [[10, 50, 0], [10, 51, 0]],  # begins like those of another prompt
    3: [[60, 0], [61, 0]],
}


@FAMILY
@pytest.mark.parametrize("is_fused", [False, True])
def test_scores_with_a_shared_prompt_are_those_of_whole_rows(
    family: str, is_fused: bool, monkeypatch: pytest.MonkeyPatch
):
    try:
        model, text = ScalarModel.from_lm(*tiny_lm(family), seed=1)
    except ValueError:
        pytest.skip("no sequence-classification sister")
    if is_fused:
        monkeypatch.setattr(attention, "FUSED_BYTES", 0)
    numbered = [(number, row) for number, rows in RANKED.items() for row in rows]
    numbered = numbered[::2] + numbered[1::2]  # prompts in any order
    prompt_B = torch.tensor([number for number, _ in numbered])
    for tokens_BT, attention_BT in (
        text.pad_right([row for _, row in numbered]),
        text.pad_left([row for _, row in numbered]),
    ):
        must_be_equal(model, lambda: model.score(tokens_BT, attention_BT, prompt_B), monkeypatch)  # noqa: B023


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
def test_fused_attention_of_long_rows_gives_the_same(family: str, monkeypatch: pytest.MonkeyPatch):
    model, text = tiny_lm(family)
    monkeypatch.setattr(attention, "FUSED_BYTES", 0)
    tokens_BT, attention_BT, mask_BC = text.pad_left_right(PROMPTS, COMPLETIONS)
    must_be_equal(
        model,
        lambda: completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)[mask_BC],
        monkeypatch,
    )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradient_checkpointing_repeats_the_packed_call(family: str):
    model, text = tiny_lm(family)
    tokens_BT, attention_BT, mask_BC = text.pad_left_right(PROMPTS, COMPLETIONS)

    def numbers() -> torch.Tensor:
        return completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)[mask_BC]

    found, gradient = measured(model, numbers)
    model.train()
    model.activation_checkpointing_enable()
    num_calls = []
    layer = next(module for module in model.modules() if isinstance(module, torch.nn.ModuleList))[0]
    next(layer.children()).register_forward_pre_hook(lambda *_: num_calls.append(1))
    again, gradient_again = measured(model, numbers)
    assert len(num_calls) == 2  # forward, and once more in the backward pass
    torch.testing.assert_close(again, found)
    torch.testing.assert_close(gradient_again, gradient)


def test_padding_is_not_computed_nor_what_predicts_nothing():
    model, text = tiny_lm()
    tokens_BT, attention_BT, mask_BC = text.pad_left_right(PROMPTS, COMPLETIONS)
    shapes: list[tuple[int, ...]] = []
    model.model.layers[0].register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[:2])))
    completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)
    needed = [len(p) + len(c) - 1 for p, c in zip(PROMPTS, COMPLETIONS, strict=True) if c]
    assert shapes == [(1, sum(needed))]


def test_rows_without_padding_stay_rows_in_float32_and_are_packed_in_bfloat16():
    model, _ = tiny_lm()
    tokens_BT = torch.arange(10, 22).reshape(3, 4)
    shapes: list[tuple[int, ...]] = []
    model.model.layers[0].register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[:2])))
    full_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
    found_BC = completion_logprobs(model, tokens_BT, full_BT, 3, temperature=1.0)
    expected_TV = model(tokens_BT[:1, :3]).logits[0].log_softmax(-1)
    completion_logprobs(model.bfloat16(), tokens_BT, full_BT, 3, temperature=1.0)
    assert shapes == [(3, 3), (1, 3), (1, 9)]
    torch.testing.assert_close(found_BC[0], expected_TV[[0, 1, 2], tokens_BT[0, 1:]], atol=1e-5, rtol=0)


def test_nothing_to_predict_has_a_gradient_of_zero():
    for family in ("llama", "gemma2"):
        model, text = tiny_lm(family)
        tokens_BT, attention_BT, mask_BC = text.pad_left_right([[1], [2]], [[], [5]])
        none_BT = attention_BT & (torch.arange(2) < 1)
        logprobs_BC = completion_logprobs(model, tokens_BT, none_BT, 1, temperature=1.0)
        torch.where(mask_BC & False, logprobs_BC, 0).sum().backward()
        assert not gradients(model).any()


def test_a_model_whose_rows_were_packed_is_otherwise_as_before(tmp_path: Path):
    model, text = tiny_lm("mistral")
    tokens_BT, attention_BT, mask_BC = text.pad_left_right(PROMPTS, COMPLETIONS)
    before = model(tokens_BT, attention_mask=attention_BT).logits[attention_BT]
    completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)
    assert torch.equal(model(tokens_BT, attention_mask=attention_BT).logits[attention_BT], before)
    save_lm(model, text, tmp_path)
    assert f'"{attention.NAME}"' not in (tmp_path / "config.json").read_text()
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_packed_rows_under_another_attention_are_an_error_and_no_leak(family: str):
    model, text = tiny_lm(family)
    tokens_BT, attention_BT = text.pad_right([[1, 2, 3], [4, 5]])
    arguments, _ = hidden._packed(model.base_model, tokens_BT, attention_BT, attention_BT, None)
    model.config._attn_implementation = "sdpa"
    with pytest.raises(RuntimeError):
        model.base_model(**arguments)


def test_bfloat16_rows_are_as_exact_packed_as_padded(monkeypatch: pytest.MonkeyPatch):
    model, text = tiny_lm(width=64)
    tokens_BT, attention_BT, mask_BC = text.pad_left_right(PROMPTS, COMPLETIONS)

    def numbers() -> torch.Tensor:
        return completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)[mask_BC]

    exact, exact_gradient = measured(model, numbers)
    model.bfloat16()
    errors = []
    for families in (hidden.FAMILIES, frozenset()):
        monkeypatch.setattr(hidden, "FAMILIES", families)
        found, gradient = measured(model, numbers)
        errors.append((float((found - exact).norm()), float((gradient.float() - exact_gradient).norm())))
    (packed, packed_gradient), (padded, padded_gradient) = errors
    assert packed < 1.5 * padded
    assert packed_gradient < 1.5 * padded_gradient


@pytest.mark.parametrize("family", ["gemma2", "gpt2"])
def test_rows_that_are_not_packed_may_be_padded_on_any_side(family: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hidden, "FAMILIES", hidden.FAMILIES - {"gpt2"})  # its positions are learned
    model, text = tiny_lm(family)
    assert not is_packable(model)
    tokens_BT, attention_BT, mask_BC = text.pad_left_right(PROMPTS, COMPLETIONS)
    found_BC = completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)
    for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
        logprobs_TV = model(torch.tensor([[*prompt, *completion]])).logits[0].log_softmax(-1)
        expected = [logprobs_TV[len(prompt) + i - 1, token].item() for i, token in enumerate(completion)]
        assert found_BC[row][mask_BC[row]].tolist() == pytest.approx(expected, abs=2e-5)
