"""One command each for a model and a file that are there already, and one line for what is wrong with either."""

import json
import re
import shutil
from pathlib import Path

import pytest

from instructloop.files import read_jsonl
from instructloop.models.lm import save_lm
from instructloop.runs import Run
from tests.stages.small import Crash, crash_after, same_training, weights
from tests.tiny import tiny_lm, tiny_tokenizer

SHORT = ("--max-prompt-tokens", "40", "--max-completion-tokens", "24")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("INSTRUCTLOOP_HOME", str(tmp_path / "home"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    model, text = tiny_lm()
    save_lm(model, text, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def demonstrations(tmp_path: Path) -> Path:
    return rows(
        tmp_path / "told.jsonl", [{"prompt": f"What does dog {i} say?", "completion": "woof"} for i in range(40)]
    )


@pytest.fixture
def rankings(tmp_path: Path) -> Path:
    pairs = [{"prompt": f"Dog {i}?", "chosen": f"woof {i % 3}", "rejected": f"miaow {i % 3}"} for i in range(60)]
    return rows(tmp_path / "pairs.jsonl", pairs)


def rows(path: Path, found: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


def number(pattern: str, out: str) -> float:
    found = re.search(pattern, out)
    assert found, out
    return float(found[1])


def test_sft_learns_and_says_what_it_was_before_and_after(call, model: Path, demonstrations: Path):
    said = call("sft", "--model", model, "--data", demonstrations, "--to", "out", "--lr", "0.01", *SHORT)
    assert said.code == 0, said.err
    assert "36 rows to learn from, 4 held out" in said.out
    before, after = (number(rf"([\d.]+) \[[\d., ]+\] {when}", said.out) for when in ("before", "after"))
    assert after < before - 1  # nats per token: random guessing of bytes is what it begins with
    assert re.search(r"difference -\d\.\d+ \[-[\d.]+, -[\d.]+\]", said.out)
    assert "tokens of 4 prompts" in said.out
    [run] = [run for run in Run.all(Path("out/runs")) if run.stage == "s3_sft"]
    assert run.config["lr"] == 0.01
    tree = call("lineage", "sft", "--dir", "out").out
    assert "base: r01-import-tiny-" in tree
    assert "from outside: train" in tree


def test_what_is_done_is_not_done_again(call, model: Path, demonstrations: Path):
    command = ("sft", "--model", model, "--data", demonstrations, *SHORT)
    first, again = call(*command), call(*command)
    assert "import-told: begins" in first.out
    assert "begins" not in again.out
    assert again.out.splitlines() == first.out.splitlines()[-len(again.out.splitlines()) :]
    assert len(Run.all(Path("runs"))) == 4


def test_a_stopped_training_goes_on_where_it_was(
    call, model: Path, demonstrations: Path, monkeypatch: pytest.MonkeyPatch
):
    command = ("sft", "--model", model, "--data", demonstrations, "--batch", "6", *SHORT)
    with crash_after(monkeypatch, 4):
        assert call(*command, "--to", "stopped").err == f"error: {Crash.__name__}: (--debug shows where)\n"
    assert call(*command, "--to", "stopped").code == call(*command, "--to", "whole").code == 0
    stopped, whole = (Run.find(Path(folder, "runs"), "sft") for folder in ("stopped", "whole"))
    assert weights(stopped.file("model")) == weights(whole.file("model"))
    assert same_training(stopped, whole)


def test_a_reward_model_is_measured_on_held_out_pairs_beside_their_length(
    call, model: Path, demonstrations: Path, rankings: Path
):
    call("sft", "--model", model, "--data", demonstrations, "--to", "out", *SHORT)
    command = ("reward", "--model", "sft", "--data", rankings, "--to", "out", "--lr", "0.01", "--epochs", "2", *SHORT)
    said = call(*command)
    assert said.code == 0, said.err
    assert number(r"held-out accuracy: ([\d.]+)", said.out) > 0.9  # .5 is guessing
    assert "n = 6 comparisons of 6 prompts" in said.out
    assert number(r"longer completion winning: ([\d.]+)", said.out) < 0.5  # "miaow" is the longer one
    run = Run.find(Path("out/runs"), "reward")
    assert run.parents["init"].name == "sft"
    assert run.parents["rankings"].id == run.parents["demonstrations"].id
    best = call("score", "reward", "--prompt", "Dog 3?", "--completion", "woof 1", "--dir", "out").out
    worst = call("score", "reward", "--prompt", "Dog 3?", "--completion", "miaow 1", "--dir", "out").out
    assert json.loads(best)["score"] > json.loads(worst)["score"]


@pytest.fixture
def taught(call, model: Path, rankings: Path, tmp_path: Path) -> Path:
    """A folder with a policy that says woof or miaow, as likely, and a reward model that likes woof."""
    told = [{"prompt": f"Dog {i}?", "completion": f"{('woof', 'miaow')[i % 2]} {i % 3}"} for i in range(60)]
    both = ("--to", "out", "--lr", "0.01", *SHORT)
    call("sft", "--model", model, "--data", rows(tmp_path / "both.jsonl", told), "--epochs", "6", *both)
    call("reward", "--model", "sft", "--data", rankings, "--epochs", "2", *both)
    return Path("out")


def test_ppo_learns_from_a_reward_model_and_says_what_it_did_to_held_out_prompts(
    call, rankings: Path, taught: Path, tmp_path: Path
):
    text = rows(tmp_path / "text.jsonl", [{"text": f"The dog {i} barks. The cat sleeps."} for i in range(100)])
    command = ("ppo", "--model", "sft", "--reward", "reward", "--data", rankings, "--text", text, "--to", taught)
    small = ("--iterations", "10", "--episodes", "32", "--lr", "0.003", "--kl-coef", "0.01", "--eval-prompts", "6")
    limits = ("--max-prompt-tokens", "40", "--max-completion-tokens", "8", "--set", "ppo.ptx_window_tokens=24")
    said = call(*command, *small, *limits, "--set", "ppo.value_lr=0.003", "--set", "ppo.dtype=float32")
    assert said.code == 0, said.err
    first, last = (number(rf"score .*?(-?[\d.]+) {when}", said.out) for when in ("first", "last"))
    completions = read_jsonl(Run.find(taught / "runs", "ppo").file("samples.jsonl"))
    share = [
        sum("woof" in row["completion"] for row in completions if row["iteration"] in of) / (4 * len(of))
        for of in ((1, 2), (9, 10))
    ]
    assert last > first + 0.5
    assert share[1] >= 0.75 > share[0]  # a half to begin with
    assert "n = 6 prompts" in said.out
    assert re.search(r"held-out text: perplexity [\d.]+ \[[\d., ]+\] before, [\d.]+ \[[\d., ]+\] after", said.out)
    run = Run.find(taught / "runs", "ppo")
    assert {role: parent.stage for role, parent in run.parents.items()} == {
        "init": "s3_sft",
        "reward": "s6_reward",
        "prompts": "import",
        "pretraining": "import",
    }
    assert run.config["ptx_coef"] == 1.0
    assert Run.find(taught / "runs", "ppo-held-out").summary["score"]["after"]["n"] == 6


def test_ppo_without_text_has_no_mix_and_measures_another_file_s(call, model: Path, rankings: Path, taught: Path):
    paragraph = " ".join(["dog"] * 45)
    Path("wiki.txt").write_text(f" = title =\n{paragraph}\n\n{paragraph} cat\n")
    command = ("ppo", "--model", model, "--reward", "reward", "--data", rankings, "--to", taught, *SHORT)
    said = call(*command, "--iterations", "1", "--eval-text", "wiki.txt")
    assert said.code == 0, said.err
    assert Run.find(taught / "runs", "ppo").config["ptx_coef"] == 0
    assert Run.find(taught / "runs", "ppo-held-out").summary["text_loss"]["after"]["n_clusters"] == 2


@pytest.mark.slow
def test_the_numbers_of_a_gpu_train_adapters_in_bfloat16_on_one_copy_of_the_weights(
    call, model: Path, demonstrations: Path, rankings: Path
):
    pytest.importorskip("peft")
    common = ("--machine", "gpu", "--to", "out", *SHORT)
    assert call("sft", "--model", model, "--data", demonstrations, *common).code == 0
    assert call("reward", "--model", "sft", "--data", rankings, "--lora", "2", *common).code == 0
    ppo = ("ppo", "--model", "sft", "--reward", "reward", "--data", rankings, "--iterations", "1", "--episodes", "16")
    said = call(*ppo, *common)
    assert said.code == 0, said.err
    assert "policy, reference, value function and reward model stand on one copy of the weights" in said.out
    runs = {name: Run.find(Path("out/runs"), name) for name in ("sft", "reward", "ppo")}
    assert {name: run.config["lora"]["rank"] for name, run in runs.items()} == {"sft": 16, "reward": 2, "ppo": 16}
    assert {run.config["dtype"] for run in runs.values()} == {"bfloat16"}
    whole = call("sft", "--model", model, "--data", demonstrations, "--lora", "0", "--name", "whole", *common)
    assert whole.code == 0, whole.err
    assert Run.find(Path("out/runs"), "whole").config["lora"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        ([], 2, "--model needs --reward MODEL beside it"),
        (["--reward", "tiny"], 1, "is a policy, not a reward model"),
        (["--reward", "tiny", "--ptx-coef", "1"], 2, "--ptx-coef has no effect without --text FILE"),
        (["--reward", "tiny", "--episodes", "0"], 1, "episodes_per_iteration = 0: input should be greater than 0"),
    ],
)
def test_ppo_is_refused_what_it_cannot_do(
    call, model: Path, rankings: Path, arguments: list[str], code: int, error: str
):
    said = call(
        "ppo", "--model", model, "--data", rankings, *SHORT, *[str(model) if a == "tiny" else a for a in arguments]
    )
    assert (said.code, said.err.count("\n")) == (code, 1), said.err
    assert error in said.err


def test_pairs_under_one_question_are_counted_by_their_completions(call, model: Path, tmp_path: Path):
    pairs = [{"prompt": "", "chosen": f"woof {i}", "rejected": f"miaow {i}"} for i in range(50)]
    file = rows(tmp_path / "jokes.jsonl", pairs)
    said = call("reward", "--model", model, "--data", file, "--prompt", "Which is funnier?", *SHORT)
    assert said.code == 0, said.err
    assert "n = 5 comparisons of 10 completions of one prompt" in said.out


def test_labels_of_a_run_go_out_again(call, model: Path, rankings: Path):
    call("reward", "--model", model, "--data", rankings, *SHORT)
    said = call("export", "import-pairs", "--shape", "pairs", "--to", "again.jsonl")
    assert said.code == 0, said.err
    written = {tuple(sorted(json.loads(line).items())) for line in Path("again.jsonl").read_text().splitlines()}
    kept = {tuple(sorted(json.loads(line).items())) for line in rankings.read_text().splitlines()}
    assert {dict(row)["chosen"] for row in written} == {dict(row)["chosen"] for row in kept}
    assert len(written) == 60


def test_another_file_is_held_out_when_it_is_given(call, model: Path, rankings: Path, tmp_path: Path):
    dev = rows(tmp_path / "dev.jsonl", [{"prompt": "new?", "chosen": "woof", "rejected": "miaow"}] * 1)
    said = call("reward", "--model", model, "--data", rankings, "--eval", dev, "--name", "mine", *SHORT)
    assert "60 rows to learn from, 1 held out" in said.out
    assert Run.find(Path("runs"), "mine").stage == "s6_reward"


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--data", "told.jsonl"], 2, "--data has no effect without --model"),
        (["--lr", "1"], 2, "--lr has no effect without --model"),
        (["sft", "--model", "tiny", "--data", "told.jsonl"], 2, "sft would be a step of a workspace's recipe"),
        (["--model", "tiny"], 2, "--model needs --data FILE beside it"),
        (["--model", "tiny", "--data", "told.jsonl", "--machine", "cpu"], 2, "--machine 'cpu' is unknown"),
        (
            ["--model", "tiny", "--data", "told.jsonl", "--set", "ppo.lr=1"],
            2,
            "--set ppo: there is no such step here; known are sft",
        ),
        (["--model", "tiny", "--data", "told.jsonl", "--lr", "1", "--set", "sft.lr=2"], 2, "lr is set twice"),
        (["--model", "tiny", "--data", "told.jsonl", "--lr", "-1"], 1, "sft.lr = -1.0: input should be greater than 0"),
        (["--model", "tinny", "--data", "told.jsonl"], 1, "no model is called 'tinny' and no folder"),
        (["--model", "tiny", "--data", "none.jsonl"], 1, "none.jsonl does not exist"),
        (["--model", "tiny", "--data", "told.jsonl"], 1, "a prompt of 192 tokens and a completion of 128 are 320"),
    ],
)
def test_what_cannot_be_meant_or_done_is_one_line_and_starts_nothing(
    call, model: Path, demonstrations: Path, arguments: list[str], code: int, error: str
):
    if "192" not in error and "--model" in arguments:
        arguments = [*arguments, *SHORT]
    said = call("sft", *arguments)
    assert (said.code, said.err.count("\n")) == (code, 1), said.err
    assert error in said.err
    assert not Path("runs").exists() or Run.all(Path("runs")) == []


def test_a_file_of_another_kind_is_refused(call, model: Path, rankings: Path):
    said = call("sft", "--model", model, "--data", rankings, *SHORT)
    assert said.code == 1
    assert "pairs.jsonl:1: the fields are chosen, prompt, rejected: rows of shape pairs are rankings" in said.err


def broken(model: Path, how: str) -> Path:
    """Return a copy of a model folder with something wrong."""
    folder = model.with_name(how)
    shutil.copytree(model, folder)
    if how == "without-tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
        (folder / "special_tokens_map.json").unlink(missing_ok=True)
    elif how == "bos-twice":
        twice = "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
        tiny_tokenizer(bos=True, chat_template=twice).save_pretrained(folder)
    elif how == "without-weights":
        (folder / "model.safetensors").unlink()
    elif how == "torn":
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
    return folder


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("without-tokenizer", "is not a causal language model with a tokenizer"),
        ("bos-twice", "the chat template begins with BOS twice"),
        ("without-weights", "has no weights in safetensors"),
        ("torn", "is not a causal language model"),
    ],
)
def test_a_broken_model_is_named_before_anything_is_trained(
    call, model: Path, demonstrations: Path, how: str, error: str
):
    folder = broken(model, how)
    said = call("sft", "--model", folder, "--data", demonstrations, *SHORT)
    assert (said.code, said.err.count("\n")) == (1, 1), said.err
    assert error in said.err
    assert how in said.err
    assert not any(run.stage == "s3_sft" for run in Run.all(Path("runs")))


def test_prompts_over_the_limit_lose_their_start_and_are_counted(call, model: Path, tmp_path: Path):
    """A context of 128: prompts of thousands of tokens are cut, completions that do not fit are left out."""
    data = [{"prompt": f"{i} " + "dog " * 3000, "completion": "woof"} for i in range(6)]
    data += [{"prompt": f"q{i}", "completion": "woof " * 500} for i in range(3)]
    data += [{"prompt": f"w{i}", "completion": "woof"} for i in range(9)]
    said = call("sft", "--model", model, "--data", rows(tmp_path / "long.jsonl", data), "--to", "out", *SHORT)
    assert said.code == 0, said.err
    summary = Run.find(Path("out/runs"), "sft").summary
    held = Run.find(Path("out/runs"), "import-long").summary["valid"]
    assert summary["dropped_too_long"] == 3
    assert summary["truncated_prompts"] == 6
    assert summary["demonstrations"] + summary["valid_demonstrations"] + 3 == 18
    assert held == 2


def test_a_folder_of_runs_without_a_loop_says_so(call, model: Path, demonstrations: Path, monkeypatch):
    from instructloop import commands
    from instructloop.recipes import load

    call("sft", "--model", model, "--data", demonstrations, "--to", "out", *SHORT)
    monkeypatch.setattr(commands, "load", load)
    said = call("status", "--dir", "out")
    assert said.code == 1
    assert "no loop runs here; its runs are made by instructloop sft, reward and ppo with --model" in said.err
