from dataclasses import dataclass, replace
from typing import Literal

import pytest
import torch
from torch import nn

from instructloop.core.returns import FixedKL
from instructloop.models.lm import completion_logprobs, disable_dropout
from instructloop.models.scalar import ScalarModel
from instructloop.train.ema import Ema
from instructloop.train.language import adam, batch_loss
from instructloop.train.loop import FitConfig, fit
from instructloop.train.ppo import Iterations, ppo_task
from instructloop.train.rollouts import Actors, collect, penalised, token_values
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
    seed: int = 3


SETTINGS = Settings()
PROMPTS = [[10], [11, 12, 13], [14, 15], [16, 17, 18, 19, 20], [21, 22]]


class LikesEvenStart(nn.Module):
    """A reward model of known optimum: 1 where the last prompt token is followed by an even id, else 0."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def score(self, tokens_BT: torch.Tensor, attention_BT: torch.Tensor) -> torch.Tensor:
        return (tokens_BT[:, -self.width] % 2 == 0).float()


def actors(architecture: str = "llama", **kind) -> Actors:
    policy, text = tiny_lm(architecture, **kind)
    ref, _ = tiny_lm(architecture, **kind)
    value, _ = ScalarModel.from_lm(policy, text, seed=1)
    reward, _ = ScalarModel.from_lm(policy, text, seed=2)
    for model in (policy, ref, value, reward):
        disable_dropout(model)
    return Actors(policy, value, ref, reward, text)


def stream_of(
    found: Actors, settings: Settings, heard: list | None = None, kl_coef: float = 0.1, prompts: list = PROMPTS
) -> Iterations:
    windows = Windows(torch.arange(3, 280, dtype=torch.int32), 8, seed=0) if settings.ptx_coef else None
    notes = [] if heard is None else heard
    return Iterations(
        found, prompts, windows, FixedKL(kl_coef), settings, on_rollout=lambda *facts: notes.append(facts)
    )


def gradient(found: Actors, settings: Settings, batch) -> torch.Tensor:
    learners = found.learners
    learners.zero_grad()
    task = ppo_task(stream_of(found, settings), learners, settings)
    counts = task.counts(batch)
    for piece in task.split(batch):
        task.loss(learners, piece, counts)[0].backward()
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in learners.parameters()])


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
    stream = stream_of(found, settings, heard, kl_coef)
    learners = found.learners
    optimizer = adam(learners.parameters(), 6e-3, betas=(0.9, 0.95), weight_decay=0.0)
    fit(ppo_task(stream, learners, settings), optimizer, lambda _: 1.0, FitConfig(0, 1.0, log_every=4), new_run())
    first, last = (heard[i][2] for i in (0, -1))
    assert 0.2 < first.score_B.mean() < 0.8
    assert low <= last.score_B.mean() <= high
    assert first.kl_B.abs().max() < 1e-4
    assert (last.kl_B.mean() > 0.2) == (kl_coef == 0.0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
@pytest.mark.parametrize(("architecture", "pad_is_eos"), [("llama", True), ("gpt2", False)])
def test_before_any_update_the_ratio_is_one_and_nothing_is_clipped(
    temperature: float, architecture: str, pad_is_eos: bool
):
    settings = replace(SETTINGS, temperature=temperature)
    found = actors(architecture, pad_is_eos=pad_is_eos, dropout=0.1)
    for model in (found.policy, found.value):
        model.train()  # dropout is gone from the configuration, so the mode makes no difference
    batch = next(iter(stream_of(found, settings)))
    assert batch.is_first
    rollout = batch.rollout
    logprobs_BC = completion_logprobs(
        found.policy, rollout.tokens_BT, rollout.attention_BT, rollout.mask_BC.shape[1], temperature=temperature
    )
    assert (logprobs_BC - rollout.logprobs_BC)[rollout.mask_BC].abs().max() < 1e-5
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
    ptx = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in learners.parameters()])
    assert ptx.norm() > 0.1
    assert total == pytest.approx(ppo + 0.7 * ptx, abs=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
def test_any_split_gives_the_same_gradient(rows: int):
    found = actors()
    settings = replace(SETTINGS, ptx_coef=0.7, num_ptx_rows=3)
    batch = next(iter(stream_of(found, settings)))
    whole = gradient(found, settings, batch)
    assert whole.norm() > 0.1
    assert gradient(found, replace(settings, micro_batch_rows=rows), batch) == pytest.approx(whole, abs=1e-5)


def test_what_is_computed_in_batches_is_what_each_row_gives_alone():
    found = actors()
    together = collect(found, PROMPTS, range(5), SETTINGS, kl_coef=0.1)
    for b, prompt in enumerate(PROMPTS):
        alone = collect(found, [prompt], [b], replace(SETTINGS, forward_tokens=1), kl_coef=0.1)
        length = int(alone.rollout.mask_BC.sum())
        assert alone.score_B[0] == pytest.approx(float(together.score_B[b]), abs=1e-4)
        for name in ("logprobs_BC", "value_BC", "return_BC"):
            row = getattr(together.rollout, name)[b, :length]
            assert getattr(alone.rollout, name)[0] == pytest.approx(row, abs=1e-4)


def test_where_policy_and_reference_agree_returns_depend_on_the_score_alone():
    found = actors()
    episodes = collect(found, PROMPTS, range(5), replace(SETTINGS, lam=1.0), kl_coef=10.0)
    mask_BC = episodes.rollout.mask_BC
    assert episodes.kl_B.abs().max() < 1e-4
    expected = episodes.score_B[:, None].expand(mask_BC.shape)[mask_BC]  # gamma = lam = 1: what is still to come
    assert episodes.rollout.return_BC[mask_BC] == pytest.approx(expected, abs=1e-3)
    advantage = episodes.rollout.advantage_BC[mask_BC]
    assert advantage.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert advantage.var(correction=0).item() == pytest.approx(1.0, abs=1e-4)


def test_a_value_is_taken_before_its_token_is_drawn():
    found = actors()
    tokens, attention = torch.tensor([[5, 6, 7, 8]]), torch.ones(1, 4, dtype=torch.bool)
    changed = torch.tensor([[5, 6, 9, 8]])
    before, after = (token_values(found.value, one, attention, 2) for one in (tokens, changed))
    assert before[0, 0] == after[0, 0]
    assert before[0, 1] != after[0, 1]


def test_the_reward_model_sees_the_sampled_ids_and_no_end_that_was_not_written():
    found = actors()
    episodes = collect(found, PROMPTS, range(5), SETTINGS, kl_coef=0.1)
    for b in range(5):
        ids = episodes.rollout.tokens_BT[b][episodes.rollout.attention_BT[b]]
        alone = found.reward.score(ids[None], torch.ones(1, len(ids), dtype=torch.bool))
        assert episodes.score_B[b] == pytest.approx(alone.item(), abs=1e-4)


def test_another_stop_token_is_scored_as_the_end_that_the_reward_model_knows():
    found = actors()
    rows = torch.randint(3, 290, (1,)).tolist()
    found.text.stop_ids = (found.text.eos_id, *range(2, 290))  # whatever is drawn first ends the completion
    episodes = collect(found, [PROMPTS[0]], rows, SETTINGS, kl_coef=0.1)
    assert episodes.finished_B.all()
    closed = torch.tensor([[*PROMPTS[0], found.text.eos_id]])
    assert episodes.score_B[0] == pytest.approx(
        found.reward.score(closed, torch.ones_like(closed) > 0).item(), abs=1e-4
    )


def test_a_completion_without_eos_is_penalised_and_others_are_not():
    score, finished = torch.tensor([2.0, 2.0, -3.0]), torch.tensor([True, False, False])
    replaced = replace(SETTINGS, missing_eos="replace", missing_eos_penalty=1.0)
    assert penalised(score, finished, replaced).tolist() == [2.0, -1.0, -1.0]
    subtracted = replace(SETTINGS, missing_eos="subtract", missing_eos_penalty=1.0)
    assert penalised(score, finished, subtracted).tolist() == [2.0, 1.0, -4.0]


def test_whitened_rewards_keep_their_mean():
    found = actors()
    plain, white = (
        collect(found, PROMPTS, range(5), replace(SETTINGS, lam=1.0, whiten_rewards=whiten), kl_coef=0.0)
        for whiten in (False, True)
    )
    mask_BC = plain.rollout.mask_BC

    def rewards(episodes) -> torch.Tensor:
        """With gamma = lam = 1 the reward of a token is its return less that of the next."""
        returns = torch.where(mask_BC, episodes.rollout.return_BC, 0.0)
        return (returns - nn.functional.pad(returns, (0, 1))[:, 1:])[mask_BC]

    assert rewards(white).mean().item() == pytest.approx(rewards(plain).mean().item(), abs=1e-4)
    assert rewards(white).std(correction=0).item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("minibatches", "inner_epochs"), [(1, 1), (2, 3), (4, 2), (8, 1)])
def test_optimizer_steps_are_iterations_times_epochs_times_minibatches(new_run, minibatches: int, inner_epochs: int):
    found = actors(width=16)
    settings = replace(SETTINGS, num_minibatches=minibatches, inner_epochs=inner_epochs)
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
