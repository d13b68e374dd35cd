"""What tests of PPO start from: settings, four tiny networks whose completions end at different lengths, a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

import torch

from instructloop.core.batches import LMBatch, RankedBatch, Rollout
from instructloop.core.returns import AdaptiveKL, FixedKL
from instructloop.models.lm import disable_dropout
from instructloop.models.sampler import Samples
from instructloop.models.scalar import ScalarModel
from instructloop.models.text import Text
from instructloop.train.ppo import Iterations, PPOBatch, ppo_task
from instructloop.train.rollouts import Actors
from instructloop.train.streams import Windows
from tests.tiny import tiny_lm


@dataclass(frozen=True)
class Settings:
    temperature: float = 1.0
    max_new_tokens: int = 4
    gamma: float = 1.0
    lam: float = 0.95
    whiten_rewards: bool = False
    missing_eos: Literal["replace", "subtract"] = "subtract"
    missing_eos_penalty: float = 0.0
    forward_tokens: int = 64
    num_iterations: int = 2
    episodes_per_iteration: int = 8
    num_minibatches: int = 2
    inner_epochs: int = 1
    clip_ratio: float = 0.2
    clip_value: float = 0.2
    ptx_coef: float = 0.0
    num_ptx_rows: int = 0
    micro_batch_rows: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 3


SETTINGS = Settings()
PROMPTS = [[10], [11, 12, 13], [14, 15], [16, 17, 18, 19, 20], [21, 22]]
MANY = [PROMPTS[row % 5] for row in range(16)]
STOPS = tuple(range(100, 200))
ENDS: dict[str, Any] = {"stops": STOPS, "eos_logit": 3.0}
"""Likely ends, EOS and others: some completions end at once, some later and some never."""


def actors(architecture: str = "llama", *, stops: Sequence[int] = (), eos_logit: float = 0.0, **kind: Any) -> Actors:
    """Return policy, an equal reference, value function and reward model; whatever dropout `kind` gives is off.

    `stops` end a completion beside EOS; `eos_logit` is added to what policy and reference give EOS.
    """
    policy, text = tiny_lm(architecture, **kind)
    ref, _ = tiny_lm(architecture, **kind)
    text = Text(text.tokenizer, stops)
    value, _ = ScalarModel.from_lm(policy, text, seed=1)
    reward, _ = ScalarModel.from_lm(policy, text, seed=2)
    for model in (policy, ref, value, reward):
        disable_dropout(model)
    for model in (policy, ref):
        more_V = torch.zeros(policy.config.vocab_size).index_fill(0, torch.tensor(text.eos_id), eos_logit)
        model.get_output_embeddings().register_forward_hook(lambda _, __, logits, more_V=more_V: logits + more_V)
    return Actors(policy, value, ref, reward, text)


def stream_of(
    found: Actors,
    settings: Settings,
    heard: list | None = None,
    *,
    kl: float | AdaptiveKL = 0.1,
    prompts: Sequence[Sequence[int]] = PROMPTS,
) -> Iterations:
    """Return the stream of PPO; `heard` collects what each rollout says; `kl` is a coefficient or what steers one."""
    windows = Windows(torch.arange(3, 280, dtype=torch.int32), 8, seed=0) if settings.ptx_coef else None
    control = kl if isinstance(kl, AdaptiveKL) else FixedKL(kl)
    notes = [] if heard is None else heard
    return Iterations(found, prompts, windows, control, settings, on_rollout=lambda *facts: notes.append(facts))


def gradient(found: Actors, settings: Settings, batch: PPOBatch) -> torch.Tensor:
    """Return the gradient of policy and value function over the micro-batches of one minibatch."""
    learners = found.learners
    learners.zero_grad()
    task = ppo_task(stream_of(found, settings), learners, settings)
    counts = task.counts(batch)
    for piece in task.split(batch):
        task.loss(learners, piece, counts)[0].backward()
    return flat_gradient(learners)


def flat_gradient(model: torch.nn.Module) -> torch.Tensor:
    """Return the gradients of all parameters in one row, 0 where there is none."""
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()])


Padded = TypeVar("Padded", LMBatch, RankedBatch, Rollout, Samples)


def widened(batch: Padded, *, left: int, right: int) -> Padded:
    """Return the batch with more padding on either side and rubbish wherever there is padding: id 77, NaN."""

    def wide(name: str) -> torch.Tensor:
        tensor = getattr(batch, name)
        if not name.endswith(("_BT", "_BC")):
            return tensor
        real = batch.attention_BT if name.endswith("_BT") else batch.mask_BC
        filler = False if tensor.dtype == torch.bool else 77 if not tensor.is_floating_point() else float("nan")
        padding = (left if name.endswith("_BT") else 0, right)
        return torch.nn.functional.pad(torch.where(real, tensor, filler), padding, value=filler)

    return type(batch)(**{field.name: wide(field.name) for field in fields(batch)})
