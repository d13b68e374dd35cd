"""Samples come from the policy's own distribution, with its own log-probabilities, whatever the batch."""

import numpy as np
import pytest
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from instructloop.models import cached, decode, lean
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
def test_each_token_is_where_the_distribution_passes_the_rows_next_number(architecture: str):
    model, text = tiny_lm(architecture)
    prompt = text.prompt_ids("The dog")
    samples = sample(model, text, [prompt], max_new_tokens=10, temperature=1.0, seeds=[5], stop_ids=())
    uniforms = np.random.Generator(np.random.Philox(key=5)).random(10, dtype=np.float32)
    ids = list(prompt)
    for uniform in uniforms:
        with torch.no_grad():
            probs_V = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
        ids.append(int(np.searchsorted(probs_V.cumsum(0).numpy(), uniform, side="right")))
    assert samples.completions() == [ids[len(prompt) :]]


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
    model, text = tiny_lm("gpt2")
    dropped = draw(model, text)
    monkeypatch.setattr(cached, "KEPT_FRACTION", 0.0)
    kept = draw(model, text)
    assert kept.completions() == dropped.completions()
    torch.testing.assert_close(kept.logprobs_BC, dropped.logprobs_BC, atol=1e-5, rtol=0)


def test_finished_rows_leave_the_batch_of_any_architecture():
    model, text = tiny_lm("gpt2")
    rows_seen: list[int] = []
    model.register_forward_pre_hook(lambda _, __, kwargs: rows_seen.append(len(kwargs["input_ids"])), with_kwargs=True)
    samples = draw(model, text, number=64)
    assert rows_seen == sorted(rows_seen, reverse=True)
    useful = int(samples.mask_BC.sum())
    assert sum(rows_seen) < 1.25 * useful  # at most 20 % of a batch's rows are done


def watched(monkeypatch) -> list[int]:
    """Return what will hold how many rows each step of the lean forward had."""
    rows_seen: list[int] = []
    step = lean.LeanForward.step
    monkeypatch.setattr(
        lean.LeanForward, "step", lambda self, tokens: (rows_seen.append(len(tokens)), step(self, tokens))[1]
    )
    return rows_seen


def test_every_step_has_unfinished_rows_only(monkeypatch):
    model, text = tiny_lm()
    rows_seen = watched(monkeypatch)
    samples = draw(model, text, number=64)
    assert sum(rows_seen) == int(samples.mask_BC.sum()) - 64  # each row's first token comes from its prompt


def test_waiting_prompts_take_the_places_of_finished_rows(monkeypatch):
    model, text = tiny_lm()
    together = draw(model, text, number=80)
    rows_seen = watched(monkeypatch)
    refilled = draw(model, text, number=80, batch_rows=16)
    assert refilled.completions() == together.completions()
    torch.testing.assert_close(refilled.logprobs_BC, together.logprobs_BC, atol=1e-5, rtol=0)
    assert max(rows_seen) <= 16
    full = rows_seen[: len(rows_seen) // 2]
    assert sum(full) > 0.8 * 16 * len(full)  # while prompts wait, the slots are taken


@pytest.mark.parametrize("spare", [1, 3])
def test_columns_that_run_out_are_used_again(monkeypatch, spare: int):
    model, text = tiny_lm()
    together = draw(model, text, number=60)
    moves: list[int] = []
    move = lean.LeanForward._to_the_front
    monkeypatch.setattr(lean.LeanForward, "_to_the_front", lambda self: (moves.append(1), move(self)))
    monkeypatch.setattr(decode, "SPARE_COLUMNS", spare)
    refilled = draw(model, text, number=60, batch_rows=4)
    assert len(moves) > 3
    assert refilled.completions() == together.completions()
    torch.testing.assert_close(refilled.logprobs_BC, together.logprobs_BC, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_prompts_of_any_length_join_in_any_order(family: str):
    model, text = tiny_lm(family)
    model.config.sliding_window = None  # Mistral's tiny one is shorter than these rows
    rows = [text.prompt_ids("The dog says woof. " * 5)[:length] for length in (1, 40, 2, 39, 3, 7, 40, 60, 1, 5) * 3]
    seeds = row_seeds(1, map(str, range(len(rows))))
    settings = {"max_new_tokens": 20, "temperature": 1.0, "stop_ids": STOPS}
    assert lean.has_lean_shape(model, 80)
    together = sample(model, text, rows, seeds=seeds, batch_rows=3, **settings)
    logprobs_BC = completion_logprobs(
        model, together.tokens_BT, together.attention_BT, together.mask_BC.shape[1], temperature=1.0
    )
    torch.testing.assert_close(logprobs_BC[together.mask_BC], together.logprobs_BC[together.mask_BC], atol=1e-5, rtol=0)
    for row, completion in enumerate(together.completions()):
        assert sample(model, text, [rows[row]], seeds=[seeds[row]], **settings).completions() == [completion]


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("copied_bytes", [0, lean.COPIED_BYTES])
def test_plain_functions_compute_what_the_model_does(monkeypatch, family: str, copied_bytes: int):
    monkeypatch.setattr(lean, "COPIED_BYTES", copied_bytes)
    model, text = tiny_lm(family, tied=False)
    with torch.no_grad():
        for name, weight in model.named_parameters():  # biases and norms are 0 and 1 at first, which hides mistakes
            if "norm" in name or "bias" in name:
                weight += torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    prompts = [text.prompt_ids("The dog"), text.prompt_ids("Hi"), text.prompt_ids("The dog")]
    with torch.inference_mode():
        forward = lean.LeanForward(model, 3, 32)
        found = [forward.join(prompts), forward.step([5, 6, 7]), forward.step([8, 9, 10])]
        for step, logits_AV in enumerate(found):
            for row, prompt in enumerate(prompts):
                ids = [*prompt, *([5, 6, 7][row], [8, 9, 10][row])[:step]]
                torch.testing.assert_close(logits_AV[row], model(torch.tensor([ids])).logits[0, -1], atol=2e-5, rtol=0)


def test_columns_that_a_long_prompt_skips_stay_closed():
    model, text = tiny_lm()
    short, long = text.prompt_ids("Hi"), [*range(20, 50)]
    fed = [*range(3, 27)]
    with torch.inference_mode():
        forward = lean.LeanForward(model, 2, 40)
        forward.join([[1] * 20])
        forward.join([short])  # beside the end of the other's prompt
        forward.keep([1])
        for token in fed[:-1]:
            forward.step([token])
        assert forward.column < len(long)  # the columns ran out on the way, and started again at the front
        forward.join([long])
        found = forward.step([fed[-1], 7])
        for logits_V, ids in zip(found, ([*short, *fed], [*long, 7]), strict=True):
            torch.testing.assert_close(logits_V, model(torch.tensor([ids])).logits[0, -1], atol=2e-5, rtol=0)


@ARCHITECTURES
def test_in_bfloat16_sampler_and_trainer_differ_by_rounding_only(architecture: str):
    model, text = tiny_lm(architecture)
    samples = draw(model.bfloat16(), text, batch_rows=7)
    assert samples.logprobs_BC.dtype == torch.float32

    def trainers(dtype: torch.dtype) -> torch.Tensor:
        found_BC = completion_logprobs(
            model.to(dtype), samples.tokens_BT, samples.attention_BT, samples.mask_BC.shape[1], temperature=1.0
        )
        return found_BC.detach()[samples.mask_BC]

    low, full = trainers(torch.bfloat16), trainers(torch.float32)
    found = samples.logprobs_BC[samples.mask_BC]
    assert 0 < (found - low).abs().mean() < 2 * (low - full).abs().mean()  # two roundings of one number


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.register_forward_hook(lambda *_: None),
        lambda model: setattr(
            model.model.layers[1].mlp, "up_proj", torch.nn.Sequential(model.model.layers[1].mlp.up_proj)
        ),
        lambda model: setattr(model.model.rotary_emb, "rope_type", "dynamic"),
        lambda model: setattr(model.config, "sliding_window", 79),
        lambda model: setattr(model.model.layers[0], "extra", torch.nn.Identity()),
    ],
)
def test_what_is_not_known_to_be_of_llamas_shape_goes_through_transformers(change):
    model, _ = tiny_lm()
    assert lean.has_lean_shape(model, 80)
    change(model)
    assert not lean.has_lean_shape(model, 80)


def test_other_families_go_through_transformers():
    for family in ("gpt2", "gpt_neox", "gemma", "gemma2", "gemma3_text"):
        assert not lean.has_lean_shape(tiny_lm(family)[0], 16)
    assert not lean.has_lean_shape(tiny_lm("mistral")[0], 9)  # its window is 8
    assert lean.has_lean_shape(tiny_lm("mistral")[0], 8)


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


@ARCHITECTURES
def test_rows_that_are_done_are_reported(architecture: str):
    model, text = tiny_lm(architecture)
    heard: list[int] = []
    draw(model, text, batch_rows=10, on_rows=heard.append)
    assert sum(heard) == 24
    assert min(heard) > 0


@ARCHITECTURES
def test_tokens_are_heard_when_they_are_drawn(architecture: str):
    model, text = tiny_lm(architecture)
    heard: list[list[int]] = [[] for _ in range(24)]
    samples = draw(model, text, batch_rows=5, on_token=lambda row, token: heard[row].append(token))
    assert heard == samples.completions()


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
