"""Whether sampling and learning agree on the first minibatch of a rollout, before any update, up to rounding."""

from __future__ import annotations

from dataclasses import dataclass

from instructloop.core.masked import Sum
from instructloop.train.device import Dtype
from instructloop.train.loop import Metrics


@dataclass(frozen=True, slots=True)
class Rounding:
    """What rounding alone may do to the first minibatch, means over its tokens."""

    ratio: float  # |mean of the ratio - 1|
    approxkl: float  # half the mean square of the log-ratio
    clipfrac: float  # of policy and of value function


ROUNDING: dict[Dtype, Rounding] = {
    "float32": Rounding(1e-3, 1e-6, 0.0),
    # Measured on SmolLM2-135M: docs/decisions/0007-precision.md.
    "bfloat16": Rounding(0.05, 1e-2, 0.1),
}
PRECISE = ". A run with dtype float32 tells rounding from a mistake: there the difference must vanish"
CHECKED = ("policy/ratio", "policy/approxkl", "policy/clipfrac", "value/clipfrac")


class FirstMinibatch:
    """Gathers what the micro-batches of a rollout's first minibatch say, and judges the minibatch before its step."""

    def __init__(self, dtype: Dtype):
        self.dtype: Dtype = dtype
        self.gathered: Metrics = {}

    def take(self, metrics: Metrics, *, is_last: bool) -> Metrics:
        """Take a micro-batch and return what is logged of it; judge them together when it is the last."""
        for name in CHECKED:
            self.gathered[name] = self.gathered.get(name, Sum(0.0, 0.0)) + metrics[name]
        if is_last:
            gathered, self.gathered = self.gathered, {}
            check_on_policy(gathered, self.dtype)
        return {"rollout/ratio": metrics["policy/ratio"], "rollout/approxkl": metrics["policy/approxkl"]}


def check_on_policy(metrics: Metrics, dtype: Dtype) -> None:
    """Refuse to learn from a rollout that the policy as it stands would not have made.

    Before any update the ratio is 1, the KL 0 and nothing clipped, up to rounding. A larger difference means that
    sampling and learning disagree about temperature, masks, positions or dropout, or that the weights were changed.
    """
    allowed = ROUNDING[dtype]
    found = {name: float(metrics[name]) for name in CHECKED}
    is_same = abs(found["policy/ratio"] - 1.0) < allowed.ratio and found["policy/approxkl"] < allowed.approxkl
    if not is_same or max(found["policy/clipfrac"], found["value/clipfrac"]) > allowed.clipfrac:
        raise ValueError(
            "on the first minibatch of a rollout the ratio must be 1, the KL and both clip fractions 0; found "
            + ", ".join(f"{name} {value:.3g}" for name, value in found.items())
            + f", more than rounding in {dtype} explains. Sampling and learning disagree: give both the same"
            " temperature, switch dropout off in policy and value function, keep masks and positions as the rollout has"
            f" them, and change no weight before this step{PRECISE if dtype != 'float32' else ''}"
        )
