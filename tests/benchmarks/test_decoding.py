"""The benchmark of decoding counts the tokens that are of use, and its bounds are those of a hand calculation."""

import pytest
import torch

from benchmarks import decoding
from benchmarks.decoding import Case, Decoding, bounds, measure
from benchmarks.measuring import Rates

TINY = {"vocab_size": 100, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1} | {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
RATE = Rates(threads=1, gigaflops_float32=1e-6, gigaflops_bfloat16=1e-6, copy_gigabytes=1e-6)  # 1,000 a second


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(decoding.SHAPES, "tiny", TINY)
    monkeypatch.setitem(decoding.CASES, "tiny", Case("tiny", 4, 2, True))
    monkeypatch.setattr(decoding, "PROMPT_TOKENS", 3)
    monkeypatch.setattr(decoding, "NEW_TOKENS", 5)


def test_both_arms_give_tokens_up_to_the_first_stop():
    made = Decoding(decoding.CASES["tiny"])
    assert made.case.stop_ids == (0, 20, 40, 60, 80)
    assert made._num_useful([3, 20, 4, 0]) == 2
    assert made._num_useful([3, 4]) == 2
    assert 4 <= made.peer("dynamic", "float32") <= 20
    assert 4 <= int(made.ours("float32").mask_BC.sum()) <= 20


def test_the_least_seconds_are_those_of_weights_keys_and_values():
    made = Decoding(Case("tiny", 4, 2, False))
    least = bounds(made, made.ours("float32"), RATE)
    layer = 8 * 8 * 2 + 8 * 4 * 2 + 3 * 8 * 16  # queries and output; keys and values of one head of 4; the MLP
    inner = layer + 2 * 8 + 8  # norms
    # 4 rows of 5 tokens, 2 at once: 10 steps; a row reads 3 + 1, 3 + 2 ... 3 + 5 cached tokens of 2 * 4 numbers
    numbers = 10 * (inner + 800) + 4 * 8 * (4 + 5 + 6 + 7 + 8)
    assert least["memory"] == pytest.approx(1000 * 4 * numbers / 1000 / 20)
    # two operations a weight: 2 prompt tokens before the last of a prompt, then 20 sampled ones with the output layer
    assert least["products"] == pytest.approx(1000 * 2 * (inner * (20 + 4 * 2) + 800 * 20) / 1000 / 20)


def test_a_result_says_how_many_times_as_fast_and_how_equal():
    with torch.random.fork_rng():
        found = measure("tiny", ["dynamic float32", "static float32", "instructloop float32"], 1, RATE)
    assert found["best_peer"] in ("dynamic float32", "static float32")
    assert set(found["times_the_best_peer"]) == {"instructloop float32"}
    assert found["logprob_difference"]["instructloop float32"]["max"] < 1e-5
