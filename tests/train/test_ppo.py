from dataclasses import replace

import pytest
import torch
from torch import nn

from instructloop.core.returns import AdaptiveKL
from instructloop.models.lm import completion_logprobs
from instructloop.train.ema import Ema
from instructloop.train.language import adam, batch_loss
from instructloop.train.loop import FitConfig, fit
from instructloop.train.ppo import ppo_task
from instructloop.train.rollouts import token_values
from tests.tiny import tiny_lm
from tests.train.small import ENDS, SETTINGS, actors, flat_gradient, gradient, stream_of, widened


class LikesEvenStart(nn.Module):
    """A reward model of known optimum: 1 where the last prompt token is followed by an even id, else 0."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def score(self, tokens_BT: torch.Tensor, attention_BT: torch.Tensor) -> torch.Tensor:
        return (tokens_BT[:, -self.width] % 2 == 0).float()


@pytest.mark.parametrize(("kl_coef", "low", "high"), [(0.0, 0.9, 1.0), (30.0, 0.0, 0.75)])
def test_ppo_finds_the_known_optimum_of_a_bandit_and_a_large_kl_coefficient_holds_it_back(new_run, kl_coef, low, high):
    found = replace(actors(width=16), reward=LikesEvenStart(1))
    settings = replace(
        SETTINGS,
        num_iterations=25,
        episodes_per_iteration=64,
        num_minibatches=4,
        max_new_tokens=1,
        forward_tokens=10**6,
    )
    heard: list = []
    stream = stream_of(found, settings, heard, kl=kl_coef)
    learners = found.learners
    optimizer = adam(learners.parameters(), 6e-3, betas=(0.9, 0.95), weight_decay=0.0)
    fit(ppo_task(stream, learners, settings), optimizer, lambda _: 1.0, FitConfig(0, 1.0, log_every=4), new_run())
    first, last = (heard[i][2] for i in (0, -1))
    assert 0.2 < first.score_B.mean() < 0.8
    assert low <= last.score_B.mean() <= high
    assert first.kl_B.abs().max() < 1e-4
    assert (last.kl_B.mean() > 0.2) == (kl_coef == 0.0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_before_any_update_the_ratio_is_one_and_nothing_is_clipped(
    temperature: float, architecture: str, pad_is_eos: bool
):
    settings = replace(SETTINGS, temperature=temperature)
    found = actors(architecture, **ENDS, pad_is_eos=pad_is_eos, dropout=0.1)
    for model in (found.policy, found.value):
        model.train()  # dropout is gone from the configuration, so the mode makes no difference
    batch = next(iter(stream_of(found, settings)))
    assert batch.is_first
    rollout = batch.rollout
    logprobs_BC = completion_logprobs(
        found.policy, rollout.tokens_BT, rollout.attention_BT, rollout.mask_BC.shape[1], temperature=temperature
    )
    assert (logprobs_BC - rollout.logprobs_BC)[rollout.mask_BC].abs().max() < 1e-5
    value_BC = token_values(found.value, rollout.tokens_BT, rollout.attention_BT, rollout.mask_BC.shape[1])
    assert (value_BC - rollout.value_BC)[rollout.mask_BC].abs().max() < 1e-5
    assert float(batch.metrics["objective/kl"]) == pytest.approx(0.0, abs=1e-5)  # the reference is the policy itself
    task = ppo_task(stream_of(found, settings), found.learners, settings)
    _, metrics = task.loss(found.learners, task.split(batch)[0], task.counts(batch))
    assert float(metrics["policy/ratio"]) == pytest.approx(1.0, abs=1e-5)
    assert float(metrics["policy/approxkl"]) == pytest.approx(0.0, abs=1e-9)
    assert float(metrics["policy/clipfrac"]) == 0.0
    assert float(metrics["value/clipfrac"]) == 0.0


def test_a_rollout_that_the_policy_did_not_make_is_refused():
    found = actors()
    stream = stream_of(found, SETTINGS)
    batch = next(iter(stream))
    with torch.no_grad():
        found.policy.get_input_embeddings().weight.mul_(1.1)
    task = ppo_task(stream, found.learners, SETTINGS)
    with pytest.raises(ValueError, match="on the first minibatch of a rollout the ratio must be 1"):
        task.loss(found.learners, task.split(batch)[0], task.counts(batch))


def test_the_gradient_of_ppo_ptx_is_that_of_ppo_plus_the_coefficient_times_that_of_text():
    found = actors()
    settings = replace(SETTINGS, ptx_coef=0.7, num_ptx_rows=3)
    batch = next(iter(stream_of(found, settings)))
    assert len(batch.text.tokens_BT) == 3
    total = gradient(found, settings, batch)
    ppo = gradient(found, settings, replace(batch, text=None))
    learners = found.learners
    learners.zero_grad()
    loss = batch_loss(found.policy, batch.text)
    (loss.total / (3 * 7)).backward()
    ptx = flat_gradient(learners)
    assert ptx.norm() > 0.1
    assert total == pytest.approx(ppo + 0.7 * ptx, abs=1e-5)


def test_at_first_the_gradient_is_the_policy_gradient_and_that_of_half_the_squared_error():
    # Where the ratio is 1 and nothing clipped, d max(-A r, ...) = -A d log pi; both terms are means over tokens.
    found = actors(**ENDS)
    batch = next(iter(stream_of(found, SETTINGS)))
    rollout = batch.rollout
    seen = (rollout.tokens_BT, rollout.attention_BT, rollout.mask_BC.shape[1])
    error_BC = token_values(found.value, *seen) - rollout.return_BC
    logprobs_BC = completion_logprobs(found.policy, *seen, temperature=1.0)
    each_BC = 0.5 * error_BC.square() - rollout.advantage_BC * logprobs_BC
    found.learners.zero_grad()
    each_BC[rollout.mask_BC].mean().backward()
    expected = flat_gradient(found.learners)
    assert expected.norm() > 0.1
    assert gradient(found, SETTINGS, batch) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
def test_any_split_gives_the_same_gradient(rows: int):
    found = actors(**ENDS)  # completions of different lengths: a mean of the pieces' means is another number
    settings = replace(SETTINGS, ptx_coef=0.7, num_ptx_rows=3)
    batch = next(iter(stream_of(found, settings)))
    whole = gradient(found, settings, batch)
    assert whole.norm() > 0.1
    assert gradient(found, replace(settings, micro_batch_rows=rows), batch) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_pads_beside_a_truncated_completion_contribute_nothing(architecture: str):
    found = actors(architecture, **ENDS)
    settings = replace(SETTINGS, num_minibatches=1)
    batch = next(iter(stream_of(found, settings)))
    lengths = batch.rollout.mask_BC.sum(1).tolist()
    assert 1 in lengths  # an empty completion, a stop token at once
    assert 4 in lengths  # the budget
    task = ppo_task(stream_of(found, settings), found.learners, settings)
    gradients, metrics = [], []
    for rollout in (batch.rollout, widened(batch.rollout, left=2, right=3)):
        piece = replace(batch, rollout=rollout)
        found.learners.zero_grad()
        loss, parts = task.loss(found.learners, piece, task.counts(piece))
        loss.backward()
        gradients.append(flat_gradient(found.learners))
        metrics.append({name: float(value) for name, value in parts.items()})
    assert gradients[0].norm() > 0.1
    assert gradients[1] == pytest.approx(gradients[0], abs=1e-5)
    assert metrics[1] == pytest.approx(metrics[0], abs=1e-5)


def test_advantages_are_whitened_over_the_whole_rollout():
    found = actors(**ENDS)
    settings = replace(SETTINGS, num_iterations=1, episodes_per_iteration=16, num_minibatches=4, forward_tokens=20)
    parts = [b.rollout.advantage_BC[b.rollout.mask_BC] for b in stream_of(found, settings)]
    assert len(parts) == 4
    assert torch.cat(parts).mean().item() == pytest.approx(0.0, abs=1e-5)
    assert torch.cat(parts).var(correction=0).item() == pytest.approx(1.0, abs=1e-4)
    assert max(part.mean().abs().item() for part in parts) > 0.05  # not each minibatch, nor each batch of a forward


def test_the_kl_controller_hears_nats_per_episode_not_per_token():
    found = replace(actors(), ref=tiny_lm(seed=9)[0])
    settings = replace(SETTINGS, num_iterations=1)
    heard: list = []
    next(iter(stream_of(found, settings, heard)))
    ((_, _, episodes),) = heard
    per_episode = episodes.kl_B.mean().item()
    assert per_episode > 0.5
    control = AdaptiveKL(0.1, target=per_episode / 1.1, horizon=1000)
    next(iter(stream_of(found, settings, kl=control)))
    # 8 episodes, a tenth over the target; the mean over tokens would be under it and push the other way
    assert control.value == pytest.approx(0.1 * (1 + 0.1 * 8 / 1000), rel=1e-6)


def test_a_tiny_clip_moves_no_weight_of_policy_or_value_function(new_run):
    found, run = actors(width=16), new_run()
    before = torch.cat([p.detach().flatten().clone() for p in found.learners.parameters()])
    settings = replace(SETTINGS, num_iterations=1, num_minibatches=1)
    task = ppo_task(stream_of(found, settings), found.learners, settings)
    groups = [{"params": list(model.parameters()), "name": name} for name, model in found.learners.named_children()]
    fit(task, torch.optim.SGD(groups, lr=1.0), lambda _: 1.0, FitConfig(seed=0, max_grad_norm=1e-9), run)
    after = torch.cat([p.detach().flatten() for p in found.learners.parameters()])
    assert (after - before).abs().max() < 1e-8
    (row,) = run.metrics()
    assert min(row["grad_norm/policy"], row["grad_norm/value"]) > 0.1  # as it was before the clip


def test_a_score_that_is_not_a_number_stops_ppo_before_any_step(new_run):
    found = actors(width=16)
    with torch.no_grad():
        found.reward.head.weight.fill_(torch.nan)
    before = torch.cat([p.detach().flatten().clone() for p in found.learners.parameters()])
    task = ppo_task(stream_of(found, SETTINGS), found.learners, SETTINGS)
    optimizer = torch.optim.SGD(found.learners.parameters(), lr=1.0)
    with pytest.raises(ValueError, match=r"nan|finite"):
        fit(task, optimizer, lambda _: 1.0, FitConfig(seed=0, max_grad_norm=None), new_run())
    assert torch.equal(torch.cat([p.detach().flatten() for p in found.learners.parameters()]), before)


@pytest.mark.parametrize("ptx_coef", [0.0, 0.5])
@pytest.mark.parametrize("micro_batch_rows", [None, 1])
@pytest.mark.parametrize(("minibatches", "inner_epochs"), [(1, 1), (2, 3), (4, 2), (8, 1)])
def test_optimizer_steps_are_iterations_times_epochs_times_minibatches(
    new_run, minibatches: int, inner_epochs: int, micro_batch_rows: int | None, ptx_coef: float
):
    found = actors(width=16)
    settings = replace(
        SETTINGS,
        num_minibatches=minibatches,
        inner_epochs=inner_epochs,
        micro_batch_rows=micro_batch_rows,
        ptx_coef=ptx_coef,
        num_ptx_rows=2,
    )
    stream = stream_of(found, settings)
    learners = found.learners
    ema, updates = Ema(found.policy, 0.9), []
    optimizer = adam(learners.parameters(), 1e-4, betas=(0.9, 0.95), weight_decay=0.0)
    steps = fit(
        ppo_task(stream, learners, settings),
        optimizer,
        lambda _: 1.0,
        FitConfig(seed=0, max_grad_norm=None),
        new_run(),
        after_step=lambda _: (ema.update(), updates.append(1))[0],
    )
    assert steps == len(stream) == len(updates) == 2 * minibatches * inner_epochs
    assert {int(state["step"]) for state in optimizer.state.values()} == {steps}


def test_every_episode_is_learned_from_once_an_inner_epoch_in_changing_order():
    found = actors(width=16)
    settings = replace(SETTINGS, num_iterations=1, inner_epochs=2)
    batches = list(stream_of(found, settings))
    whole = sorted(map(tuple, torch.cat([b.rollout.tokens_BT for b in batches[:2]]).tolist()))
    again = sorted(map(tuple, torch.cat([b.rollout.tokens_BT for b in batches[2:]]).tolist()))
    assert whole == again
    assert len(whole) == 8
    assert batches[0].rollout.tokens_BT.tolist() != batches[2].rollout.tokens_BT.tolist()
    assert [b.is_first for b in batches] == [True, False, False, False]


def test_prompts_come_equally_often_pass_after_pass():
    found = actors(width=16)
    heard: list = []
    for _ in stream_of(found, replace(SETTINGS, num_iterations=5, num_minibatches=1), heard):
        pass
    chosen = [prompt for _, numbers, _ in heard for prompt in numbers]
    assert [iteration for iteration, _, _ in heard] == [1, 2, 3, 4, 5]
    assert all(sorted(chosen[start : start + 5]) == [0, 1, 2, 3, 4] for start in range(0, 40, 5))
    assert chosen[:5] != chosen[5:10]


def test_one_prompt_gets_different_completions_in_a_rollout_and_in_consecutive_rollouts():
    found = actors(width=16)
    heard: list = []
    for _ in stream_of(found, replace(SETTINGS, num_minibatches=1), heard, prompts=[[10]]):
        pass
    tokens = [[tuple(row) for row in episodes.rollout.tokens_BT.tolist()] for _, _, episodes in heard]
    assert all(len(set(rows)) > 4 for rows in tokens)
    assert sum(first == second for first, second in zip(*tokens, strict=True)) < 3
