"""One rollout of PPO: completions of the live policy, scores, values, shaped rewards and advantages; no update."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from instructloop.core.batches import Rollout
from instructloop.core.masked import Sum, masked_sum, whiten
from instructloop.core.returns import explained_variance, gae, kl_k1, kl_shaped_rewards
from instructloop.models.lm import PreTrainedModel, completion_logprobs
from instructloop.models.sampler import Sampler, Samples, sample
from instructloop.models.scalar import ScalarModel
from instructloop.models.text import Text, length_sorted_batches
from instructloop.train.loop import Metrics


class Rules(Protocol):
    """The settings of a rollout; stage 7's Config has them."""

    @property
    def temperature(self) -> float: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def gamma(self) -> float: ...
    @property
    def lam(self) -> float: ...
    @property
    def whiten_rewards(self) -> bool: ...
    @property
    def missing_eos(self) -> Literal["replace", "subtract"]: ...
    @property
    def missing_eos_penalty(self) -> float: ...
    @property
    def forward_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Actors:
    """The four networks of PPO, which share one tokenizer; policy and value function learn, the others are frozen."""

    policy: PreTrainedModel
    value: ScalarModel
    ref: PreTrainedModel
    reward: ScalarModel
    text: Text
    sampler: Sampler = sample  # of rollouts

    @property
    def learners(self) -> nn.ModuleDict:
        """What the optimizer trains and a checkpoint holds."""
        return nn.ModuleDict({"policy": self.policy, "value": self.value})


@dataclass(frozen=True, slots=True)
class Episodes:
    """A rollout with what only people read: score and KL of each episode, and whether it ended by itself."""

    rollout: Rollout
    score_B: Tensor  # as the reward model gave it, before any penalty
    kl_B: Tensor  # nats, summed over the completion
    finished_B: Tensor
    metrics: Metrics


def collect(
    actors: Actors, prompts: Sequence[Sequence[int]], seeds: Sequence[int], rules: Rules, kl_coef: float
) -> Episodes:
    """Return what the live policy does on `prompts` (ids), row b drawn with `seeds[b]`, with everything PPO needs."""
    started = time.perf_counter()
    samples = actors.sampler(
        actors.policy,
        actors.text,
        prompts,
        max_new_tokens=rules.max_new_tokens,
        temperature=rules.temperature,
        seeds=seeds,
    )
    sampled = time.perf_counter()
    ref_logprobs_BC, value_BC, score_B = _judged(actors, samples, rules)
    mask_BC = samples.mask_BC
    earned_B = penalised(score_B, samples.finished_B, rules)
    reward_BC = kl_shaped_rewards(earned_B, samples.logprobs_BC, ref_logprobs_BC, mask_BC, kl_coef=kl_coef)
    if rules.whiten_rewards:
        reward_BC = whiten(reward_BC, mask_BC, shift_mean=False)
    advantage_BC, return_BC = gae(reward_BC, value_BC, mask_BC, gamma=rules.gamma, lam=rules.lam)
    rollout = Rollout(
        samples.tokens_BT,
        samples.attention_BT,
        mask_BC,
        samples.logprobs_BC,
        value_BC,
        whiten(advantage_BC, mask_BC, shift_mean=True),
        return_BC,
    )
    kl_B = kl_k1(samples.logprobs_BC, ref_logprobs_BC, mask_BC).sum(1)
    metrics = _metrics(rollout, score_B, earned_B, kl_B, samples.finished_B, kl_coef)
    metrics["time/rollout"] = Sum(sampled - started, 1.0)
    metrics["time/score"] = Sum(time.perf_counter() - sampled, 1.0)
    return Episodes(rollout, score_B, kl_B, samples.finished_B, metrics)


def penalised(score_B: Tensor, finished_B: Tensor, rules: Rules) -> Tensor:
    """Return the scores that episodes earn: one that never wrote EOS gets -penalty, or its score less the penalty.

    "replace" is Stiennon's and Ziegler's fixed score; "subtract" is what TRL calls missing_eos_penalty.
    """
    penalty = -rules.missing_eos_penalty
    missed_B = torch.full_like(score_B, penalty) if rules.missing_eos == "replace" else score_B + penalty
    return torch.where(finished_B, score_B, missed_B)


def token_values(value: ScalarModel, tokens_BT: Tensor, attention_BT: Tensor, completion_length: int) -> Tensor:
    """Return value_BC: at each completion token, what was expected before it was drawn, from the tokens before."""
    return value.per_token(tokens_BT[:, :-1], attention_BT[:, :-1], last=completion_length)


@torch.no_grad()
def _judged(actors: Actors, samples: Samples, rules: Rules) -> tuple[Tensor, Tensor, Tensor]:
    """Return ref_logprobs_BC, value_BC and score_B."""
    ref_logprobs_BC, value_BC = torch.zeros_like(samples.logprobs_BC), torch.zeros_like(samples.logprobs_BC)
    score_B = torch.zeros_like(samples.logprobs_BC[:, 0])
    for part in parts(samples, actors.text, rules.forward_tokens):
        ref_logprobs_BC[part.rows, : part.width] = completion_logprobs(
            actors.ref, part.tokens_BT, part.attention_BT, part.width, temperature=rules.temperature
        )
        value_BC[part.rows, : part.width] = token_values(actors.value, part.tokens_BT, part.attention_BT, part.width)
        score_B[part.rows] = actors.reward.score(part.closed_BT, part.attention_BT)
    return ref_logprobs_BC, value_BC, score_B


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a rollout, of like length, without the padding that they have beside the others."""

    rows: Tensor
    width: int  # tokens of the longest completion
    tokens_BT: Tensor
    attention_BT: Tensor
    closed_BT: Tensor  # the tokens as the reward model knows them, EOS for whichever stop token ended a row


def parts(samples: Samples, text: Text, max_tokens: int) -> Iterator[Part]:
    """Yield samples in batches of at most `max_tokens` padded tokens, every row once."""
    num_prompt_columns = samples.tokens_BT.shape[1] - samples.mask_BC.shape[1]
    prompt_B, completion_B = samples.attention_BT[:, :num_prompt_columns].sum(1), samples.mask_BC.sum(1)
    for index in length_sorted_batches((prompt_B + completion_B).tolist(), max_tokens=max_tokens):
        rows = torch.tensor(index, device=samples.tokens_BT.device)
        start, width = num_prompt_columns - int(prompt_B[rows].max()), int(completion_B[rows].max())
        tokens_BT = samples.tokens_BT[rows, start : num_prompt_columns + width]
        attention_BT = samples.attention_BT[rows, start : num_prompt_columns + width]
        closed_BT = _closed(tokens_BT, completion_B[rows], samples.finished_B[rows], width, text.eos_id)
        yield Part(rows, width, tokens_BT, attention_BT, closed_BT)


def _closed(tokens_BT: Tensor, length_B: Tensor, finished_B: Tensor, width: int, eos_id: int) -> Tensor:
    """Return the tokens with EOS for whichever stop token ended a row: the reward model knows only that ending."""
    last_B1 = (tokens_BT.shape[1] - width + length_B - 1)[:, None]
    ending_B1 = torch.where(finished_B[:, None], eos_id, tokens_BT.gather(1, last_B1))
    return tokens_BT.scatter(1, last_B1, ending_B1)


def _metrics(
    rollout: Rollout, score_B: Tensor, earned_B: Tensor, kl_B: Tensor, finished_B: Tensor, kl_coef: float
) -> Metrics:
    """Return the metrics of a rollout, means over episodes mostly; KL and entropy are sums over tokens."""
    mask_BC = rollout.mask_BC
    num = float(len(score_B))
    entropy = masked_sum(-rollout.logprobs_BC, mask_BC).total  # an estimate from the sampled tokens
    return {
        "objective/kl": Sum(kl_B.sum(), num),
        "objective/entropy": Sum(entropy, num),
        "objective/scores": Sum(score_B.sum(), num),
        "objective/scores_std": Sum(score_B.std(correction=0), 1.0),
        "objective/non_score_reward": Sum(-kl_coef * kl_B.sum(), num),
        "objective/rlhf_reward": Sum((earned_B - kl_coef * kl_B).sum(), num),
        "completion/length": Sum(mask_BC.float().sum(), num),
        "completion/eos_fraction": Sum(finished_B.float().sum(), num),
        "completion/num_without_eos": Sum((~finished_B).sum(), 1.0),
        "objective/kl_coef": Sum(kl_coef, 1.0),
        "value/explained_variance": Sum(explained_variance(rollout.value_BC, rollout.return_BC, mask_BC), 1.0),
    }
