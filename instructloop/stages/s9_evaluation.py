"""Stage 9: what people say of the policies, what benchmarks say, and one report of it all (paper 3.6, 4, D)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.evals import head_to_head
from instructloop.evals.benchmark import Benchmark
from instructloop.evals.report_schema import checked, estimate, judged
from instructloop.files import write_atomic
from instructloop.runs import Run
from instructloop.stages import figures, over_optimisation
from instructloop.stages.policies import load_policy
from instructloop.stages.prompts_file import read_rows
from instructloop.workspace import Workspace

Gold = Callable[[str, str], float]
"""A judge that knows the truth: (prompt, completion) -> utility. Only simulations have one."""


class Config(BaseModel):
    """What is compared with what, and how much is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    simulated: bool  # by the loop; labels tell by themselves when simulated labelers made them in the app
    baseline: str  # the policy that win rates are against; the paper: its SFT model
    policies: Mapping[str, str]  # name -> label, in the order of every table
    benchmarked: tuple[str, ...]  # the policies that benchmarks are run on
    gold_tie_margin: float = Field(ge=0)  # of the judge's utility
    num_samples: int = Field(ge=0)  # prompts whose completions the report shows
    num_drift_prompts: int = Field(ge=0)  # validation prompts sampled at each snapshot of a PPO run
    temperature: float = Field(ge=0)
    max_new_tokens: int = Field(gt=0)
    seed: int


def run(
    config: Config,
    *,
    workspace: Workspace,
    name: str,
    round: int,
    parents: Mapping[str, Run],
    console: Console,
    benchmarks: Callable[[], Mapping[str, Sequence[Benchmark]]],
    gold: Gold | None = None,
    paper: Mapping[str, Mapping[str, Any]] | None = None,
) -> Run:
    """Write `report.json` and `report.html`; `benchmarks()` are grouped by the field of the report that they fill."""
    started = Run.start(
        workspace.runs, "s9_evaluation", name=name, round=round, config=config.model_dump(mode="json"), parents=parents
    )
    report: dict[str, Any] = {
        "title": config.title,
        "seed": config.seed,
        "simulated": config.simulated or _are_simulated(parents),
        "round": round,
        "policies": dict(config.policies),
        "paper": dict(paper or {}),
        **figures.of_runs(parents, started),
        **figures.completions(parents),
        "guards": over_optimisation.guards(parents),
        "samples": figures.samples(parents, gold, number=config.num_samples, seed=config.seed),
        **_head_to_head(config, parents, gold),
        **_benchmarks(config, parents, benchmarks(), console),
        **_drift(config, parents, gold, console),
    }
    _write(started, checked(report).model_dump(mode="json"), workspace)
    started.finish("report.json", "report.html", summary=_summary(report))
    return started


def _are_simulated(parents: Mapping[str, Run]) -> bool:
    """Return whether simulated labelers judged, through the app say, where the loop itself simulates nobody."""
    judged_in = [run for role, run in parents.items() if role.split(".")[0] in ("rankings", "eval_rankings")]
    return any(head_to_head.are_simulated(read_rows(run.file("rankings.jsonl"))) for run in judged_in)


def _head_to_head(config: Config, parents: Mapping[str, Run], gold: Gold | None) -> dict[str, Any]:
    """Return what held-out labelers, and the judge, say of completions that were ranked side by side."""
    if "eval_rankings" not in parents:
        return {}
    rows = list(read_rows(parents["eval_rankings"].file("rankings.jsonl")))
    outcomes = list(head_to_head.outcomes(rows, baseline=config.baseline))
    found: dict[str, Any] = {
        "win_rate_vs_sft": _judged(head_to_head.win_rates(outcomes, baseline=config.baseline)),
        "win_rate_by_category": {
            category: _judged(rates)
            for category, rates in head_to_head.win_rates_by_category(outcomes, baseline=config.baseline).items()
        },
        "length_controlled_win_rate_vs_sft": _judged(head_to_head.length_controlled_win_rates(outcomes)),
        "likert": _judged(head_to_head.likert(rows)),
        "flags": {flag: _judged(rates) for flag, rates in head_to_head.flag_prevalence(rows).items()},
    }
    if gold is not None:
        by_judge = list(
            head_to_head.gold_outcomes(rows, gold, baseline=config.baseline, tie_margin=config.gold_tie_margin)
        )
        found["gold_win_rate_vs_sft"] = _judged(head_to_head.win_rates(by_judge, baseline=config.baseline))
        found["gold_win_rate_by_category"] = {
            category: _judged(rates)
            for category, rates in head_to_head.win_rates_by_category(by_judge, baseline=config.baseline).items()
        }
    return found


def _judged(rates: Mapping[str, Any]) -> dict[str, Any]:
    return {policy: judged(interval) for policy, interval in rates.items()}


def _benchmarks(
    config: Config, parents: Mapping[str, Run], benchmarks: Mapping[str, Sequence[Benchmark]], console: Console
) -> dict[str, Any]:
    """Run every benchmark on every policy; one policy is in memory at a time."""
    found: dict[str, Any] = {}
    names = config.benchmarked
    with console.track(len(names) * sum(map(len, benchmarks.values())), "benchmarks", unit="benchmarks") as progress:
        for policy in names:
            loaded = load_policy(policy, parents.get(f"policy.{policy}") or parents[f"drift.{policy}"])
            for section, group in benchmarks.items():
                for benchmark in group:
                    for measure in benchmark.run(loaded):
                        _place(found, section, benchmark, measure, policy)
                    progress.advance(1, policy=policy)
    return found


def _place(found: dict[str, Any], section: str, benchmark: Benchmark, measure: Any, policy: str) -> None:
    """Put one measure where the report's schema has its place."""
    value = estimate(measure.value)
    section_of = found.setdefault(section, {})
    match section:
        case "truthfulness":
            section_of.setdefault(measure.group, {}).setdefault(measure.name, {})[policy] = value
        case "alignment_tax":
            task = f"{benchmark.name}_{measure.group}" if measure.group else benchmark.name
            section_of.setdefault(task, {})[policy] = value
            found.setdefault("alignment_tax_tasks", {})[task] = {
                "title": benchmark.title,
                "metric": measure.name,
                "paper": benchmark.paper,
            }
        case "held_out_loss":
            section_of.setdefault(benchmark.name, {})[policy] = value
        case "hallucination" | "rudeness" | "bias_entropy_bits":
            section_of.setdefault(measure.group or benchmark.name, {})[policy] = value
        case _:
            raise ValueError(f"the report has no section {section!r} for benchmark {benchmark.name}")


def _drift(config: Config, parents: Mapping[str, Run], gold: Gold | None, console: Console) -> dict[str, Any]:
    """Return the reward model's score and the judge's, by KL, at every snapshot that a PPO run kept."""
    runs = {
        role.removeprefix("drift."): run
        for role, run in parents.items()
        if role.startswith("drift.") and list(run.path.glob("snapshots/*"))
    }
    if not runs or config.num_drift_prompts == 0:
        return {}
    drifted = {
        policy: figures.drift(
            run,
            parents,
            gold,
            number=config.num_drift_prompts,
            temperature=config.temperature,
            max_new_tokens=config.max_new_tokens,
            seed=config.seed,
            console=console,
        )
        for policy, run in runs.items()
    }
    return {"overoptimisation": drifted}


def _write(run: Run, report: Mapping[str, Any], workspace: Workspace) -> None:
    """Write both files into the run, and copies into the workspace's root, where one looks for them."""
    from instructloop.evals.report import build

    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_atomic(run.file("report.json"), text)
    build(report, run.file("report.html"))
    for file in ("report.json", "report.html"):
        write_atomic(workspace.root / file, run.file(file).read_bytes())


def _summary(report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "win_rate_vs_sft": report.get("win_rate_vs_sft", {}),
        "kl": {k: v["final"] for k, v in report["kl"].items()},
    }


__all__ = ["Config", "run"]
