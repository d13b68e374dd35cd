"""Numbers that are not finite, named before they do harm: losses, gradients, weights, tensors of a rollout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from instructloop.models.masters import master, trained

ADVICE = (
    "The last checkpoint is as it was, and the same command resumes from it; if that ends here again, "
    "lower the learning rate or set max_grad_norm"
)


class NotFinite(ValueError):
    """A loss, a gradient, a weight or a rollout holds NaN or infinity; nothing was learned from it or kept of it."""


def require_finite_step(model: nn.Module, loss: float, norms: Iterable[Tensor], where: Callable[[], str]) -> None:
    """Raise NotFinite, naming a tensor, unless the loss of a step and the norms of its gradients are finite.

    The culprit is looked for in the order of what causes what: weights, loss, gradients.
    """
    if math.isfinite(loss) and all(map(math.isfinite, map(float, norms))):
        return
    masters = [(name, master(p)) for name, p in model.named_parameters()]
    weight = _first(masters)
    gradient = _first((name, p.grad) for name, p in masters if p.grad is not None)
    if weight is not None:
        culprit = f"the weight {weight} is not finite, and so the loss is {loss}"
    elif not math.isfinite(loss):
        culprit = f"the loss is {loss}, though every weight is finite"
    elif gradient is not None:
        culprit = f"the gradient of {gradient} is not finite"
    else:
        culprit = "the norm of the gradient is not finite, though every gradient is"
    raise NotFinite(f"{culprit}, {where()}; no optimizer step was made. {ADVICE}")


def require_finite_weights(model: nn.Module, when: str) -> None:
    """Raise NotFinite, naming the first of them, unless every trained weight is finite: one pass over them."""
    total = torch.nn.utils.get_total_norm([parameter.detach() for parameter in trained(model).values()])
    if math.isfinite(float(total)):
        return
    name = _first(trained(model).items())
    if name is not None:  # else only the norm overflowed
        raise NotFinite(f"the weight {name} is not finite {when}; nothing of it was kept. {ADVICE}")


def require_finite_rows(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise NotFinite, naming the first tensor and its rows (first dimension), unless all are finite."""
    for name, tensor in tensors.items():
        bad_B = ~tensor.isfinite().reshape(len(tensor), -1).all(1)
        if bool(bad_B.any()):
            rows = ", ".join(map(str, bad_B.nonzero()[:8, 0].tolist()))
            raise NotFinite(f"{name} is not finite in row {rows} of {where}; nothing was learned from it. {ADVICE}")


def _first(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    return next((name for name, tensor in tensors if not bool(tensor.isfinite().all())), None)
