"""Workloads: sizes as they are called, completions as long as wanted, both sides' rows the same."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import ppo_iteration
from benchmarks.growth import GROWING, amount
from benchmarks.ppo_iteration import decoding_bytes, operations, weights
from benchmarks.turns import read
from benchmarks.workloads import EOS, PAD, SHAPES, WORKLOADS, Shape, make, make_model
from instructloop.models.lm import load_lm
from instructloop.models.sampler import sample
from instructloop.models.scalar import ScalarModel

TINY = WORKLOADS["tiny-ppo"]


def test_the_matrices_of_a_shape_are_those_of_its_model():
    model = make_model(TINY)
    body, head = weights(SHAPES["tiny"])
    matrices = [one for name, one in model.named_parameters() if one.ndim == 2 and "embed" not in name]
    assert body == sum(one.numel() for one in matrices)
    assert head == model.get_input_embeddings().weight.numel()
    assert round(sum(weights(SHAPES["smollm2"])) / 1e6, 1) == 134.5


@pytest.mark.parametrize("mean_length", [3.0, 8.0, None])
def test_completions_are_as_long_as_wanted(mean_length: float | None, tmp_path: Path):
    workload = replace(TINY, mean_length=mean_length, completion_tokens=64)
    make(workload, tmp_path)
    model, text = load_lm(tmp_path / "policy")
    _, prompts = read(tmp_path)
    rows = prompts * 10
    samples = sample(model, text, rows, max_new_tokens=64, temperature=1.0, seeds=range(len(rows)))
    length = float(samples.mask_BC.sum(1).float().mean())
    # 320 geometric lengths of mean m have a mean within 4 m / sqrt(320) = 0.22 m of m; with no end all are 64
    assert length == 64 if mean_length is None else abs(length / mean_length - 1) < 0.25
    assert not (samples.tokens_BT[samples.attention_BT] == PAD).any()


def test_both_sides_read_models_and_rows_of_one_folder(tmp_path: Path):
    make(WORKLOADS["tiny-reward"], tmp_path)
    work, rows = read(tmp_path)
    assert (work["task"], len(rows[0]["completions"])) == ("reward", 4)
    assert all(one[-1] == EOS and EOS not in one[:-1] for row in rows for one in row["completions"])
    assert ScalarModel.load(tmp_path / "reward")[1].pad_id == PAD


def test_demonstrations_have_the_lengths_of_their_quantiles(tmp_path: Path):
    make(replace(WORKLOADS["sft"], shape="tiny", rows=400), tmp_path)
    _, rows = read(tmp_path)
    prompts, completions = (sorted(len(row[part]) for row in rows) for part in ("prompt", "completion"))
    # medians of 188 and 6 words, at 1.3 tokens a word, and EOS
    assert prompts[200] == pytest.approx(188 * 1.3, rel=0.1)
    assert completions[200] == pytest.approx(6 * 1.3 + 1, abs=1.5)
    assert max(len(row["prompt"]) + len(row["completion"]) for row in rows) <= 1024


def test_operations_of_an_iteration_are_20_for_each_weight_and_token():
    shape = Shape(10, 4, 8, 1, 2, 1)
    assert weights(shape) == (2 * 4 * 2 * 3 + 3 * 4 * 8, 40)  # q and o of 2 heads, k and v of 1, each 2 wide; the MLP
    found = operations(shape, tokens=5, completion_tokens=0)
    assert found == {"rollout": 2 * 144 * 5, "score": 6 * 144 * 5, "update": 12 * 144 * 5}
    head = operations(shape, tokens=0, completion_tokens=5)
    assert head == {"rollout": 2 * 40 * 5, "score": 2 * 40 * 5, "update": 6 * 40 * 5}


def test_decoding_reads_all_weights_a_step_and_each_rows_keys_and_values():
    shape = Shape(10, 4, 8, 1, 2, 1)
    # 3 steps of 184 weights; 7 tokens before, of 1 key and 1 value, each 2 wide
    assert decoding_bytes(shape, steps=3, cached_tokens=7, bytes_per_number=2) == 2 * (3 * 184 + 7 * 4)


@pytest.mark.parametrize("what", GROWING)
def test_what_grows_doubles_twice(what: str):
    base, twice, four = (amount(what, one) for one in GROWING[what])
    assert (twice / base, four / base) == pytest.approx((2, 4), rel=0.06)


def test_an_iteration_is_measured_at_both_lengths_where_nothing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["ppo_iteration"])
    monkeypatch.setattr(ppo_iteration, "rates", lambda: None)
    monkeypatch.setattr(ppo_iteration, "measure", lambda name, *_, **__: name)
    ppo_iteration.main()
    assert capsys.readouterr().out == "['ppo-fixed', 'ppo-natural']\n"
