"""What stops PPO before it learns from a rollout that is not what it seems, and what it counts."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from instructloop.models.masters import lower
from instructloop.train.finite import NotFinite
from instructloop.train.language import adam
from instructloop.train.loop import FitConfig, fit
from instructloop.train.ppo import ppo_task
from tests.train.small import PROMPTS, SETTINGS, actors, stream_of

CONFIG = FitConfig(seed=0, max_grad_norm=1.0, log_every=2)


class Spoilt(nn.Module):
    """A reward model that scores every completion 1, and that of a prompt of five tokens not at all."""

    def score(self, tokens_BT: torch.Tensor, attention_BT: torch.Tensor) -> torch.Tensor:
        is_long = (tokens_BT == PROMPTS[3][0]).any(1)
        return torch.where(is_long, torch.nan, 1.0)


def trained(found, stream, run, settings=SETTINGS) -> None:
    optimizer = adam(found.learners.parameters(), 1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    fit(ppo_task(stream, found.learners, settings), optimizer, lambda _: 1.0, CONFIG, run)


@pytest.mark.parametrize(
    ("dtype", "temperature"), [("float32", 0.9), ("float32", 1.1), ("bfloat16", 0.8), ("bfloat16", 1.25)]
)
def test_learning_at_another_temperature_than_sampling_is_caught_before_the_first_step(
    new_run, dtype: Literal["float32", "bfloat16"], temperature: float
):
    found, settings = actors(), replace(SETTINGS, dtype=dtype)
    lower(found.learners, getattr(torch, dtype))
    before = [parameter.detach().clone() for parameter in found.learners.parameters()]
    with pytest.raises(ValueError, match=r"first minibatch of a rollout the ratio must be 1.*the same temperature"):
        trained(found, stream_of(found, settings), new_run(), replace(settings, temperature=temperature))
    assert all(torch.equal(a, b) for a, b in zip(before, found.learners.parameters(), strict=True))


def test_in_bfloat16_the_first_minibatch_differs_by_rounding_and_by_no_more(new_run):
    settings = replace(SETTINGS, dtype="bfloat16", micro_batch_rows=1)
    found = actors()
    lower(found.learners, torch.bfloat16)
    run = new_run()
    trained(found, stream_of(found, settings), run, settings)
    for row in run.metrics():
        assert 0.0 < row["rollout/approxkl"] < 1e-2
        assert row["rollout/ratio"] == pytest.approx(1.0, abs=0.05)


def test_in_float32_sampler_and_learner_agree_in_every_rollout(new_run):
    found, run = actors(), new_run()
    trained(found, stream_of(found, SETTINGS), run)
    assert [row["rollout/ratio"] for row in run.metrics()] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert [row["rollout/approxkl"] for row in run.metrics()] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_a_score_that_is_not_finite_is_named_with_its_row_and_rollout(new_run):
    found = replace(actors(), reward=Spoilt())
    heard: list = []
    stream = stream_of(found, SETTINGS, heard)
    with pytest.raises(
        NotFinite, match=r"score_B \(reward model\) is not finite in row [\d, ]+ of rollout 1;"
    ) as error:
        trained(found, stream, new_run())
    assert heard == []  # no text of it is kept
    rows = str(error.value).split(" in row ")[1].split(" of ")[0]
    chosen = [stream._prompt(row) for row in range(8)]  # the first eight of the seed's order
    assert rows == ", ".join(str(row) for row, prompt in enumerate(chosen) if prompt == 3)


@pytest.mark.parametrize("role", ["policy", "value"])
def test_a_weight_spoilt_between_rollouts_is_named_before_anything_is_sampled(new_run, role: str):
    found = actors()
    stream = stream_of(found, SETTINGS)
    spoilt = list(getattr(found, role).parameters())[3]
    name = next(name for name, parameter in found.learners.named_parameters() if parameter is spoilt)
    for number, _ in enumerate(stream):
        if number == 1:
            spoilt.data.view(-1)[0] = torch.nan
            break
    with pytest.raises(NotFinite, match=f"the weight {name} is not finite before rollout 2"):
        next(iter(stream))


def test_a_minibatch_is_named_by_its_rollout():
    stream = stream_of(actors(), SETTINGS)
    places = [stream.place for _ in stream]
    assert places == [f"minibatch {number} of 2 of rollout {rollout}" for rollout in (1, 2) for number in (1, 2)]


def test_completions_without_eos_and_prompts_that_lost_text_are_counted_by_rollout():
    found = actors(stops=range(100, 200))
    heard: list = []
    stream = stream_of(found, replace(SETTINGS, episodes_per_iteration=20, num_minibatches=1), heard)
    stream.cut_prompts = {1, 4}
    batches = list(stream)
    for batch, (_, chosen, episodes) in zip(batches, heard, strict=True):
        rollout = episodes.rollout
        last = [tokens[mask][-1] for tokens, mask in zip(rollout.tokens_BT[:, -4:], rollout.mask_BC, strict=True)]
        unfinished = [token not in found.text.stop_ids for token in last]
        assert 0 < sum(unfinished) < 20
        assert float(batch.metrics["completion/num_without_eos"]) == sum(unfinished)
        assert float(batch.metrics["completion/num_truncated_prompts"]) == 8  # 20 episodes, 4 of each of 5 prompts
        assert sum(chosen.count(prompt) for prompt in (1, 4)) == 8


def test_a_stopped_stream_gives_no_further_rollout_also_when_resumed():
    found = actors()
    stream = stream_of(found, replace(SETTINGS, num_iterations=5))
    given = 0
    for _ in stream:
        given += 1
        if given == 2:
            stream.stop()
    assert (given, stream.num_done) == (2, 1)
    again = stream_of(found, replace(SETTINGS, num_iterations=5))
    again.load_state_dict(stream.state_dict())
    assert list(again) == []
