"""Float32 masters of weights that compute in bfloat16: an optimizer moves the masters, the weights are them, rounded.

Not here: the optimizer. A weight's master hangs on the parameter itself, as `main_param` does in Megatron-LM, so that
whoever has a model has its masters; a parameter without one is its own master.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def lower(model: nn.Module, dtype: torch.dtype, *, keep: Iterable[nn.Parameter] = ()) -> None:
    """Let a model compute in `dtype`: its parameters are rounded, all but `keep`; what is trained gets masters.

    Buffers stay as they are (in bfloat16 rotary frequencies would give wrong positions). The gradient of each backward
    pass is added to the master's in float32 and is gone from the weight. Decide what is trained, and on which device,
    before. Does nothing to weights that have `dtype` already and are frozen.
    """
    kept = {id(parameter) for parameter in keep}
    for weight in model.parameters():
        if id(weight) in kept or not weight.is_floating_point():
            continue
        full = weight.data
        weight.data = full.to(dtype)
        if weight.requires_grad and dtype != torch.float32:
            weight.master = nn.Parameter(full.float())  # pyright: ignore[reportAttributeAccessIssue]
            weight.register_post_accumulate_grad_hook(_hand_over)


def master(weight: nn.Parameter) -> nn.Parameter:
    """Return what the optimizer moves for a weight: its master, or the weight itself."""
    return getattr(weight, "master", weight)


def round_masters(model: nn.Module) -> None:
    """Give every weight that has a master the master's values, rounded: due whenever masters have moved."""
    with torch.no_grad():
        for weight in _mastered(model):
            weight.copy_(master(weight))


@contextmanager
def as_masters(model: nn.Module) -> Generator[nn.Module]:
    """Within, the model's weights are their masters, float32, to save or to load; afterwards rounded anew."""
    weights = _mastered(model)
    rounded = [weight.data for weight in weights]
    for weight in weights:
        weight.data = master(weight).data
    try:
        yield model
    finally:
        for weight, data in zip(weights, rounded, strict=True):
            weight.data = data
        round_masters(model)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return what is trained of a model by name, masters where there are any, a tied weight once."""
    return {name: master(weight) for name, weight in model.named_parameters() if weight.requires_grad}


class MasterState:
    """The state of a model for a checkpoint: masters in place of the weights that have one.

    Of a model that is frozen in part it is what is trained alone: the rest came with the run's parents, by hash.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.is_whole = all(weight.requires_grad for weight in model.parameters())

    def state_dict(self) -> dict[str, Tensor]:
        if not self.is_whole:
            return {name: weight.detach() for name, weight in trained(self.model).items()}
        with as_masters(self.model):
            return self.model.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the weights back; ValueError when more or less of the model was trained, or it was of another shape."""
        if not self.is_whole:
            self._load_trained(state)
            return
        with as_masters(self.model):
            self.model.load_state_dict(state)

    @torch.no_grad()
    def _load_trained(self, state: Mapping[str, Any]) -> None:
        own = trained(self.model)
        if own.keys() != state.keys():
            raise ValueError(f"it holds other weights than those that are trained: {min(own.keys() ^ state.keys())}")
        for name, weight in own.items():
            if weight.shape != state[name].shape:
                raise ValueError(f"{name} is {list(state[name].shape)}, here it is {list(weight.shape)}")
            weight.copy_(state[name])
        round_masters(self.model)


def _mastered(model: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in model.parameters() if master(weight) is not weight]


def _hand_over(weight: Tensor) -> None:
    """Add a gradient that has just been computed to the master's, in float32."""
    assert isinstance(weight, nn.Parameter)
    assert weight.grad is not None
    owner = master(weight)
    if owner.grad is None:
        owner.grad = weight.grad.float()
    else:
        owner.grad.add_(weight.grad)
    weight.grad = None
