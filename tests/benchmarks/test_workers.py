"""Workers: our side at its turns, what it tells, and what is said when a process ends."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.measuring import Rates
from benchmarks.peers.__main__ import SETTINGS, peer_command
from benchmarks.peers.environments import FOLDER, PEERS, python
from benchmarks.peers.trl_training import pairs
from benchmarks.ppo_iteration import shares
from benchmarks.workers import Worker, compare
from benchmarks.workloads import WORKLOADS, make, own_command

SPEAKS = """
import json, sys
for number, _ in enumerate(sys.stdin):
    print(json.dumps({"seconds": number, "n": 2 * number}), flush=True)
"""


def test_arms_are_processes_that_are_set_up_once_and_take_turns():
    times, arms = compare({"a": [sys.executable, "-c", SPEAKS], "b": [sys.executable, "-c", SPEAKS]}, repeats=3)
    assert times["a"].seconds == (1, 2, 3)  # the warm-up was 0
    assert (arms["b"]["median"], arms["b"]["n"]) == (2, 4)
    assert arms["a"]["peak_mebibytes"] > 1


def test_a_worker_that_ends_says_why():
    worker = Worker([sys.executable, "-c", "raise SystemExit('no such model')"])
    with pytest.raises(ValueError, match="no such model"):
        worker.turn()
    worker.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-ppo", "tiny-reward", "tiny-sft"])
def test_our_side_works_at_its_turns(name: str, tmp_path: Path):
    make(WORKLOADS[name], tmp_path)
    _, arms = compare({"ours": own_command(tmp_path, "--threads 1")}, repeats=2)
    told = arms["ours"]
    assert told["median"] > 0
    if name == "tiny-ppo":
        found = shares(WORKLOADS[name], told, "float32", Rates(1, 100.0, 200.0, 10.0))
        assert sum(found["seconds"].values()) == pytest.approx(told["median"], abs=1e-3)
        assert 0 < found["arithmetic_share"]["all"] < 1
    if name == "tiny-reward":
        assert told["first_loss"] == pytest.approx(0.69, abs=0.05)  # log 2 where scores say nothing yet


def test_every_comparison_of_a_ranking_is_one_pair_best_first():
    rows = [{"prompt": [5], "completions": [[7], [8], [9]]}]
    assert [(one["chosen_ids"], one["rejected_ids"]) for one in pairs(rows)] == [
        ([5, 7], [5, 8]),
        ([5, 7], [5, 9]),
        ([5, 8], [5, 9]),
    ]


def test_a_peer_without_its_environment_says_what_makes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("benchmarks.peers.environments.FOLDER", tmp_path)
    with pytest.raises(ValueError, match="`make peers` makes it"):
        python("ppo")


@pytest.mark.slow
@pytest.mark.skipif(not all((FOLDER / peer / ".made").is_file() for peer in PEERS), reason="`make peers` was not run")
@pytest.mark.parametrize("name", ["tiny-ppo", "tiny-reward", "tiny-sft"])
def test_trl_does_the_same_work_at_its_turns(name: str, tmp_path: Path):
    workload = replace(WORKLOADS[name])
    make(workload, tmp_path)
    theirs = peer_command(workload.task, tmp_path, f"{SETTINGS[workload.task][0]} --threads 1")
    _, arms = compare({"trl": theirs, "ours": own_command(tmp_path, "--threads 1")}, repeats=1)
    if name == "tiny-reward":
        assert arms["trl"]["first_loss"] == pytest.approx(arms["ours"]["first_loss"], abs=1e-5)
    if name == "tiny-sft":
        assert arms["trl"]["tokens"] == arms["ours"]["tokens"]
