"""PPO and PPO-ptx as a stream and a loss: rollouts cut into shuffled minibatches, beside each its pretraining text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from instructloop.core.batches import LMBatch, Rollout
from instructloop.core.losses import ppo_policy_loss, value_loss
from instructloop.core.masked import Sum
from instructloop.core.returns import AdaptiveKL, FixedKL
from instructloop.models.lm import completion_logprobs
from instructloop.models.scalar import ScalarModel
from instructloop.train.finite import require_finite_rows, require_finite_weights
from instructloop.train.language import batch_loss
from instructloop.train.loop import Counts, Metrics, Task
from instructloop.train.on_policy import Dtype, FirstMinibatch
from instructloop.train.rollouts import Actors, Episodes, Rules, collect, token_values
from instructloop.train.streams import Windows, derived_seed, permutation
from instructloop.train.trim import micro_batches


class PPORules(Rules, Protocol):
    """The settings of PPO; stage 7's Config has them."""

    @property
    def num_iterations(self) -> int: ...
    @property
    def episodes_per_iteration(self) -> int: ...
    @property
    def num_minibatches(self) -> int: ...
    @property
    def inner_epochs(self) -> int: ...
    @property
    def clip_ratio(self) -> float: ...
    @property
    def clip_value(self) -> float: ...
    @property
    def ptx_coef(self) -> float: ...
    @property
    def num_ptx_rows(self) -> int: ...
    @property
    def micro_batch_rows(self) -> int | None: ...
    @property
    def dtype(self) -> Dtype: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class PPOBatch:
    """A minibatch of episodes with its pretraining text; cut into micro-batches, a piece has one of the two."""

    rollout: Rollout | None
    text: LMBatch | None
    is_first: bool = False  # of its rollout, so that the policy is still the one that sampled
    is_last_piece: bool = False  # of the minibatch's episodes
    metrics: Metrics = field(default_factory=dict[str, Any])  # of the rollout, with its first minibatch


class Iterations:
    """The stream of PPO: each iteration samples from the live policy, then gives its minibatches.

    Every random number comes from the seed and the iteration, so the state is the iteration, the text's position, the
    KL coefficient and whether somebody stopped it; it is whole at the end of an iteration only.
    """

    def __init__(
        self,
        actors: Actors,
        prompts: Sequence[Sequence[int]],
        windows: Windows | None,
        kl_control: FixedKL | AdaptiveKL,
        rules: PPORules,
        *,
        on_rollout: Callable[[int, list[int], Episodes], None],
        cut_prompts: Collection[int] = (),
    ):
        self.actors = actors
        self.prompts = prompts
        self.windows = windows
        self.kl_control = kl_control
        self.rules = rules
        self.on_rollout = on_rollout  # hears iteration (from 1), numbers of the prompts, episodes
        self.cut_prompts = cut_prompts  # numbers of those that lost text at their start
        self.num_done = 0
        self.num_given = 0  # minibatches of the rollout at hand
        self.is_stopped = False
        self.is_resumable = True
        self._order: tuple[int, list[int]] = (-1, [])

    @property
    def steps_per_iteration(self) -> int:
        """Optimizer steps of one rollout."""
        return self.rules.num_minibatches * self.rules.inner_epochs

    def __len__(self) -> int:
        return self.rules.num_iterations * self.steps_per_iteration

    @property
    def place(self) -> str:
        """Return which minibatch of which rollout was given last."""
        iteration = self.num_done + (not self.is_resumable)
        return f"minibatch {self.num_given} of {self.steps_per_iteration} of rollout {iteration}"

    def stop(self) -> None:
        """Give no further rollout."""
        self.is_stopped = True

    def __iter__(self) -> Iterator[PPOBatch]:
        while self.num_done < self.rules.num_iterations and not self.is_stopped:
            self.is_resumable = False
            episodes = self._collect()
            minibatches = self._minibatches()
            for number, index in enumerate(minibatches):
                self.num_given = number + 1
                if number == len(minibatches) - 1:
                    self.num_done += 1
                    self.is_resumable = True
                yield PPOBatch(
                    episodes.rollout.rows(index.to(episodes.rollout.tokens_BT.device)),
                    self.windows.take(self.rules.num_ptx_rows) if self.windows else None,
                    is_first=number == 0,
                    metrics=episodes.metrics if number == 0 else {},
                )

    def _collect(self) -> Episodes:
        """Sample the next prompts in the seed's order, pass after pass, and steer the KL coefficient."""
        number = self.rules.episodes_per_iteration
        require_finite_weights(self.actors.learners, f"before rollout {self.num_done + 1}")
        chosen = [self._prompt(self.num_done * number + row) for row in range(number)]
        seeds = [derived_seed(self.rules.seed, "sample", self.num_done, row) for row in range(number)]
        episodes = collect(
            self.actors, [self.prompts[i] for i in chosen], seeds, self.rules, kl_coef=self.kl_control.value
        )
        self._require_finite(episodes)
        cut = sum(prompt in self.cut_prompts for prompt in chosen)
        episodes.metrics["completion/num_truncated_prompts"] = Sum(cut, 1.0)
        self.on_rollout(self.num_done + 1, chosen, episodes)
        self.kl_control.update(float(episodes.metrics["objective/kl"]), number)
        return episodes

    def _require_finite(self, episodes: Episodes) -> None:
        """Name the network whose number is not finite before anything is learned from it."""
        rollout = episodes.rollout
        of = {
            "score_B (reward model)": episodes.score_B,
            "logprobs_BC (policy)": rollout.logprobs_BC,
            "kl_B (policy and reference)": episodes.kl_B,
            "value_BC (value function)": torch.where(rollout.mask_BC, rollout.value_BC, 0.0),
            "advantage_BC": rollout.advantage_BC,
        }
        require_finite_rows(of, f"rollout {self.num_done + 1}")

    def _prompt(self, position: int) -> int:
        turn, place = divmod(position, len(self.prompts))
        if self._order[0] != turn:
            self._order = (turn, permutation(len(self.prompts), derived_seed(self.rules.seed, "prompts", turn)))
        return self._order[1][place]

    def _minibatches(self) -> list[Tensor]:
        """Return the rows of each minibatch, shuffled anew in every inner epoch."""
        number = self.rules.episodes_per_iteration
        orders = (
            permutation(number, derived_seed(self.rules.seed, "minibatches", self.num_done, epoch))
            for epoch in range(self.rules.inner_epochs)
        )
        return [part for order in orders for part in torch.tensor(order).chunk(self.rules.num_minibatches)]

    def state_dict(self) -> dict[str, Any]:
        assert self.is_resumable, "PPO resumes at the end of an iteration only"
        text = {"windows": self.windows.state_dict()} if self.windows else {}
        done = {"num_done": self.num_done, "is_stopped": self.is_stopped}
        return {**done, "kl_control": self.kl_control.state_dict(), **text}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.num_done, self.is_stopped = state["num_done"], state["is_stopped"]
        self.kl_control.load_state_dict(state["kl_control"])
        if self.windows:
            self.windows.load_state_dict(state["windows"])


def ppo_task(stream: Iterations, learners: nn.ModuleDict, rules: PPORules) -> Task[PPOBatch]:
    """Return the task of eq. 2: (policy + value) per completion token + ptx_coef x text loss per text token.

    Both terms are in the gradient of the same optimizer step, each divided by its own count.
    """
    first = FirstMinibatch(rules.dtype)

    def split(batch: PPOBatch) -> list[PPOBatch]:
        episodes = micro_batches(batch.rollout, rules.micro_batch_rows) if batch.rollout else []
        texts = micro_batches(batch.text, rules.micro_batch_rows) if batch.text else []
        pieces = [
            PPOBatch(piece, None, batch.is_first, i == len(episodes) - 1, batch.metrics if i == 0 else {})
            for i, piece in enumerate(episodes)
        ]
        return pieces + [PPOBatch(None, piece) for piece in texts]

    def loss(model: nn.Module, piece: PPOBatch, counts: Counts) -> tuple[Tensor, Metrics]:
        assert isinstance(model, nn.ModuleDict)
        if piece.rollout is not None:
            total, metrics = _episode_loss(model, piece.rollout, rules)
            if piece.is_first:
                metrics = metrics | first.take(metrics, is_last=piece.is_last_piece)
            return total / counts["completion"], metrics | piece.metrics
        assert piece.text is not None
        ptx = batch_loss(model["policy"], piece.text)
        return rules.ptx_coef * torch.as_tensor(ptx.total) / counts["tokens"], {"loss/ptx": ptx.detach()}

    return Task(model=learners, batches=stream, counts=_counts, split=split, loss=loss, num_tokens=_num_tokens)


def _counts(batch: PPOBatch) -> Counts:
    return {
        "completion": float(batch.rollout.mask_BC.sum()) if batch.rollout else 0.0,
        "tokens": float(batch.text.mask_BC.sum()) if batch.text else 0.0,
    }


def _num_tokens(batch: PPOBatch) -> int:
    return sum(int(part.attention_BT.sum()) for part in (batch.rollout, batch.text) if part)


def _episode_loss(model: nn.ModuleDict, rollout: Rollout, rules: PPORules) -> tuple[Tensor, Metrics]:
    """Return the summed policy and value losses; the value network has a rate of its own, so no coefficient."""
    length = rollout.mask_BC.shape[1]
    logprobs_BC = completion_logprobs(
        model["policy"], rollout.tokens_BT, rollout.attention_BT, length, temperature=rules.temperature
    )
    policy, policy_metrics = ppo_policy_loss(
        logprobs_BC, rollout.logprobs_BC, rollout.advantage_BC, rollout.mask_BC, clip_ratio=rules.clip_ratio
    )
    value_model = model["value"]
    assert isinstance(value_model, ScalarModel)
    value_BC = token_values(value_model, rollout.tokens_BT, rollout.attention_BT, length)
    value, value_metrics = value_loss(
        value_BC, rollout.value_BC, rollout.return_BC, rollout.mask_BC, clip_value=rules.clip_value
    )
    losses = {"loss/policy": policy.detach(), "loss/value": value.detach()}
    return torch.as_tensor(policy.total + value.total), losses | policy_metrics | value_metrics
