"""Muon beside Adam: each does what it does alone, the schedule reaches both, and their state comes back."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from instructloop.train.muon import MuonAdam
from tests.tiny import tiny_lm


def gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def optimizer_of(model: nn.Module) -> MuonAdam:
    return MuonAdam(model, matrix_lr=0.02, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_each_parameter_moves_as_under_its_own_optimizer_alone():
    model, _ = tiny_lm()
    alone, _ = tiny_lm()
    both = optimizer_of(model)
    inside = {name for name, p in alone.named_parameters() if ".layers." in name and p.dim() == 2}
    named = dict(alone.named_parameters())
    parts = [
        torch.optim.Muon([named[name] for name in named if name in inside], lr=0.02, weight_decay=0.1),
        torch.optim.AdamW(
            [named[name] for name in named if name not in inside], lr=1e-3, betas=(0.9, 0.95), weight_decay=0
        ),
    ]
    for seed in range(3):
        gradients(model, seed)
        gradients(alone, seed)
        both.step()
        for part in parts:
            part.step()
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(model)[name], value)
    assert {group["name"] for group in both.param_groups} == {"matrices", "others"}
    assert sum(len(group["params"]) for group in both.param_groups) == len(named)


def test_a_rate_of_nothing_moves_nothing():
    model, _ = tiny_lm()
    optimizer = optimizer_of(model)
    before = weights(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    gradients(model, 0)
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loaded_state_goes_on_as_if_nothing_had_happened():
    model, _ = tiny_lm()
    optimizer = optimizer_of(model)
    gradients(model, 0)
    optimizer.step()
    again, _ = tiny_lm()
    again.load_state_dict(model.state_dict())
    resumed = optimizer_of(again)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))  # as read from a file: nothing shared
    for one, of in ((model, optimizer), (again, resumed)):
        gradients(one, 1)
        of.step()
    assert all(torch.equal(value, weights(model)[name]) for name, value in weights(again).items())
    for group in resumed.param_groups:
        group["lr"] = 0.0
    before = weights(again)
    gradients(again, 2)
    resumed.step()
    assert all(torch.equal(value, before[name]) for name, value in weights(again).items())


def test_a_model_without_layers_is_refused():
    with pytest.raises(ValueError, match="no matrices inside"):
        optimizer_of(nn.Linear(3, 3))
