"""Models that compute in bfloat16 with float32 masters: gradients, small updates, what is saved, what is put back."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from instructloop.models.lm import completion_logprobs, load_lm, save_lm
from instructloop.models.masters import MasterState, as_masters, lower, master, round_masters
from instructloop.models.scalar import ScalarModel
from instructloop.train.device import to_training_device
from instructloop.train.language import adam
from tests.tiny import tiny_lm

BF16 = torch.bfloat16


def lowered(**kind) -> tuple:
    model, text = tiny_lm(**kind)
    lower(model, BF16)
    return model, text


def move(model: nn.Module, by: float) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            master(weight).add_(by)
    round_masters(model)


def test_weights_are_rounded_masters_are_not_and_frozen_weights_have_none():
    model, _ = tiny_lm()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    frozen = model.model.layers[0].mlp.up_proj.weight.requires_grad_(False)
    lower(model, BF16)
    for name, weight in model.named_parameters():
        assert weight.dtype == BF16
        assert torch.equal(weight, before[name].to(BF16))
        assert weight is frozen or torch.equal(master(weight), before[name])
    assert master(frozen) is frozen
    assert buffers
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())  # rotary frequencies


def test_in_float32_a_weight_is_its_own_master():
    model, _ = tiny_lm()
    lower(model, torch.float32)
    assert all(master(weight) is weight for weight in model.parameters())


def test_the_head_of_a_reward_model_stays_float32_and_its_scores_too():
    model, text = ScalarModel.from_lm(*tiny_lm(), seed=1)
    to_training_device(model, "bfloat16")
    assert model.head.weight.dtype == model.bias.dtype == torch.float32
    assert model.model.base_model.dtype == BF16
    tokens_BT, attention_BT = text.pad_right([[5, 6, 7], [8, 9]])
    assert model.score(tokens_BT, attention_BT).dtype == torch.float32


def test_gradients_of_micro_batches_add_up_in_float32():
    layer = nn.Linear(1, 1, bias=False)
    lower(layer, BF16)
    layer(torch.tensor([[256.0]], dtype=BF16)).sum().backward()
    for _ in range(10):
        layer(torch.tensor([[0.5]], dtype=BF16)).sum().backward()
    # Beside 256 bfloat16 steps by 2: there ten halves are nothing, one after the other.
    assert layer.weight.grad is None
    assert master(layer.weight).grad.item() == 256 + 10 * 0.5


def test_updates_smaller_than_bfloat16_can_show_are_not_lost():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    lower(layer, BF16)
    optimizer = adam(layer.parameters(), 1e-4, betas=(0.9, 0.95), weight_decay=0.0)
    shown = []
    for _ in range(60):  # under a constant gradient Adam steps by its rate: 1 -> .994
        optimizer.zero_grad()
        layer(torch.tensor([[1.0]], dtype=BF16)).sum().backward()
        optimizer.step()
        round_masters(layer)
        shown.append(layer.weight.item())
    assert master(layer.weight).item() == pytest.approx(1 - 60e-4, abs=1e-6)
    # Below 1 bfloat16 steps by 1 / 256 = .0039: a single update is never seen, twenty of them are.
    assert shown[0] == 1.0
    assert sorted(set(shown)) == [1 - 2 / 256, 1 - 1 / 256, 1.0]


def test_the_gradient_of_two_micro_batches_is_that_of_the_whole_up_to_rounding():
    tokens_BT = torch.arange(48).reshape(4, 12) + 3
    attention_BT = torch.ones_like(tokens_BT, dtype=torch.bool)

    def gradient(dtype: torch.dtype, rows: int) -> torch.Tensor:
        model, _ = tiny_lm()
        lower(model, dtype)
        for part in range(0, 4, rows):
            index = slice(part, part + rows)
            completion_logprobs(model, tokens_BT[index], attention_BT[index], 6, temperature=1.0).sum().backward()
        return torch.cat([master(weight).grad.flatten() for weight in model.parameters()])

    exact, whole, split = gradient(torch.float32, 4), gradient(BF16, 4), gradient(BF16, 2)
    # bfloat16 has 8 bits: each number is off by 2^-9 = .2 %, a gradient through two layers by a few per cent.
    assert float((split - whole).norm() / whole.norm()) < 0.03
    assert float((whole - exact).norm() / exact.norm()) < 0.06
    assert float((split - exact).norm() / exact.norm()) < 0.06


@pytest.mark.parametrize(("architecture", "tied"), [("llama", True), ("llama", False), ("gpt2", True)])
def test_what_is_saved_are_the_masters_and_in_bfloat16_the_model_itself(tmp_path: Path, architecture: str, tied: bool):
    model, text = lowered(architecture=architecture, tied=tied)
    move(model, 1e-5)
    save_lm(model, text, tmp_path)
    assert all(weight.dtype == BF16 for weight in model.parameters())
    full, _ = load_lm(tmp_path)
    assert all(torch.equal(a, master(b)) for a, b in zip(full.parameters(), model.parameters(), strict=True))
    same, _ = load_lm(tmp_path, BF16)
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), model.parameters(), strict=True))
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert plain.dtype == torch.float32
    tokens_BT = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(plain(tokens_BT).logits, full(tokens_BT).logits)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_saved_reward_model_scores_as_its_masters_do(tmp_path: Path, architecture: str):
    model, text = ScalarModel.from_lm(*tiny_lm(architecture), seed=1)
    to_training_device(model, "bfloat16")
    move(model, 1e-5)
    tokens_BT = torch.tensor([[5, 6, 7, 8]])
    attention_BT = torch.ones_like(tokens_BT, dtype=torch.bool)
    with as_masters(model):
        expected = model.score(tokens_BT, attention_BT).item()
    model.save(tmp_path, text)
    again, _ = ScalarModel.load(tmp_path)
    assert again.score(tokens_BT, attention_BT).item() == pytest.approx(expected, abs=1e-5)
    if architecture == "gpt2":  # whose final norm holds the head's bias
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
        assert plain(tokens_BT).logits.item() == pytest.approx(expected, abs=1e-5)


def test_a_state_put_back_gives_masters_and_weights_bit_for_bit():
    model, _ = lowered()
    move(model, 1e-4)
    state = {name: tensor.clone() for name, tensor in MasterState(model).state_dict().items()}
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    other, _ = lowered(seed=1)
    held = [master(weight) for weight in other.parameters()]
    MasterState(other).load_state_dict(state)
    for a, b, c in zip(model.parameters(), other.parameters(), held, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(master(a), master(b))
        assert master(b) is c  # the optimizer holds it


def test_after_a_save_gradients_still_reach_the_masters(tmp_path: Path):
    model, text = lowered()
    tokens_BT = torch.tensor([[5, 6, 7, 8]])
    model(tokens_BT).logits.float().sum().backward()
    before = [master(weight).grad.clone() for weight in model.parameters()]
    save_lm(model, text, tmp_path)
    model(tokens_BT).logits.float().sum().backward()
    for weight, gradient in zip(model.parameters(), before, strict=True):
        assert weight.grad is None
        assert torch.equal(master(weight).grad, 2 * gradient)
