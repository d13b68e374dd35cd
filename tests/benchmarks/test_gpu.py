"""The script for a GPU: tried with a tiny model here, skipped in a sentence where there is none."""

import pytest
import torch

from benchmarks import gpu
from benchmarks.measuring import Rates


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_is_done(capsys: pytest.CaptureFixture[str]):
    gpu.main([])
    assert capsys.readouterr().out.strip() == gpu.NOT_HERE


def test_what_needs_no_process_of_its_own_runs(tmp_path):
    assert gpu.checked(gpu.SMALL.check, tmp_path / "check")["largest_difference_nats"] < 1e-4
    found = gpu.decoding(gpu.SMALL.decoding, tmp_path / "decoding", Rates(1, 1.0, 1.0, 1.0), "bfloat16", repeats=1)
    assert (found["rows"], found["dtype"]) == (8, "bfloat16")


@pytest.mark.slow
def test_every_part_runs():
    found = gpu.measure(gpu.SMALL, ("--precision bfloat16 --threads 1",), with_peer=False)
    assert found["check"][0]["largest_difference_nats"] < 1e-4
    (arm,) = found["iteration"][0]["arms"].values()
    assert arm["arithmetic_share"]["update"] > 0
    assert found["decoding"][0]["rows"] == 8
    assert found["memory"][0]["peak"]["--precision bfloat16 --threads 1"]["peak_mebibytes"] > 100


def test_a_sampler_that_disagrees_with_training_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path):
    wrong = gpu.completion_logprobs
    monkeypatch.setattr(gpu, "completion_logprobs", lambda *given, **more: wrong(*given, **more) + 0.01)
    with pytest.raises(ValueError, match="sampling and learning differ by"):
        gpu.checked(gpu.SMALL.check, tmp_path)
