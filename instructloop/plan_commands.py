"""What `instructloop plan` does: a model's size, the machine's rates, what each stage would cost, what does not fit."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.console import Console as Screen
from rich.table import Table

from instructloop.commands import Usage
from instructloop.console import duration
from instructloop.core.costs import Machine
from instructloop.core.records import Split
from instructloop.models import added
from instructloop.quick_commands import changed, machine_of
from instructloop.recipes import paper, plan, small
from instructloop.recipes.given_rows import Kept, read_files
from instructloop.talk.names import find_model
from instructloop.train.rates import Rates, measure
from instructloop.workspace import FILE, suggestion

if TYPE_CHECKING:
    from instructloop.formats.given import Kind
    from instructloop.models.text import Text

RECIPES = ("small", "real", "paper")
SAMPLE = 300  # rows of a file whose tokens are counted
ROWS = 1000  # where a number or file was not given
Configs = tuple[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read to count it: as the verbs read it."""

    kind: Kind
    shape: str | None = None
    fields: Mapping[str, str] = ()  # pyright: ignore[reportAssignmentType]
    prompt: str | None = "?"
    origin: str = "import:plan"


def show(name: str, recipe: str, machine: str | None, data: Mapping[str, str | None], settings: Sequence[str]) -> None:
    """Print the plan; ValueError, after all of it, where something does not fit."""
    if recipe not in RECIPES:
        raise Usage(f"--recipe {recipe!r} is unknown{suggestion(recipe, RECIPES)}")
    folder = _folder(name)
    from instructloop.models.shape import adapter_sides, built, shape_of

    described = built(folder)
    shape = shape_of(described)
    configs = _configs(recipe, small_machine := machine_of(machine), settings)
    print(
        f"{name}: {shape.parameters:,} parameters, {shape.matrices:,} without embeddings; "
        f"{shape.layers} layers of {shape.width}, vocabulary {shape.vocabulary:,}"
    )
    rates = measure(512, shape.width, shape.inner)
    _say_rates(rates)
    works = _works(folder, configs, data)
    costs: list[plan.Cost] = []
    for stage, config, work in zip((plan.sft, plan.reward, plan.ppo), configs, works, strict=True):
        dtype, _ = plan.precision(config)
        sides = 0 if config.lora is None else adapter_sides(described, config.lora.targets)
        machine_at_hand = Machine(rates.flops[dtype], rates.copied, most_bytes(rates), rates.is_gpu)
        costs.append(stage(config, plan.Model(shape, sides, rates.process_bytes), work, machine_at_hand))
    print(f"recipe {recipe}, {small_machine}: {_precisions(configs)}")
    for cost, work in zip(costs, works, strict=True):
        print(f"{cost.name}: {work.rows:,} rows; {_tokens(work)}")
    _screen().print(_table(costs))
    print(
        f"operations: 2 per parameter and token forward, 4 more backward (2 with LoRA), and attention's; time: at "
        f"{plan.EFFICIENCY:.0%} of the measured rate of products"
    )
    _check_fit(costs, rates)


def _folder(name: str) -> str:
    """Return where a model's configuration is: its folder, a .gguf file, or a name of the hub."""
    from instructloop.models.bringing import is_of_the_hub

    if Path(name).suffix == ".gguf" or (is_of_the_hub(name) and name not in added.read()):
        return name
    return str(find_model(name, Path() if Path(FILE).exists() else None, "policy").folder)


def _configs(recipe: str, machine: small.Machine, settings: Sequence[str]) -> Configs:
    if recipe == "paper":
        found: Configs = paper.sft("1.3B", seed=1), paper.reward_6b(seed=1), paper.ppo("1.3B", seed=1, ptx=True)
    else:
        machine = "laptop" if recipe == "real" else machine
        found = (
            small.sft(machine, seed=1),
            small.reward(machine, seed=1),
            small.ppo(machine, sources=("import:plan",), ptx=True, seed=1),
        )
    sft, reward, ppo = (changed(c, step, {}, settings, among=STEPS) for c, step in zip(found, STEPS, strict=True))
    return sft, reward, ppo


STEPS = ("sft", "reward", "ppo")


def _works(folder: str, configs: Configs, data: Mapping[str, str | None]) -> list[plan.Work]:
    """Return what each stage reads: counted from a file, or so many rows of half the tokens that they may have."""
    limits = [(c.max_prompt_tokens, getattr(c, "max_completion_tokens", 0)) for c in configs]
    kinds: tuple[Kind, ...] = ("demonstrations", "rankings", "prompts")
    return [_work(folder, kind, data[kind], *limit) for kind, limit in zip(kinds, limits, strict=True)]


def _work(folder: str, kind: Kind, given: str | None, max_prompt: int, max_completion: int) -> plan.Work:
    per_row = 2.0 if kind == "rankings" else 1.0
    if given is None or given.isdigit():
        return plan.Work(int(given or ROWS), max_prompt / 2, max_completion / 2, per_row)
    from instructloop.models.lm import load_text

    splits: dict[Split, str] = {"train": given}
    kept = read_files(Reading(kind, fields={}), splits)["train"].kept
    text = load_text(folder)
    counted = [_counted(one, text, max_prompt, max_completion) for one in kept[:: max(1, len(kept) // SAMPLE)]]
    lengths = [length for _, completions in counted for length in completions]
    return plan.Work(
        len(kept),
        fmean(prompt for prompt, _ in counted),
        fmean(lengths) if lengths else 0.0,
        len(lengths) / len(counted) if lengths else per_row,
    )


def _counted(one: Kept, text: Text, max_prompt: int, max_completion: int) -> tuple[int, list[int]]:
    """Return the tokens of a row's prompt, cut, and of those of its completions that are not too long."""
    prompt, completions = one.texts
    lengths = [len(text.completion_ids(completion)) for completion in completions]
    return min(len(text.prompt_ids(prompt)), max_prompt), [length for length in lengths if length <= max_completion]


def _say_rates(rates: Rates) -> None:
    products = ", ".join(f"{rate / 1e9:,.0f} in {name}" for name, rate in rates.flops.items())
    print(
        f"measured on {rates.device}, {rates.threads} threads: products of {products} GFLOP/s, copies of "
        f"{rates.copied / 1e9:.1f} GB/s; {rates.free_bytes / 1e9:.1f} GB of memory free"
    )


def _precisions(configs: Configs) -> str:
    said: list[str] = []
    for step, config in zip(STEPS, configs, strict=True):
        dtype, rank = plan.precision(config)
        said.append(f"{step} in {dtype}, " + ("all weights" if rank is None else f"LoRA of rank {rank}"))
    return "; ".join(said)


def _tokens(work: plan.Work) -> str:
    prompt = f"{work.prompt_tokens:.0f} tokens a prompt"
    if not work.completion_tokens:
        return prompt
    return f"{work.completions_per_row:.1f} completions a row; {prompt}, {work.completion_tokens:.0f} a completion"


def _table(costs: Sequence[plan.Cost]) -> Table:
    """Return memory in GB by part, operations and time, a column for each stage."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    for cost in costs:
        table.add_column(cost.name, justify="right", no_wrap=True)
    for title, cells, digits in (
        ("memory, GB", [{k: v / 1e9 for k, v in cost.memory.items() if v} for cost in costs], 2),
        ("operations, TFLOP", [{k: v / 1e12 for k, v in cost.flops.items() if v} for cost in costs], 1),
    ):
        table.add_row(f"[bold]{title}", *(f"[bold]{sum(of.values()):,.{digits}f}" for of in cells))
        for part in dict.fromkeys(name for of in cells for name in of):
            table.add_row(f"  {part}", *(f"{of[part]:,.{digits}f}" if part in of else "" for of in cells))
    table.add_row("[bold]time, about", *(f"[bold]{duration(cost.seconds)}" for cost in costs))
    return table


def most_bytes(rates: Rates) -> int:
    """Return the memory that a process may have."""
    return rates.free_bytes + rates.process_bytes


def _check_fit(costs: Sequence[plan.Cost], rates: Rates) -> None:
    most = most_bytes(rates)
    if large := [cost for cost in costs if cost.peak_bytes > most]:
        needs = ", ".join(f"{cost.name} needs {cost.peak_bytes / 1e9:.1f} GB" for cost in large)
        raise ValueError(
            f"{needs} of memory, {most / 1e9:.1f} GB are there: a smaller model or micro_batch_rows, LoRA, or bfloat16"
        )
    print(f"all of it fits into {most / 1e9:.1f} GB")


def _screen() -> Screen:
    return Screen(highlight=False, width=None if sys.stdout.isatty() else 240)
