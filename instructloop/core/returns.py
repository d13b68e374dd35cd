"""From scores to advantages: KL estimators, per-token shaped rewards, GAE, fixed and adaptive KL coefficient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def _log_ratio(
    logprobs_BC: Float[Tensor, "B C"], ref_logprobs_BC: Float[Tensor, "B C"], mask_BC: Bool[Tensor, "B C"]
) -> Float[Tensor, "B C"]:
    return torch.where(mask_BC, logprobs_BC.float() - ref_logprobs_BC.float(), 0.0)


def kl_k1(
    logprobs_BC: Float[Tensor, "B C"], ref_logprobs_BC: Float[Tensor, "B C"], mask_BC: Bool[Tensor, "B C"]
) -> Float[Tensor, "B C"]:
    """Return log pi - log ref of each sampled token, 0 off the mask: unbiased for KL(pi | ref), can be negative.

    Summed over a row it is the estimate of that episode, in nats; this is the one that the reward uses (eq. 2).
    """
    return _log_ratio(logprobs_BC, ref_logprobs_BC, mask_BC)


def kl_k2(
    logprobs_BC: Float[Tensor, "B C"], ref_logprobs_BC: Float[Tensor, "B C"], mask_BC: Bool[Tensor, "B C"]
) -> Float[Tensor, "B C"]:
    """Return (log pi - log ref)^2 / 2, 0 off the mask: never negative, small variance, biased for distant policies."""
    return 0.5 * _log_ratio(logprobs_BC, ref_logprobs_BC, mask_BC).square()


def kl_k3(
    logprobs_BC: Float[Tensor, "B C"], ref_logprobs_BC: Float[Tensor, "B C"], mask_BC: Bool[Tensor, "B C"]
) -> Float[Tensor, "B C"]:
    """Return ref / pi - 1 - log(ref / pi), 0 off the mask: never negative and unbiased (Schulman 2020)."""
    log_ratio = _log_ratio(logprobs_BC, ref_logprobs_BC, mask_BC)
    return torch.expm1(-log_ratio) + log_ratio


def kl_shaped_rewards(
    score_B: Float[Tensor, " B"],
    logprobs_BC: Float[Tensor, "B C"],
    ref_logprobs_BC: Float[Tensor, "B C"],
    mask_BC: Bool[Tensor, "B C"],
    *,
    kl_coef: float,
) -> Float[Tensor, "B C"]:
    """Return -kl_coef (log pi - log ref) per token, plus the score at the last token of the mask (eq. 2).

    That token is the sampled EOS, or the last one before the budget ran out; 0 off the mask. Constants: no gradient.
    """
    # A row without a sampled token has nowhere to put its score; even an empty completion has its EOS.
    assert bool(mask_BC.any(dim=1).all()), "a completion without any sampled token cannot earn a score"
    with torch.no_grad():
        reward_BC = -kl_coef * _log_ratio(logprobs_BC, ref_logprobs_BC, mask_BC)
        last_B = mask_BC.shape[1] - 1 - mask_BC.flip(1).int().argmax(dim=1)
        return reward_BC.scatter_add(1, last_B[:, None], score_B.float()[:, None])


def gae(
    reward_BC: Float[Tensor, "B C"],
    value_BC: Float[Tensor, "B C"],
    mask_BC: Bool[Tensor, "B C"],
    *,
    gamma: float,
    lam: float,
) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """Return advantage_BC and return_BC = advantage + value, 0 off the mask; constants, not whitened.

    A_t = sum_k (gamma lam)^k (r_{t+k} + gamma v_{t+k+1} - v_{t+k}) over the tokens of the mask alone (Schulman 2016,
    eq. 16): a gap in the mask is skipped, not a state of value 0. The value after the last token is 0.
    """
    with torch.no_grad():
        reward, value = (torch.where(mask_BC, x.float(), 0.0) for x in (reward_BC, value_BC))
        next_value = torch.zeros_like(value[:, 0])
        next_advantage = torch.zeros_like(next_value)
        advantage = torch.zeros_like(value)
        for t in range(value.shape[1] - 1, -1, -1):
            is_real = mask_BC[:, t]
            error = reward[:, t] + gamma * next_value - value[:, t]
            next_advantage = torch.where(is_real, error + gamma * lam * next_advantage, next_advantage)
            next_value = torch.where(is_real, value[:, t], next_value)
            advantage[:, t] = torch.where(is_real, next_advantage, 0.0)
        return advantage, advantage + value


def explained_variance(
    value_BC: Float[Tensor, "B C"], return_BC: Float[Tensor, "B C"], mask_BC: Bool[Tensor, "B C"]
) -> float:
    """Return 1 - var(return - value) / var(return) over the mask: 1 foretells all, 0 no more than the mean does.

    NaN where the returns do not vary: there is nothing to explain.
    """
    target = return_BC.float()[mask_BC]
    error = target - value_BC.float()[mask_BC]
    spread = target.var(correction=0)
    return float(1.0 - error.var(correction=0) / spread) if float(spread) > 0.0 else float("nan")


@dataclass(slots=True)
class FixedKL:
    """The paper's coefficient: a constant (.02). Its unit is score per nat."""

    value: float

    def update(self, kl_per_episode: float, n_episodes: int) -> None:
        """Change nothing, whatever the KL."""

    def state_dict(self) -> dict[str, float]:
        """Return what a checkpoint must hold."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore `state_dict`; ValueError when it comes from a run with another coefficient."""
        if state != self.state_dict():
            raise ValueError(f"kl_coef {self.value} is fixed, but the checkpoint has {state}")


@dataclass(slots=True)
class AdaptiveKL:
    """A coefficient steered toward a KL per episode: the proportional controller of Ziegler 2019, 2.2."""

    value: float
    target: float  # nats per episode: the sum over its tokens, not the mean
    horizon: float | int  # episodes

    def __post_init__(self) -> None:
        for name in ("value", "target", "horizon"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} {getattr(self, name)} of the adaptive KL coefficient must be positive")

    def update(self, kl_per_episode: float, n_episodes: int) -> None:
        """Multiply by 1 + clip(kl / target - 1, -.2, .2) n / horizon; `kl_per_episode` in nats summed over tokens."""
        error = min(max(kl_per_episode / self.target - 1.0, -0.2), 0.2)
        self.value *= 1.0 + error * n_episodes / self.horizon

    def state_dict(self) -> dict[str, float]:
        """Return what a checkpoint must hold."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore `state_dict`: the coefficient goes on from where it had come to."""
        self.value = state["value"]
