"""Benchmarks that any recipe may run, whatever its world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from instructloop.evals import benchmark as b


@dataclass(frozen=True, slots=True)
class HeldOutLoss:
    """Loss on text that no model was trained on, nats per token: what PPO forgets of pretraining."""

    name: str
    title: str
    paper: str | None
    texts: Sequence[str]

    def run(self, policy: b.PolicyLike) -> list[b.Measure]:
        """Return the loss."""
        return [b.Measure("nats_per_token", "", b.held_out_loss(policy.logprobs, self.texts), self.paper)]
