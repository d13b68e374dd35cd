"""The plan: a model's size, what stages would take, and exit code 1 where something is too big to fit."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from instructloop import plan_commands
from instructloop.models.lm import save_lm
from instructloop.runs import Run
from instructloop.train.rates import Rates, free_memory
from tests.tiny import tiny_lm

RATES = Rates("a test", 1, {"float32": 1e9, "bfloat16": 2e9}, 1e9, 3 * 10**9, 10**9)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and a tokenizer, without weights, on a machine of known rates."""
    monkeypatch.setenv("INSTRUCTLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(plan_commands, "measure", lambda *_: RATES)
    model, text = tiny_lm()
    save_lm(model, text, tmp_path / "tiny")
    (tmp_path / "tiny/model.safetensors").unlink()
    return tmp_path / "tiny"


def column(out: str, row: str) -> list[float]:
    """Return the numbers of a row of the table."""
    [line] = [line for line in out.splitlines() if re.split(" {2,}", line.strip())[0] == row]
    return [float(number) for number in re.findall(r"[\d.]+", line.replace(row, ""))]


def test_a_plan_says_parameters_memory_operations_and_time(call, model: Path):
    said = call("plan", "--model", model, "--set", "ppo.num_iterations=3")
    assert said.code == 0, said.err
    assert "27,872 parameters, 18,592 without embeddings; 2 layers of 32, vocabulary 290" in said.out
    assert "1 in float32, 2 in bfloat16 GFLOP/s, copies of 1.0 GB/s; 3.0 GB of memory free" in said.out
    assert "sft: 1,000 rows; 1.0 completions a row; 96 tokens a prompt, 64 a completion" in said.out
    for part in ("process", "weights", "gradients", "optimizer", "policy", "reward model", "training", "updates"):
        assert column(said.out, part)
    assert len(column(said.out, "memory, GB")) == 3
    assert said.out.splitlines()[-1] == "all of it fits into 4.0 GB"
    assert not Path("runs").exists()


def test_rows_of_a_file_are_counted_with_the_model_s_tokenizer(call, model: Path, tmp_path: Path):
    pairs = [{"prompt": f"{'a' * 30}{i}", "chosen": "b" * 9, "rejected": "c" * 9} for i in range(4)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    said = call("plan", "--model", model, "--rankings", file, "--prompts", file, "--demonstrations", "7")
    assert "reward: 4 rows; 2.0 completions a row;" in said.out
    assert re.search(r"ppo: 4 rows; \d+ tokens a prompt", said.out)
    assert "sft: 7 rows" in said.out
    tokens = re.search(r"(\d+) tokens a prompt, (\d+) a completion", said.out.split("reward: ")[1])
    assert tokens
    assert int(tokens[2]) == 10  # nine letters and EOS


@pytest.mark.parametrize("recipe", ["small", "real", "paper"])
def test_every_recipe_has_a_plan(call, model: Path, recipe: str):
    assert f"recipe {recipe}" in call("plan", "--model", model, "--recipe", recipe).out


def test_the_paper_s_numbers_take_the_paper_s_operations(call, model: Path):
    """256k episodes of up to 1,000 tokens each (C.4), whatever the model."""
    small = call("plan", "--model", model).out
    large = call("plan", "--model", model, "--recipe", "paper").out
    assert column(large, "updates")[-1] > 1000 * column(small, "updates")[-1]


def test_what_does_not_fit_is_exit_code_1_after_the_whole_plan(call, model: Path):
    said = call("plan", "--model", model, "--set", "reward.micro_batch_rows=100000")
    assert said.code == 1
    assert column(said.out, "memory, GB")[1] > 4
    assert re.fullmatch(r"error: reward needs [\d.]+ GB of memory, 4\.0 GB are there: .*\n", said.err)


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--recipe", "smal"], 2, "--recipe 'smal' is unknown; did you mean small?"),
        (["--set", "sfd.lr=1"], 2, "--set sfd: there is no such step here; did you mean sft?"),
        (["--set", "sft.lr=-1"], 1, "sft.lr = -1: input should be greater than 0"),
        (["--rankings", "none.jsonl"], 1, "none.jsonl does not exist"),
    ],
)
def test_a_plan_that_cannot_be_made_is_one_line(call, model: Path, arguments: list[str], code: int, error: str):
    said = call("plan", "--model", model, *arguments)
    assert (said.code, said.err.count("\n")) == (code, 1)
    assert error in said.err


def test_what_is_free_is_no_more_than_the_machine_has():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free_memory() <= total


@pytest.mark.slow
def test_the_memory_that_is_planned_is_what_a_training_takes(call, model: Path, tmp_path: Path, monkeypatch):
    """Within a quarter, of all that the process takes: 27M parameters, rows as long as they may be."""
    monkeypatch.undo()
    monkeypatch.setenv("INSTRUCTLOOP_HOME", str(tmp_path / "home"))
    lm, text = tiny_lm(width=768, context=512)
    save_lm(lm, text, tmp_path / "large")
    file = tmp_path / "told.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": f"{i} " + "a" * 400, "completion": "b" * 60}) + "\n" for i in range(40))
    )
    settings = ("--set", "sft.dtype=float32", "--set", "sft.micro_batch_rows=16")
    planned = subprocess.run(
        [
            sys.executable,
            "-m",
            "instructloop",
            "plan",
            "--model",
            tmp_path / "large",
            "--demonstrations",
            "40",
            *settings,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = column(planned.stdout, "memory, GB")[0] * 1e9
    command = [
        "sft",
        "--model",
        tmp_path / "large",
        "--data",
        file,
        "--to",
        tmp_path / "out",
        "--max-prompt-tokens",
        "192",
    ]
    done = subprocess.Popen([sys.executable, "-m", "instructloop", *command, *settings], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(done.pid, 0)
    done.returncode = os.waitstatus_to_exitcode(status)
    assert done.returncode == 0
    assert Run.find(tmp_path / "out/runs", "sft").summary["truncated_prompts"] == 40
    assert usage.ru_maxrss * 1024 == pytest.approx(expected, rel=0.25)
