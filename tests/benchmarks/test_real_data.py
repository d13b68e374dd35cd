"""Studies of real data: which rows a part has, the command that is kept, and what its run found."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from benchmarks import real_data
from benchmarks.real_data import FULL, SMALL, Part, Study, command, measured
from instructloop.models.lm import save_lm
from tests.tiny import tiny_lm


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder with pairs in which woof is better than meow, gzipped."""
    folder = tmp_path / "DATA"
    folder.mkdir()
    for name, number in (("train", 24), ("dev", 6)):
        pairs = [
            {
                "prompt": f"What does dog {name} {i} say?",
                "chosen": "woof " * (1 + i % 3),
                "rejected": "meow " * (1 + i % 2),
            }
            for i in range(number)
        ]
        with gzip.open(folder / f"pairs.{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in pairs)
    return folder


def test_a_part_is_the_same_lines_each_time_and_of_the_lengths_that_are_wanted(data: Path, tmp_path: Path):
    whole = data / "pairs.train.jsonl.gz"
    assert Part(whole.name).written(data, tmp_path) == whole
    lines = gzip.decompress(whole.read_bytes()).decode().splitlines(keepends=True)
    some = Part(whole.name, rows=5).written(data, tmp_path).read_text()
    assert some == Part(whole.name, rows=5).written(data, tmp_path / "again").read_text()
    assert len(set(some.splitlines())) == 5
    assert set(some.splitlines(keepends=True)) < set(lines)
    least, most = sorted(map(len, lines))[4], sorted(map(len, lines))[-4]
    kept = Part(whole.name, characters=(least, most)).written(data, tmp_path).read_text().splitlines(keepends=True)
    assert sorted(kept) == sorted(line for line in lines if least <= len(line) <= most)


@pytest.mark.slow
def test_a_study_runs_its_command_and_keeps_what_the_run_found(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model, text = tiny_lm()
    save_lm(model, text, tmp_path / "tiny")
    monkeypatch.setattr(real_data, "MODEL", str(tmp_path / "tiny"))
    parts = (Part("pairs.train.jsonl.gz", rows=20), Part("pairs.dev.jsonl.gz"))
    short = "--max-prompt-tokens 40 --max-completion-tokens 20"
    study = Study("reward", *parts, f"--lr 1e-2 --batch 4 {short}", tfidf=0.5)
    found = measured("pairs", study, data, tmp_path / "FOLDER")
    summary = found["summaries"]["reward"]
    assert summary["comparisons"] == 20
    assert summary["accuracy_heldout"]["n"] == 6
    assert found["tfidf"] == 0.5
    assert "--data FOLDER/data/pairs/pairs.train.jsonl --eval DATA/pairs.dev.jsonl.gz" in found["command"]


def test_every_study_of_ppo_names_a_reward_model_that_another_one_makes():
    for studies in (SMALL, FULL):
        for study in studies.values():
            assert (study.reward is not None) == (study.verb == "ppo")
            assert study.reward is None or studies[study.reward].verb == "reward"


def test_a_blank_prompt_is_given_as_one_word(tmp_path: Path):
    study = Study("reward", Part("a.jsonl"), Part("b.jsonl"), "--lr 1", prompt="Tell me.")
    words = command("name", study, tmp_path, tmp_path)
    assert words[words.index("--prompt") + 1] == "Tell me."


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_full_studies_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    real_data.main([str(tmp_path), "--to", str(tmp_path / "to"), "--full"])
    assert capsys.readouterr().out.strip() == real_data.NOT_HERE
