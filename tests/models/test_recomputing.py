"""Activations computed again: the same loss and gradients to the last bit, and each layer's forward twice."""

import pytest
import torch

from instructloop.models.lm import completion_logprobs, disable_dropout, residual_dropout
from instructloop.models.masters import lower, master
from instructloop.models.recomputing import recompute_activations
from instructloop.models.scalar import ScalarModel
from tests.tiny import tiny_lm

TOKENS_BT = torch.arange(36).reshape(3, 12) + 3
ATTENTION_BT = torch.ones_like(TOKENS_BT, dtype=torch.bool)


def passes(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return a list that grows by a module whenever an MLP begins its forward pass."""
    seen: list[torch.nn.Module] = []
    for name, module in model.named_modules():
        if name.endswith(".mlp"):
            module.register_forward_pre_hook(lambda module, *_: seen.append(module))  # it may end early
    return seen


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    return [master(weight).grad for weight in model.parameters()]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradients_are_the_same_to_the_last_bit_with_dropout_too(architecture: str, dtype: torch.dtype):
    found = []
    for again in (False, True):
        model, _ = tiny_lm(architecture)
        disable_dropout(model)
        lower(model, dtype)
        model.train()
        if again:
            recompute_activations(model)
        seen = passes(model)
        torch.manual_seed(5)
        with residual_dropout(model, 0.3):
            loss = completion_logprobs(model, TOKENS_BT, ATTENTION_BT, 6, temperature=1.0).sum()
            loss.backward()
        assert len(seen) == (3 if again else 2)  # two layers, the last never twice where few of its tokens are wanted
        found.append((loss, gradients(model)))
    (loss, kept), (same, computed) = found
    assert loss == same
    assert all(torch.equal(a, b) for a, b in zip(kept, computed, strict=True))


def test_a_value_function_can_too():
    found = []
    for again in (False, True):
        model, _ = ScalarModel.from_lm(*tiny_lm(), seed=1)
        if again:
            recompute_activations(model)
        seen = passes(model)
        model.per_token(TOKENS_BT, ATTENTION_BT).sum().backward()
        assert len(seen) == (4 if again else 2)
        found.append(gradients(model))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_no_hook_is_left_that_would_send_sampling_another_way():
    model, _ = tiny_lm()
    recompute_activations(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_weights_after_a_frozen_embedding_get_their_gradients_too():
    model, _ = tiny_lm(tied=False)
    model.get_input_embeddings().requires_grad_(False)
    recompute_activations(model)
    completion_logprobs(model, TOKENS_BT, ATTENTION_BT, 6, temperature=1.0).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)
