"""Samples come from the policy's own distribution, with its own log-probabilities, whatever the batch."""

import pytest
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from instructloop.models import decode
from instructloop.models.lm import completion_logprobs
from instructloop.models.sampler import Policy, row_seeds, sample
from instructloop.models.text import Text
from tests.models.draws import pvalue_of_draws
from tests.tiny import tiny_lm, tiny_tokenizer

STOPS = tuple(range(40))  # many stop ids, so that rows of a random model end at different steps
ARCHITECTURES = pytest.mark.parametrize("architecture", ["llama", "gpt2"])


def prompts(text, number: int = 24) -> list[list[int]]:
    return [text.prompt_ids("The dog says woof. "[: 3 + i % 7] + "!" * (i % 3)) for i in range(number)]


def draw(model, text, *, number: int = 24, **changes):
    settings = {"max_new_tokens": 12, "temperature": 1.0, "seeds": row_seeds(7, map(str, range(number)))}
    return sample(model, text, prompts(text, number), **settings | {"stop_ids": STOPS} | changes)


@ARCHITECTURES
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
def test_sampled_logprobs_equal_the_trainers(architecture: str, temperature: float):
    model, text = tiny_lm(architecture, dropout=0.1)
    samples = draw(model.train(), text, temperature=temperature)
    assert model.training  # given back in its mode
    model.eval()
    logprobs_BC = completion_logprobs(
        model, samples.tokens_BT, samples.attention_BT, samples.mask_BC.shape[1], temperature=temperature
    )
    log_ratio_BC = (logprobs_BC - samples.logprobs_BC)[samples.mask_BC]
    assert log_ratio_BC.abs().max() < 1e-5
    assert samples.logprobs_BC[~samples.mask_BC].tolist() == [0.0] * int((~samples.mask_BC).sum())
    log_ratio_BC.exp().sum().backward()  # the old log-probabilities may stand in a loss


@ARCHITECTURES
def test_a_completion_does_not_depend_on_its_batch(architecture: str):
    model, text = tiny_lm(architecture)
    together = draw(model, text)
    lengths = together.mask_BC.sum(1)
    assert lengths.min() < lengths.max()  # so finished rows did leave the batch
    assert 0 < together.finished_B.sum() < len(lengths)
    for batch_rows in (1, 5, 16):
        samples = draw(model, text, batch_rows=batch_rows)
        assert samples.completions() == together.completions()
        torch.testing.assert_close(samples.logprobs_BC, together.logprobs_BC, atol=1e-5, rtol=0)
    half = sample(
        model, text, prompts(text)[12:], max_new_tokens=12, temperature=1.0, seeds=row_seeds(7, map(str, range(12, 24)))
    )
    unstopped = draw(model, text, stop_ids=text.stop_ids)
    assert half.completions() == unstopped.completions()[12:]


def test_the_same_call_gives_the_same_bits_and_another_seed_another_sample():
    model, text = tiny_lm()
    one, again = draw(model, text), draw(model, text)
    assert torch.equal(one.logprobs_BC, again.logprobs_BC)
    assert one.completions() == again.completions()
    assert draw(model, text, seeds=row_seeds(8, map(str, range(24)))).completions() != one.completions()


def test_a_longer_budget_continues_the_shorter_one():
    model, text = tiny_lm()
    short, long = draw(model, text, max_new_tokens=4), draw(model, text, max_new_tokens=12)
    assert [row[:4] for row in long.completions()] == short.completions()


def test_dropping_finished_rows_changes_nothing(monkeypatch):
    model, text = tiny_lm()
    dropped = draw(model, text)
    monkeypatch.setattr(decode, "KEPT_FRACTION", 0.0)
    kept = draw(model, text)
    assert kept.completions() == dropped.completions()
    torch.testing.assert_close(kept.logprobs_BC, dropped.logprobs_BC, atol=1e-5, rtol=0)


def test_finished_rows_leave_the_batch():
    model, text = tiny_lm()
    rows_seen: list[int] = []
    model.register_forward_pre_hook(lambda _, __, kwargs: rows_seen.append(len(kwargs["input_ids"])), with_kwargs=True)
    samples = draw(model, text, number=64)
    assert rows_seen == sorted(rows_seen, reverse=True)
    useful = int(samples.mask_BC.sum())
    assert sum(rows_seen) < 1.25 * useful  # at most 20 % of a batch's rows are done


@ARCHITECTURES
def test_temperature_0_is_greedy_as_in_transformers(architecture: str):
    model, text = tiny_lm(architecture)
    samples = draw(model, text, temperature=0, stop_ids=(), number=6)
    for prompt, completion in zip(prompts(text, 6), samples.completions(), strict=True):
        expected = model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=1
        )
        assert completion == expected[0, len(prompt) :].tolist()
    logprobs_BC = completion_logprobs(model, samples.tokens_BT, samples.attention_BT, 12, temperature=1.0)
    torch.testing.assert_close(samples.logprobs_BC, logprobs_BC, atol=1e-5, rtol=0)
    assert not samples.finished_B.any()


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_samples_follow_the_policys_distribution(temperature: float):
    model, text = tiny_lm()
    prompt, number = text.prompt_ids("The dog"), 4000
    samples = sample(
        model, text, [prompt] * number, max_new_tokens=1, temperature=temperature, seeds=list(range(number))
    )
    with torch.no_grad():
        probs_V = (model(torch.tensor([prompt])).logits[0, -1] / temperature).softmax(-1)
    assert pvalue_of_draws(samples.tokens_BT[:, -1], probs_V) > 1e-3


@pytest.mark.parametrize(
    ("changes", "warper"), [({"top_k": 3}, TopKLogitsWarper(3)), ({"top_p": 0.6}, TopPLogitsWarper(0.6))]
)
def test_top_k_and_top_p_draw_from_the_tokens_that_transformers_keeps(changes, warper):
    model, text = tiny_lm()
    prompt = text.prompt_ids("The dog")
    with torch.no_grad():
        logits_1V = model(torch.tensor([prompt])).logits[:, -1]
    kept = set(torch.isfinite(warper(None, logits_1V))[0].nonzero()[:, 0].tolist())
    samples = sample(
        model, text, [prompt] * 400, max_new_tokens=1, temperature=1.0, seeds=list(range(400)), stop_ids=(), **changes
    )
    assert {row[0] for row in samples.completions()} == kept
    full = logits_1V[0].log_softmax(-1)[samples.tokens_BT[:, -1]]
    torch.testing.assert_close(samples.logprobs_BC[:, 0], full, atol=1e-5, rtol=0)  # of the whole distribution


def test_the_ends_of_the_uniform_numbers_never_draw_an_impossible_token():
    logits_AV = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]]).expand(2, -1)
    token_A, _ = decode._draw(logits_AV, torch.tensor([0.0, 1.0]), decode.Sampling(1, 1.0))
    assert token_A.tolist() == [1, 2]


def test_a_stop_id_that_is_not_eos_ends_a_row_and_is_part_of_it():
    model, text = tiny_lm()
    samples = draw(model, text)
    for completion, finished in zip(samples.completions(), samples.finished_B.tolist(), strict=True):
        stops = [token in STOPS for token in completion]
        assert not any(stops[:-1])
        assert stops[-1] == finished
        assert finished or len(completion) == 12


def test_pad_as_eos_gives_the_same_samples():
    model, text = tiny_lm()
    same = Text(tiny_tokenizer(pad_is_eos=True))
    one, other = draw(model, text), draw(model, same)
    assert one.completions() == other.completions()
    assert torch.equal(one.mask_BC, other.mask_BC)
    assert torch.equal(one.logprobs_BC, other.logprobs_BC)


def test_settings_without_sense_are_refused():
    model, text = tiny_lm("gpt2", context=16)
    refused = {
        "max_new_tokens 0": {"max_new_tokens": 0},
        "temperature -1": {"temperature": -1},
        "top_p 0": {"top_p": 0},
        "top_k -1": {"top_k": -1},
        "no effect at temperature 0": {"temperature": 0, "top_k": 3},
        "1 seeds for 24 prompts": {"seeds": [1]},
        "context is 16": {"max_new_tokens": 15},
    }
    for message, changes in refused.items():
        with pytest.raises(ValueError, match=message):
            draw(model, text, **changes)
    with pytest.raises(ValueError, match="each of at least one token"):
        sample(model, text, [[]], max_new_tokens=1, temperature=1.0, seeds=[1])


def test_rows_that_are_done_are_reported():
    model, text = tiny_lm()
    heard: list[int] = []
    draw(model, text, batch_rows=10, on_rows=heard.append)
    assert heard == [10, 10, 4]


def test_a_policy_writes_the_same_for_a_prompt_wherever_it_stands():
    policy = Policy("tiny", *tiny_lm())
    settings = {"max_new_tokens": 8, "temperature": 1.0, "seed": 3}
    first, second, repeated = policy.generate(["Hi", "The dog", "Hi"], **settings)
    assert policy.generate(["The dog"], **settings) == [second]
    assert policy.generate(["Hi", "Hi"], **settings) == [first, repeated]
    assert first != repeated
    assert policy.generate(["Hi"], **settings | {"seed": 4}) != [first]
    assert policy.generate([], **settings) == []


def test_a_policy_puts_its_prefix_before_the_prompt_and_stops_at_a_newline():
    model, text = tiny_lm()
    settings = {"max_new_tokens": 8, "temperature": 0.0, "seed": 0}
    prefixed = Policy("p", model, text, prefix="The cat sleeps. ").generate(["Hi"], **settings)
    assert prefixed == Policy("p", model, text).generate(["The cat sleeps. Hi"], **settings)
    raw = Policy("p", model, text, raw=True).generate(["Hi\n"], **settings)
    assert raw == Policy("p", model, text).generate(["Hi"], **settings)  # the plain template is a newline
    settings |= {"temperature": 3.0, "max_new_tokens": 60}
    for whole, cut in zip(
        Policy("p", model, text).generate(["Hi"] * 20, **settings),
        Policy("p", model, text).generate(["Hi"] * 20, **settings, stop_newline=True),
        strict=True,
    ):
        assert cut.text == whole.text.split("\n")[0]
        assert cut.finished == (whole.finished or "\n" in whole.text)


def test_a_policys_logprobs_are_sums_of_the_definition():
    model, text = tiny_lm(bos=True)
    pairs = [("The dog says", " woof"), ("", "The cat"), ("The dog", "")]
    found = Policy("p", model, text, prefix="unused here").logprobs(pairs)
    for (context, continuation), (total, number) in zip(pairs, found, strict=True):
        ids, more = text.document_ids(context, close=False), text.completion_ids(continuation, close=False)
        with torch.no_grad():
            logprobs_TV = model(torch.tensor([[*ids, *more]])).logits[0].log_softmax(-1)
        expected = sum(logprobs_TV[len(ids) + i - 1, token].item() for i, token in enumerate(more))
        assert number == len(more)
        assert total == pytest.approx(expected, abs=1e-4)  # a sum of up to ten log-probabilities
    assert Policy("p", model, text).logprobs(pairs, batch_tokens=1)[0] == pytest.approx(found[0], abs=1e-4)
    closed = Policy("p", model, text).logprobs([("The dog", "")], raw=False)
    assert closed[0][1] == 1  # the EOS after an empty completion


def test_a_context_that_is_too_long_is_cut_at_its_start():
    policy = Policy("p", *tiny_lm("gpt2", context=16))
    long = policy.logprobs([("z" * 50 + "abcdefgh", "12345")])
    assert long == policy.logprobs([("zzzabcdefgh", "12345")])
    assert policy.generate(["z" * 50], max_new_tokens=8, temperature=1.0, seed=0)[0].num_tokens <= 8


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_named_before_a_token_is_made_of_them(temperature: float, value: float):
    model, text = tiny_lm()
    with torch.no_grad():
        model.get_output_embeddings().weight[50] = value  # every weight of the model but these is finite
    with pytest.raises(ValueError, match="logits are not finite at token 1 "):
        draw(model, text, temperature=temperature)
