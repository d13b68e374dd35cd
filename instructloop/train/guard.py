"""The guard against over-optimisation: now and then the policy is scored by a reward model it did not learn from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor

from instructloop.core.rankings import Interval, mean_interval
from instructloop.core.returns import kl_k1
from instructloop.models.lm import completion_logprobs
from instructloop.models.sampler import sample
from instructloop.models.scalar import ScalarModel
from instructloop.train.ema import Ema
from instructloop.train.finite import require_finite_rows
from instructloop.train.rollouts import Actors, Rules, parts
from instructloop.train.streams import derived_seed

Action = Literal["warn", "stop", "best"]
"""What follows a warning: nothing; the end of training; its end, and the weights of the best check."""
CONSEQUENCE: Mapping[Action, str] = {
    "warn": "this is a warning only",
    "stop": "training ends here",
    "best": "training ends here and the policy of iteration {best} is kept",
}


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found; the scores stand by prompt, in the same order at every check."""

    iteration: int
    scores: list[float]  # of the held-out reward model
    train_scores: list[float]  # of the one that the policy learns from
    kl: float  # nats per completion (k1)
    length: float  # tokens, the closing stop token among them
    repetition: float
    eos_fraction: float

    @property
    def score(self) -> float:
        """Mean score of the held-out reward model."""
        return fmean(self.scores)

    @property
    def train_score(self) -> float:
        """Mean score of the reward model that the policy learns from."""
        return fmean(self.train_scores)

    def metrics(self) -> dict[str, float]:
        """Return what is logged of a check."""
        return {
            "guard/score": self.score,
            "guard/train_score": self.train_score,
            "guard/kl": self.kl,
            "guard/length": self.length,
            "guard/repetition": self.repetition,
            "guard/eos_fraction": self.eos_fraction,
        }


@dataclass(frozen=True, slots=True)
class Watch:
    """When the guard looks, and what it does."""

    every: int  # iterations; the last one is looked at in any case
    num_iterations: int
    patience: int  # checks without a new best before it acts
    action: Action


class Guard:
    """Follows the averaged policy, which is what a run saves, on prompts that PPO never sees.

    Every check gives the same prompts the same random numbers, so scores are compared prompt by prompt; no other
    random number is touched. What it remembers is part of the checkpoint.
    """

    def __init__(
        self,
        actors: Actors,
        heldout: ScalarModel,
        ema: Ema,
        prompts: Sequence[Sequence[int]],
        rules: Rules,
        *,
        watch: Watch,
        seed: int,
        on_warning: Callable[[str], None],
    ):
        self.actors, self.heldout, self.ema = actors, heldout, ema
        self.prompts, self.rules, self.watch = prompts, rules, watch
        self.seeds = [derived_seed(seed, "guard", row) for row in range(len(prompts))]
        self.on_warning = on_warning
        self.best: Check | None = None
        self.best_weights: dict[str, Tensor] = {}  # for the action "best" alone
        self.num_since_best = 0
        self.has_warned = False  # since the best
        self.warnings: list[str] = []

    @property
    def chosen(self) -> int | None:
        """Return the iteration whose policy the run is to save instead of its last; None: the last."""
        return self.best.iteration if self.best and self.has_warned and self.watch.action == "best" else None

    def after_iteration(self, iteration: int) -> dict[str, float]:
        """Make the check that is due after an iteration (from 1) and return its metrics; nothing when none is due."""
        if iteration % self.watch.every and iteration != self.watch.num_iterations:
            return {}
        started = time.perf_counter()
        with self.ema.applied():
            now = self._look(iteration)
        self.judge(now)
        return {**now.metrics(), "time/guard": time.perf_counter() - started}

    def judge(self, now: Check) -> None:
        """Keep the best check; warn, once since the best, when `now` is over-optimised and the patience at its end."""
        if self.best is None or now.score > self.best.score:
            self.best, self.num_since_best, self.has_warned = now, 0, False
            if self.watch.action == "best":
                self.best_weights = {name: average.cpu().clone() for name, average in self.ema.state_dict().items()}
            return
        self.num_since_best += 1
        change = over_optimisation(self.best, now)
        if change is None or self.has_warned or self.num_since_best < self.watch.patience:
            return
        self.has_warned = True
        consequence = CONSEQUENCE[self.watch.action].format(best=self.best.iteration)
        self.warnings.append(f"{_sentence(self.best, now, change)}; {consequence}.")
        self.on_warning(self.warnings[-1])

    @torch.no_grad()
    def _look(self, iteration: int) -> Check:
        """Let the policy as it stands write one completion for each prompt, and score them."""
        rules, actors = self.rules, self.actors
        samples = sample(
            actors.policy,
            actors.text,
            self.prompts,
            max_new_tokens=rules.max_new_tokens,
            temperature=rules.temperature,
            seeds=self.seeds,
        )
        ref_logprobs_BC = torch.zeros_like(samples.logprobs_BC)
        score_B, train_score_B = (torch.zeros_like(samples.logprobs_BC[:, 0]) for _ in range(2))
        for part in parts(samples, actors.text, rules.forward_tokens):
            ref_logprobs_BC[part.rows, : part.width] = completion_logprobs(
                actors.ref, part.tokens_BT, part.attention_BT, part.width, temperature=rules.temperature
            )
            score_B[part.rows] = self.heldout.score(part.closed_BT, part.attention_BT)
            train_score_B[part.rows] = actors.reward.score(part.closed_BT, part.attention_BT)
        kl_B = kl_k1(samples.logprobs_BC, ref_logprobs_BC, samples.mask_BC).sum(1)
        found = {"score_B (held-out reward model)": score_B, "score_B (reward model)": train_score_B, "kl_B": kl_B}
        require_finite_rows(found, f"the guard's check after iteration {iteration}")
        return Check(
            iteration,
            score_B.tolist(),
            train_score_B.tolist(),
            kl=float(kl_B.mean()),
            length=float(samples.mask_BC.sum(1).float().mean()),
            repetition=repeated_fraction(samples.completions()),
            eos_fraction=float(samples.finished_B.float().mean()),
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": None if self.best is None else asdict(self.best),
            "best_weights": self.best_weights,
            "num_since_best": self.num_since_best,
            "has_warned": self.has_warned,
            "warnings": list(self.warnings),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = None if state["best"] is None else Check(**state["best"])
        self.best_weights = dict(state["best_weights"])
        self.num_since_best, self.has_warned = state["num_since_best"], state["has_warned"]
        self.warnings = list(state["warnings"])


def over_optimisation(best: Check, now: Check) -> Interval | None:
    """Return the change of the held-out score since the best check if `now` is over-optimised, else None.

    It is when both hold: the 95 % interval (Student's, over prompts) of the mean of `now.scores - best.scores`, taken
    prompt by prompt, lies wholly below 0; and the mean of `train_scores` is above that of the best check. The best is
    the highest of several noisy means, which makes a fall a little too easy to find: patience is for that.
    """
    changes = [after - before for after, before in zip(now.scores, best.scores, strict=True)]
    change = mean_interval(changes, range(len(changes)))
    return change if change.high < 0.0 and now.train_score > best.train_score else None


def repeated_fraction(completions: Sequence[Sequence[int]], n: int = 3) -> float:
    """Return the share of n-grams of token ids that stood before in the same completion: 1 - distinct / all.

    Counts are summed over completions before they are divided; 0 when none has n tokens.
    """
    grams = [[tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)] for ids in completions]
    total = sum(map(len, grams))
    return 1.0 - sum(len(set(of)) for of in grams) / total if total else 0.0


def _sentence(best: Check, now: Check, change: Interval) -> str:
    return (
        f"over-optimisation at iteration {now.iteration}, {now.kl:.1f} nats from the reference: since iteration "
        f"{best.iteration} the score of the held-out reward model fell from {best.score:.2f} to {now.score:.2f} "
        f"(change {change.value:+.2f}, interval {change.low:+.2f} to {change.high:+.2f}) while the score trained "
        f"against rose from {best.train_score:.2f} to {now.train_score:.2f}; completions have {now.length:.1f} tokens, "
        f"{now.repetition:.0%} of their 3-grams are repeated, {now.eos_fraction:.0%} end by themselves"
    )
