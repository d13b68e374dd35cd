"""The last layer is computed where somebody looks; what is looked at, and its gradient, stay what they were."""

import pytest
import torch
from torch import nn

from instructloop.models import last_layer
from instructloop.models.hidden import FAMILIES, hidden_at
from instructloop.models.last_layer import last_layer_for
from instructloop.models.lm import disable_dropout
from instructloop.models.recomputing import recompute_activations
from tests.tiny import tiny_lm

TOKENS_BT = torch.arange(3, 27).reshape(2, 12)
WANTED_M = torch.tensor([5, 11, 11, 23])  # a token may be asked for twice


def hidden_and_gradients(transformer: nn.Module, *, narrowed: bool) -> list[torch.Tensor]:
    transformer.zero_grad()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(last_layer, "WORTH_FRACTION", 0.8 if narrowed else 0.0)
        with last_layer_for(transformer, WANTED_M, TOKENS_BT.numel()):
            hidden_MD = transformer(TOKENS_BT).last_hidden_state.flatten(0, 1)[WANTED_M]
    (hidden_MD * torch.linspace(-1, 1, hidden_MD.shape[1])).sum().backward()
    return [hidden_MD, *(one.grad if one.grad is not None else torch.zeros(()) for one in transformer.parameters())]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "qwen3", "gemma"])
def test_hidden_states_and_gradients_are_those_of_the_whole_layer(family: str):
    model, _ = tiny_lm(family)
    disable_dropout(model)
    transformer = model.base_model
    for ours, plain in zip(
        hidden_and_gradients(transformer, narrowed=True),
        hidden_and_gradients(transformer, narrowed=False),
        strict=True,
    ):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


def tokens_seen(transformer: nn.Module, wanted_BT: torch.Tensor) -> list[int]:
    """Return how many tokens the MLP of each layer computes."""
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        plain = type(transformer.layers[0].mlp).forward
        patch.setattr(
            type(transformer.layers[0].mlp),
            "forward",
            lambda self, x: (seen.append(x[..., 0].numel()), plain(self, x))[1],
        )
        hidden_at(transformer, TOKENS_BT, torch.ones_like(TOKENS_BT, dtype=torch.bool), wanted_BT)
    return seen


def test_only_what_is_wanted_is_computed_and_all_where_most_is():
    model, _ = tiny_lm()
    column_T = torch.arange(12)
    assert tokens_seen(model.model, (column_T == 11).expand(2, -1))[-1] == 2
    assert tokens_seen(model.model, (column_T == 11).expand(2, -1))[0] == 24
    assert tokens_seen(model.model, (column_T > 0).expand(2, -1))[-1] == 24


def test_where_layers_are_computed_again_the_last_one_is_not_and_the_gradients_have_the_same_bits():
    (plain, _), (again, _) = tiny_lm(), tiny_lm()
    for model in (plain, again):
        disable_dropout(model)
    recompute_activations(again)
    assert tokens_seen(again.model, (torch.arange(12) == 11).expand(2, -1))[-1] == 2
    assert again.model.layers[-1].gradient_checkpointing
    both = [hidden_and_gradients(model.model, narrowed=True) for model in (plain, again)]
    assert all(torch.equal(*pair) for pair in zip(*both, strict=True))


def test_modules_are_left_as_they_were_after_an_error_too():
    model, _ = tiny_lm()
    with pytest.raises(IndexError), last_layer_for(model.model, WANTED_M, 24):
        model.model.layers[-1].mlp(torch.zeros(1, 3, 32))  # fewer tokens than were said
    assert not any("forward" in vars(module) for module in model.modules())


def test_every_packed_family_has_a_last_layer_that_is_known():
    for family in FAMILIES & {"gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma"}:
        parts = last_layer._parts(last_layer.layers_of(tiny_lm(family)[0].base_model)[-1])
        assert len(parts) >= 2, family  # MLP and the attention's output
