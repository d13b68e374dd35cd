"""Training against references of its own: transformers' loss, plain Python optimizers, PPO row by row in NumPy."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from instructloop.core.batches import LMBatch
from instructloop.models.scalar import ScalarModel
from instructloop.models.text import Text
from instructloop.train.ema import Ema
from instructloop.train.language import adam, lm_task
from instructloop.train.loop import FitConfig, fit
from instructloop.train.ppo import PPOBatch, ppo_task
from instructloop.train.rollouts import Actors
from instructloop.train.streams import Epochs
from tests.tiny import tiny_lm
from tests.train.small import SETTINGS, STOPS, Settings, actors, stream_of

# --- SFT is the training that transformers documents --------------------------------------------------------------

ROWS = [([10, 11], [12, 13, 0]), ([20], [21, 0]), ([30, 31, 32, 33], [34, 35, 36, 37, 0]), ([40, 41, 42], [0])]
"""Prompts and completions with their EOS; no two of one length."""


def labelled(rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
    """Return what transformers' forward takes: rows padded on the right, -100 wherever nothing is to be learned."""
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids, attention, labels = [], [], []
    for prompt, completion in rows:
        padding = width - len(prompt) - len(completion)
        ids.append([*prompt, *completion, *[1] * padding])
        attention.append([1] * (len(prompt) + len(completion)) + [0] * padding)
        labels.append([-100] * len(prompt) + completion + [-100] * padding)
    columns = {"input_ids": ids, "attention_mask": attention, "labels": labels}
    return {name: torch.tensor(column) for name, column in columns.items()}


def batch_of(text: Text, rows: list[tuple[list[int], list[int]]]) -> LMBatch:
    return LMBatch(*text.pad_left_right([prompt for prompt, _ in rows], [completion for _, completion in rows]))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_sft_is_that_of_a_plain_loop_over_transformers_own_loss(new_run, architecture: str):
    model, text = tiny_lm(architecture)
    plain, run, rates = copy.deepcopy(model), new_run(), [1.0, 0.5, 0.25]
    # A large eps, so that Adam does not blow up what rounding leaves of a gradient that is 0.
    kind = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-3, "weight_decay": 0.1}
    stream = Epochs(4, lambda index: (batch_of(text, [ROWS[i] for i in index]),), batch_rows=4, num_epochs=3, seed=0)
    task = lm_task(model, stream, micro_batch_rows=3)
    config = FitConfig(seed=0, max_grad_norm=1.0, log_every=1)
    fit(task, adam(model.parameters(), **kind), rates.__getitem__, config, run)

    optimizer, losses, norms = torch.optim.AdamW(plain.parameters(), foreach=False, fused=False, **kind), [], []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = 0.01 * rate
        optimizer.zero_grad()
        loss = plain(**labelled(ROWS)).loss
        loss.backward()
        losses.append(loss.item())
        norms.append(nn.utils.clip_grad_norm_(plain.parameters(), 1.0).item())
        optimizer.step()
    assert [row["loss"] for row in run.metrics()] == pytest.approx(losses, abs=1e-5)
    assert [row["grad_norm"] for row in run.metrics()] == pytest.approx(norms, rel=1e-5)
    assert min(norms) > 1.0  # so the gradient was clipped each time
    assert losses[2] < losses[0] - 0.1
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)


# --- AdamW and the average of the weights -------------------------------------------------------------------------

STARTS = (1.0, -0.5)
GRADIENTS = ([0.5, 0.25, -3.0, 0.0, 1.0], [-2.0, 0.0, 1e-4, 0.5, -1.0])
"""Of each of two weights, step by step."""
RATES = [0.1, 0.1, 0.05, 0.025, 0.0]


def adamw_by_the_algorithm(start: float, gradients: list[float]) -> list[float]:
    """Return the weight after each step: algorithm 2 of Loshchilov 2019, with its decay times the rate, as in torch."""
    beta_1, beta_2, eps, decay = 0.9, 0.95, 1e-8, 0.1
    weight, mean, square, found = start, 0.0, 0.0, list[float]()
    for step, (gradient, rate) in enumerate(zip(gradients, RATES, strict=True), 1):
        mean = beta_1 * mean + (1 - beta_1) * gradient
        square = beta_2 * square + (1 - beta_2) * gradient**2
        unbiased = mean / (1 - beta_1**step), square / (1 - beta_2**step)
        weight = weight - rate * (unbiased[0] / (math.sqrt(unbiased[1]) + eps) + decay * weight)
        found.append(weight)
    return found


def test_adamw_and_the_average_are_their_definitions_in_plain_python():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([STARTS])
    optimizer = adam(model.parameters(), 0.1, betas=(0.9, 0.95), weight_decay=0.1)
    decay = 0.992
    ema = Ema(model, decay)
    columns = [adamw_by_the_algorithm(start, own) for start, own in zip(STARTS, GRADIENTS, strict=True)]
    for step, rate in enumerate(RATES):
        optimizer.param_groups[0]["lr"] = rate
        model.weight.grad = torch.tensor([[own[step] for own in GRADIENTS]])
        optimizer.step()
        ema.update()
        assert model.weight[0].tolist() == pytest.approx([column[step] for column in columns], abs=1e-6)
    with ema.applied():
        average = model.weight[0].tolist()
    for start, column, found in zip(STARTS, columns, average, strict=True):
        # decay^5 w_0 + (1 - decay) sum_k decay^(5 - k) w_k: the sum that the recursion stands for
        later = sum(decay ** (4 - k) * weight for k, weight in enumerate(column))
        assert found == pytest.approx(decay**5 * start + (1 - decay) * later, abs=1e-6)
    assert abs(columns[0][-1] - average[0]) > 0.05


# --- PPO-ptx, from a rollout to the loss, one row at a time -------------------------------------------------------


def hidden_values(model: ScalarModel, ids: list[int]) -> np.ndarray:
    """Return the head's number after each token of a row alone, in float64."""
    with torch.no_grad():
        hidden_TD = model.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0].double().numpy()
    return hidden_TD @ model.head.weight[0].detach().double().numpy() + model.bias.item()


def token_logprobs(model: nn.Module, ids: list[int], temperature: float) -> np.ndarray:
    """Return log p of every token but the first, from a row alone, in float64."""
    with torch.no_grad():
        logits_TV = model(input_ids=torch.tensor([ids])).logits[0].double().numpy() / temperature
    logits_TV = logits_TV - logits_TV.max(1, keepdims=True)
    logprobs_TV = logits_TV - np.log(np.exp(logits_TV).sum(1, keepdims=True))
    return logprobs_TV[np.arange(len(ids) - 1), ids[1:]]


class Row:
    """One episode as the equations of the paper see it, before any update."""

    def __init__(self, found: Actors, settings: Settings, ids: list[int], length: int, *, is_finished: bool, kl: float):
        self.ids, self.length = ids, length
        self.old = self.logprobs(found, settings)
        self.kl = self.old - token_logprobs(found.ref, ids, settings.temperature)[-length:]
        self.score = hidden_values(found.reward, [*ids[:-1], found.text.eos_id] if is_finished else ids)[-1]
        self.old_value = self.values(found)
        reward = -kl * self.kl  # eq. 2
        reward[-1] += self.score - (0.0 if is_finished else settings.missing_eos_penalty)
        later = np.append(self.old_value[1:], 0.0)
        error = reward + settings.gamma * later - self.old_value
        discount = (settings.gamma * settings.lam) ** np.arange(length)
        self.advantage = np.array([(discount[: length - t] * error[t:]).sum() for t in range(length)])  # Schulman 2016
        self.target = self.advantage + self.old_value

    def logprobs(self, found: Actors, settings: Settings) -> np.ndarray:
        return token_logprobs(found.policy, self.ids, settings.temperature)[-self.length :]

    def values(self, found: Actors) -> np.ndarray:
        return hidden_values(found.value, self.ids)[-self.length - 1 : -1]


def rows_of(found: Actors, settings: Settings, batch: PPOBatch, kl: float) -> list[Row]:
    assert batch.rollout is not None
    rows = []
    for tokens_T, attention_T, mask_C in zip(
        batch.rollout.tokens_BT, batch.rollout.attention_BT, batch.rollout.mask_BC, strict=True
    ):
        ids = tokens_T[attention_T].tolist()
        is_finished = ids[-1] in found.text.stop_ids
        rows.append(Row(found, settings, ids, int(mask_C.sum()), is_finished=is_finished, kl=kl))
    return rows


def losses_by_the_equations(found: Actors, settings: Settings, rows: list[Row]) -> dict[str, float]:
    """Return the losses and metrics of a minibatch that is a whole rollout, for the actors as they are now."""
    new, old, advantage, value, old_value, target = (
        np.concatenate(column)
        for column in zip(
            *(
                (row.logprobs(found, settings), row.old, row.advantage, row.values(found), row.old_value, row.target)
                for row in rows
            ),
            strict=True,
        )
    )
    advantage = (advantage - advantage.mean()) / np.sqrt(advantage.var() + 1e-8)
    ratio = np.exp(new - old)
    free, held = ratio * advantage, np.clip(ratio, 1 - settings.clip_ratio, 1 + settings.clip_ratio) * advantage
    near = np.clip(value, old_value - settings.clip_value, old_value + settings.clip_value)
    free_error, held_error = (value - target) ** 2, (near - target) ** 2
    return {
        "loss/policy": -np.minimum(free, held).mean(),  # Schulman 2017, eq. 7
        "loss/value": np.maximum(free_error, held_error).mean() / 2,
        "policy/approxkl": ((new - old) ** 2).mean() / 2,
        "policy/clipfrac": (held < free).mean(),
        "policy/ratio": ratio.mean(),
        "value/clipfrac": (held_error > free_error).mean(),
        "objective/kl": np.mean([row.kl.sum() for row in rows]),
        "objective/scores": np.mean([row.score for row in rows]),
        "completion/length": np.mean([row.length for row in rows]),
    }


def test_ppo_ptx_from_rollout_to_loss_is_that_of_the_equations_row_by_row():
    settings = replace(
        SETTINGS,
        temperature=1.3,
        gamma=0.9,
        lam=0.8,
        missing_eos_penalty=0.5,
        num_minibatches=1,
        ptx_coef=0.7,
        num_ptx_rows=2,
        micro_batch_rows=3,
    )
    found = replace(actors(stops=STOPS), ref=tiny_lm(seed=5)[0])
    batch = next(iter(stream_of(found, settings, kl=0.3)))
    rows = rows_of(found, settings, batch, kl=0.3)
    assert len({row.length for row in rows}) > 2
    with torch.no_grad():  # later in the rollout: ratios are not 1, some are clipped
        for parameter in found.learners.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9))
    expected = losses_by_the_equations(found, settings, rows)
    assert batch.text is not None
    text = -np.mean([token_logprobs(found.policy, ids, 1.0) for ids in batch.text.tokens_BT.tolist()])
    expected["loss/ptx"] = text

    task = ppo_task(stream_of(found, settings), found.learners, settings)
    later, total, sums = replace(batch, is_first=False), 0.0, {}
    for piece in task.split(later):
        loss, metrics = task.loss(found.learners, piece, task.counts(later))
        total += float(loss.detach())
        sums |= {name: sums[name] + value if name in sums else value for name, value in metrics.items()}
    assert {name: float(sums[name]) for name in expected} == pytest.approx(expected, abs=1e-5)
    assert total == pytest.approx(expected["loss/policy"] + expected["loss/value"] + 0.7 * text, abs=1e-5)
    assert 0.0 < expected["policy/clipfrac"] < 1.0
    assert 0.0 < expected["value/clipfrac"] < 1.0
