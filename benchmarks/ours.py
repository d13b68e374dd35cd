"""instructloop at its turns: python -m benchmarks.ours FOLDER; a turn is one iteration, step or pass of the work."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.turns import Turns, read
from instructloop.allocator import keep_freed_memory
from instructloop.core.batches import LMBatch
from instructloop.core.returns import FixedKL
from instructloop.models.compiled import compile_layers
from instructloop.models.lm import disable_dropout, load_lm
from instructloop.models.scalar import ScalarModel
from instructloop.runs import Run
from instructloop.train.device import Dtype, to_training_device
from instructloop.train.language import adam, lm_task
from instructloop.train.loop import FitConfig, Task, fit
from instructloop.train.ppo import Iterations, ppo_task
from instructloop.train.ranked import RankedPrompt, ranked_batch, ranking_task
from instructloop.train.rollouts import Actors, Episodes
from instructloop.train.streams import Epochs, Mixed

LR = 1e-6
ADAM: dict[str, Any] = {"betas": (0.9, 0.999), "weight_decay": 0.0}
MANY = 100_000  # turns; the process ends when no more is asked


@dataclass(frozen=True)
class Rules:
    """The settings of PPO, as TRL's side has them."""

    max_new_tokens: int
    episodes_per_iteration: int
    num_minibatches: int
    micro_batch_rows: int | None
    dtype: Dtype
    temperature: float = 1.0
    gamma: float = 1.0
    lam: float = 0.95
    whiten_rewards: bool = False
    missing_eos: Literal["replace", "subtract"] = "subtract"
    missing_eos_penalty: float = 1.0
    forward_tokens: int = 4096
    num_iterations: int = MANY
    inner_epochs: int = 1
    clip_ratio: float = 0.2
    clip_value: float = 0.2
    ptx_coef: float = 0.0
    num_ptx_rows: int = 0
    seed: int = 1


Work = dict[str, Any]


def ppo(work: Work, prompts: list[list[int]], asked: argparse.Namespace, run: Run, turns: Turns) -> None:
    """Give one PPO iteration a turn: sampling, scoring, and one step for each minibatch."""
    policy, text = load_lm(asked.folder / "policy")
    ref, _ = load_lm(asked.folder / "policy")
    reward, value = (ScalarModel.load(asked.folder / "reward")[0] for _ in range(2))
    for model in (policy, ref, reward, value):
        model.requires_grad_(model in (policy, value))
        disable_dropout(model)
        _placed(model, asked)
    actors = Actors(policy, value, ref, reward, text)
    rules = Rules(work["completion_tokens"], work["episodes"], work["minibatches"], asked.micro_batch, asked.precision)
    facts: dict[str, float] = {}

    def heard(_: int, __: Sequence[int], episodes: Episodes) -> None:
        mask_BC = episodes.rollout.mask_BC
        length_B = mask_BC.sum(1)
        facts["completion_tokens"] = int(length_B.sum())
        facts["longest_tokens"] = int(length_B.max())
        facts["cached_tokens"] = float((length_B * (work["prompt_tokens"] + length_B / 2)).sum())
        for name in ("rollout", "score"):
            facts[f"{name}_seconds"] = float(episodes.metrics[f"time/{name}"])

    stream = Iterations(actors, prompts, None, FixedKL(0.05), rules, on_rollout=heard)
    groups = [
        {"params": list(model.parameters()), "lr": LR, "name": name}
        for name, model in (("policy", policy), ("value", value))
    ]
    _fit(ppo_task(stream, actors.learners, rules), groups, work["minibatches"], run, turns, facts)


def reward(work: Work, rows: list[dict[str, Any]], asked: argparse.Namespace, run: Run, turns: Turns) -> None:
    """Give one step of the reward model a turn, on all comparisons of `rows` prompts."""
    model, text = ScalarModel.load(asked.folder / "reward")
    disable_dropout(model)
    _placed(model, asked)
    ranking = tuple((number,) for number in range(work["completions_per_prompt"]))
    prompts = [
        RankedPrompt(str(i), tuple([*row["prompt"], *one] for one in row["completions"]), (ranking,))
        for i, row in enumerate(rows)
    ]
    order = Epochs(
        len(prompts),
        lambda index: ranked_batch([prompts[i] for i in index], text, asked.micro_batch),
        batch_rows=work["rows"],
        num_epochs=MANY,
        seed=work["seed"],
    )
    task = ranking_task(model, order)
    first = ranked_batch(prompts[: work["rows"]], text, None)
    with torch.no_grad():
        facts = {"first_loss": float(task.loss(model, first, task.counts(first))[0])}
    _fit(task, [{"params": list(model.parameters())}], 1, run, turns, facts)


def sft(work: Work, rows: list[dict[str, list[int]]], asked: argparse.Namespace, run: Run, turns: Turns) -> None:
    """Give one pass over the demonstrations a turn; the loss is on their completions."""
    model, text = load_lm(asked.folder / "policy")
    disable_dropout(model)
    _placed(model, asked)
    epochs = Epochs(
        len(rows),
        lambda index: LMBatch(
            *text.pad_left_right([rows[i]["prompt"] for i in index], [rows[i]["completion"] for i in index])
        ),
        batch_rows=work["rows_per_step"],
        num_epochs=MANY,
        seed=work["seed"],
    )
    task = lm_task(model, Mixed(epochs, None, 0), micro_batch_rows=asked.micro_batch)
    facts = {"tokens": sum(len(row["prompt"]) + len(row["completion"]) for row in rows)}
    _fit(task, [{"params": list(model.parameters())}], epochs.batches_per_epoch, run, turns, facts)


def _placed(model: nn.Module, asked: argparse.Namespace) -> None:
    to_training_device(model, asked.precision).eval()
    if asked.compile:
        compile_layers(model)


def _fit(
    task: Task[Any],
    groups: list[dict[str, Any]],
    steps_per_turn: int,
    run: Run,
    turns: Turns,
    facts: dict[str, float],
) -> None:
    """Train in turns of so many steps."""

    def after_step(number: int) -> None:
        if number % steps_per_turn == 0:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
                facts["device_peak_mebibytes"] = torch.cuda.max_memory_allocated() >> 20
            turns.end(**facts)
            turns.begin()

    turns.begin()
    config = FitConfig(seed=1, max_grad_norm=1.0, log_every=steps_per_turn, checkpoint_every_seconds=1e9)
    fit(task, adam(groups, LR, **ADAM), lambda _: 1.0, config, run, after_step=after_step)


MICRO_BATCHES = {"ppo": 16, "reward": 32, "sft": 16}
TASKS: dict[str, Callable[..., None]] = {"ppo": ppo, "reward": reward, "sft": sft}


def main() -> None:
    """Work at one's turns until no more is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="layers, by torch")
    parser.add_argument("--micro-batch", type=int, help="rows; what the stage has by default if not given")
    asked = parser.parse_args()
    turns = Turns()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(asked.threads)
    work, rows = read(asked.folder)
    asked.micro_batch = asked.micro_batch or MICRO_BATCHES[work["task"]]
    with tempfile.TemporaryDirectory() as folder:
        run = Run.start(Path(folder), "benchmark", name="benchmark", round=0, config={}, parents={})
        TASKS[work["task"]](work, rows, asked, run, turns)


if __name__ == "__main__":
    main()
