"""One rollout: what is sampled, scored and shaped is the same in any batch, padding, tokenizer and stop token."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import nn

from instructloop.models.sampler import Samples, sample
from instructloop.models.scalar import Scorer
from instructloop.models.text import Text
from instructloop.stages.reward_rows import TokenLimits, ranked_prompts
from instructloop.train.ranked import score_rows
from instructloop.train.rollouts import Actors, Episodes, collect, penalised, token_values
from tests.models.draws import pvalue_of_draws
from tests.tiny import tiny_lm, tiny_tokenizer
from tests.train.small import ENDS, MANY, PROMPTS, SETTINGS, STOPS, Settings, actors, widened

ARCHITECTURES = pytest.mark.parametrize("architecture", ["llama", "gpt2"])


def mixed(found: Actors, settings: Settings = SETTINGS, *, kl_coef: float = 0.1) -> Episodes:
    """Return a rollout with empty completions (an end at once), longer ones, truncated ones, and both kinds of end."""
    episodes = collect(found, MANY, range(len(MANY)), settings, kl_coef=kl_coef)
    length_B, finished_B = episodes.rollout.mask_BC.sum(1), episodes.finished_B
    assert (length_B[finished_B] == 1).any()
    assert (length_B[finished_B] > 1).any()
    assert (length_B[~finished_B] == settings.max_new_tokens).all()
    assert 0 < finished_B.sum() < len(MANY)
    assert {real_ids(episodes, row)[-1] == found.text.eos_id for row in finished_B.nonzero()[:, 0]} == {True, False}
    return episodes


def real_ids(episodes: Episodes, row: int) -> list[int]:
    """Return a row's prompt and completion without padding."""
    return episodes.rollout.tokens_BT[row][episodes.rollout.attention_BT[row]].tolist()


def logprobs_by_hand(model: nn.Module, prompt: Sequence[int], completion: Sequence[int], temperature: float):
    """The definition, one unpadded row, one full softmax per position."""
    with torch.no_grad():
        logits_TV = model(torch.tensor([[*prompt, *completion]])).logits[0].double() / temperature
    return [logits_TV.log_softmax(-1)[len(prompt) + i - 1, token].item() for i, token in enumerate(completion)]


def forged(text: Text, rows: Sequence[tuple[list[int], list[int]]], finished: Sequence[bool]) -> Samples:
    """Return samples as if a policy had written these completions."""
    tokens_BT, attention_BT, mask_BC = text.pad_left_right([p for p, _ in rows], [c for _, c in rows])
    return Samples(tokens_BT, attention_BT, mask_BC, torch.zeros(mask_BC.shape), torch.tensor(finished))


def numbers(episodes: Episodes) -> dict[str, float]:
    """Return all metrics but times."""
    return {name: float(value) for name, value in episodes.metrics.items() if not name.startswith("time/")}


@ARCHITECTURES
def test_a_rollout_is_the_same_whether_or_not_pad_is_eos(architecture: str):
    found = actors(architecture, **ENDS)
    apart = mixed(found)
    same = mixed(replace(found, text=Text(tiny_tokenizer(pad_is_eos=True), STOPS)))
    assert (apart.rollout.tokens_BT != same.rollout.tokens_BT).any()  # the pads do differ
    for row in range(len(MANY)):
        assert real_ids(apart, row) == real_ids(same, row)
    mask_BC = apart.rollout.mask_BC
    assert torch.equal(mask_BC, same.rollout.mask_BC)
    for name in ("logprobs_BC", "value_BC", "advantage_BC", "return_BC"):
        assert torch.equal(getattr(apart.rollout, name)[mask_BC], getattr(same.rollout, name)[mask_BC]), name
    assert torch.equal(apart.score_B, same.score_B)
    assert numbers(apart) == numbers(same)


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_the_mask_ends_with_the_sampled_stop_token_and_with_nothing_else(pad_is_eos: bool):
    found = actors(**ENDS, pad_is_eos=pad_is_eos)
    episodes = mixed(found)
    for row, prompt in enumerate(MANY):
        completion = real_ids(episodes, row)[len(prompt) :]
        assert len(completion) == episodes.rollout.mask_BC[row].sum()
        is_stop = [token in (found.text.eos_id, *STOPS) for token in completion]
        assert is_stop == [False] * (len(completion) - 1) + [bool(episodes.finished_B[row])]


@ARCHITECTURES
def test_padding_changes_no_number_and_no_metric_of_a_rollout(architecture: str):
    found = actors(architecture, **ENDS)
    plain = mixed(found)
    width = plain.rollout.mask_BC.shape[1]

    def padded(*arguments, **settings) -> Samples:
        return widened(sample(*arguments, **settings), left=3, right=2)

    wide = mixed(replace(found, sampler=padded))
    assert wide.rollout.tokens_BT.shape[1] == plain.rollout.tokens_BT.shape[1] + 5
    mask_BC = plain.rollout.mask_BC
    for name in ("logprobs_BC", "value_BC", "advantage_BC", "return_BC"):
        ours, others = getattr(plain.rollout, name)[mask_BC], getattr(wide.rollout, name)[:, :width][mask_BC]
        torch.testing.assert_close(others, ours, atol=1e-5, rtol=0)
    torch.testing.assert_close(wide.score_B, plain.score_B, atol=1e-5, rtol=0)
    assert numbers(wide) == pytest.approx(numbers(plain), abs=1e-5)
    assert numbers(wide)["objective/entropy"] > 0.0


@ARCHITECTURES
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
def test_the_kl_is_that_of_the_sampled_tokens_alone_at_the_sampling_temperature(architecture: str, temperature: float):
    found = replace(actors(architecture, **ENDS), ref=tiny_lm(architecture, seed=9)[0])
    settings = replace(SETTINGS, temperature=temperature, lam=1.0)
    episodes = mixed(found, settings, kl_coef=0.3)
    for row, prompt in enumerate(MANY):
        completion = real_ids(episodes, row)[len(prompt) :]
        of_policy, of_ref = (
            logprobs_by_hand(model, prompt, completion, temperature) for model in (found.policy, found.ref)
        )
        kl = sum(of_policy) - sum(of_ref)  # no token of the prompt is in it
        assert episodes.kl_B[row].item() == pytest.approx(kl, abs=1e-4)
        to_come = episodes.score_B[row].item() - 0.3 * kl  # gamma = lam = 1
        assert episodes.rollout.return_BC[row, 0].item() == pytest.approx(to_come, abs=1e-4)
    assert episodes.kl_B.abs().max() > 0.5


def test_every_stop_token_is_an_end_and_only_the_budget_is_penalised():
    found = actors(**ENDS)
    settings = replace(SETTINGS, lam=1.0, missing_eos="replace", missing_eos_penalty=7.0)
    episodes = mixed(found, settings, kl_coef=0.0)
    is_end = [real_ids(episodes, row)[-1] in (0, *STOPS) for row in range(len(MANY))]
    # gamma = lam = 1 and no KL: what is to come at the first token is what the episode earns
    earned = [score if end else -7.0 for score, end in zip(episodes.score_B.tolist(), is_end, strict=True)]
    assert episodes.rollout.return_BC[:, 0].tolist() == pytest.approx(earned, abs=1e-5)
    assert float(episodes.metrics["completion/eos_fraction"]) == sum(is_end) / len(MANY)


def test_training_sees_exactly_the_sampled_ids():
    found = actors(**ENDS)
    episodes = mixed(found)
    drawn = sample(
        found.policy, found.text, MANY, max_new_tokens=4, temperature=1.0, seeds=range(len(MANY))
    ).completions()
    tokenizer, changed = found.text.tokenizer, 0
    for row, (prompt, completion) in enumerate(zip(MANY, drawn, strict=True)):
        assert real_ids(episodes, row) == [*prompt, *completion]
        again = tokenizer(tokenizer.decode(completion), add_special_tokens=False)["input_ids"]
        changed += again != completion
    assert changed > 0  # so going by way of the text would be seen here


@ARCHITECTURES
@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_an_empty_completion_is_a_legal_episode(architecture: str, pad_is_eos: bool):
    found = actors(architecture, stops=range(2, 290), pad_is_eos=pad_is_eos)  # whatever is drawn first is the end
    prompt = found.text.prompt_ids("The dog")
    episodes = collect(found, [prompt] * 3, range(3), replace(SETTINGS, lam=1.0), kl_coef=0.1)
    rollout = episodes.rollout
    assert rollout.mask_BC.tolist() == [[True]] * 3
    assert episodes.finished_B.all()
    expected = Scorer(found.reward, found.text).scores([("The dog", "")])[0]
    assert episodes.score_B.tolist() == pytest.approx([expected] * 3, abs=1e-5)
    assert rollout.return_BC[:, 0].tolist() == pytest.approx([expected] * 3, abs=1e-4)
    assert all(bool(getattr(rollout, name).isfinite().all()) for name in ("value_BC", "advantage_BC"))


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_rollout_training_and_text_give_one_score(bos: bool, pad_is_eos: bool):
    found = actors(**ENDS, bos=bos, pad_is_eos=pad_is_eos)
    text, prompt = found.text, "What does the dog say?"
    written = ["The dog says woof.", "meow", "", "The cat"]
    completions = [text.completion_ids(one) for one in written]
    completions[1][-1] = STOPS[0]  # ended by another stop token
    completions[3].pop()  # and one whose budget ran out
    finished = [True, True, True, False]
    samples = forged(text, [(text.prompt_ids(prompt), one) for one in completions], finished)
    found = replace(found, sampler=lambda *_, **__: samples)
    rolled = collect(found, [[5]] * 4, range(4), SETTINGS, kl_coef=0.0).score_B.tolist()
    row = {
        "prompt_id": "p",
        "prompt": prompt,
        "completions": [{"id": str(i), "text": one} for i, one in enumerate(written)],
        "tiers": [[str(i)] for i in range(4)],
    }
    (ranked,), _ = ranked_prompts([row], text, TokenLimits(40, 40))
    trained = score_rows(found.reward, text, ranked.rows)
    assert rolled[:3] == pytest.approx(trained[:3], abs=1e-5)
    assert abs(rolled[3] - trained[3]) > 1e-3  # training closes what a labeler read; what was cut off stays open
    read = Scorer(found.reward, text).scores([(prompt, one) for one in written], finished=finished)
    assert rolled == pytest.approx(read, abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.3])
def test_rollouts_are_draws_from_the_policy_at_its_temperature(temperature: float):
    found = actors(width=16)
    settings = replace(SETTINGS, temperature=temperature, max_new_tokens=1, forward_tokens=10**5)
    episodes = collect(found, [[10, 11]] * 2000, range(2000), settings, kl_coef=0.1)
    with torch.no_grad():
        probs_V = (found.policy(torch.tensor([[10, 11]])).logits[0, -1] / temperature).softmax(-1)
    assert pvalue_of_draws(episodes.rollout.tokens_BT[:, -1], probs_V) > 1e-3


def test_what_is_computed_in_batches_is_what_each_row_gives_alone():
    found = actors(**ENDS)
    together = mixed(found)
    for b, prompt in enumerate(MANY):
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
