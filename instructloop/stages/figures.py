"""Figures of a report that are read off the runs themselves: accuracy, agreement, curves, drift, samples, lineage."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from instructloop.console import Console
from instructloop.core.agreement import pairwise_agreement
from instructloop.core.rankings import Interval, mean_interval
from instructloop.core.records import Prompt, Ranking
from instructloop.evals.report_schema import estimate
from instructloop.runs import Run
from instructloop.stages.prompts_file import draw, read_prompts, read_rows

CURVES = (
    "loss/lm",
    "loss/reward",
    "accuracy",
    "objective/scores",
    "objective/kl",
    "objective/entropy",
    "loss/value",
    "loss/ptx",
    "completion/length",
    "completion/eos_fraction",
    "policy/clipfrac",
)
"""The metrics that a report draws, by run."""


def of_runs(parents: Mapping[str, Run], current: Run) -> dict[str, Any]:
    """Return what the report says of the loop itself: reward model, agreement, KL, curves, lineage, configuration."""
    runs = ancestry(parents.values())
    seconds = {run.id: run.manifest.seconds or 0.0 for run in runs.values()}
    return {
        "wall_seconds": _wall_seconds(runs.values(), current),
        "reward_model": reward_model(parents),
        "agreement": agreement(parents),
        "kl": kl(parents),
        "curves": curves(runs.values()),
        "lineage": lineage_graph(parents, runs, seconds),
        "config": {run.name: run.config for run in runs.values()},
        "counts": counts(runs.values()),
        "steps": [{"step": run.name, "run": run.id, "seconds": seconds[run.id]} for run in runs.values()],
        "machine": {"machine": current.manifest.machine, "python": current.manifest.python}
        | ({"torch": current.manifest.torch} if current.manifest.torch else {}),
    }


def ancestry(runs: Any) -> dict[str, Run]:
    """Return all runs that `runs` descend from, themselves among them, by id, parents first."""
    found: dict[str, Run] = {}

    def visit(run: Run) -> None:
        if run.id not in found:
            for parent in run.parents.values():
                visit(parent)
            found[run.id] = run

    for run in runs:
        visit(run)
    return found


def _wall_seconds(runs: Any, current: Run) -> float:
    """Return seconds from the first start of this round's runs until now, pauses between them included."""
    now = datetime.now().astimezone()
    return max((now - datetime.fromisoformat(run.manifest.started)).total_seconds() for run in [*runs, current])


def reward_model(parents: Mapping[str, Run]) -> dict[str, Any]:
    """Return the accuracies that stage 6 measured: the folds' pooled by inverse variance, and the final model's."""
    folds = [run.summary for role, run in parents.items() if role.startswith("fold.")]
    found: dict[str, Any] = {}
    for name in ("accuracy_seen_labelers", "accuracy_unseen_labelers"):
        if intervals := [fold[name] for fold in folds if fold.get(name)]:
            found[name] = _mean_of(intervals)
    final = parents["reward"].summary if "reward" in parents else {}
    if final.get("accuracy_heldout"):
        found["accuracy_heldout"] = final["accuracy_heldout"]
    if final.get("accuracy_by_source"):
        found["by_source"] = final["accuracy_by_source"]
    if final.get("baselines"):
        found["baselines"] = final["baselines"]
    return found


def _mean_of(intervals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of folds, each weighing the same, with a t interval over the folds (paper 4.1)."""
    mean = mean_interval([one["value"] for one in intervals], range(len(intervals)), bounds=(0.0, 1.0))
    pooled = Interval(
        mean.value, mean.low, mean.high, sum(i["n"] for i in intervals), sum(i["n_clusters"] for i in intervals)
    )
    return estimate(pooled)


def agreement(parents: Mapping[str, Run]) -> dict[str, Any]:
    """Return pairwise agreement by cohort, pairs that either labeler tied left out, where labelers shared tasks."""
    found: dict[str, Any] = {}
    for role, cohort in (("rankings", "train"), ("eval_rankings", "heldout")):
        if role in parents:
            rankings = [
                Ranking(row["prompt_id"], row["labeler"], tuple(map(tuple, row["tiers"])))
                for row in read_rows(parents[role].file("rankings.jsonl"))
            ]
            shared = defaultdict[str, set[str]](set)
            for ranking in rankings:
                shared[ranking.prompt_id].add(ranking.labeler)
            if any(len(labelers) > 1 for labelers in shared.values()):
                found[cohort] = estimate(pairwise_agreement(rankings, ties="drop"))
    return found


def kl(parents: Mapping[str, Run]) -> dict[str, Any]:
    """Return KL(policy || reference) in nats per completion by iteration for every PPO run among the parents."""
    found: dict[str, Any] = {}
    for role, run in parents.items():
        if role.startswith("policy.") and run.stage == "s7_ppo":
            curve = [(row["step"], row["objective/kl"]) for row in run.metrics() if "objective/kl" in row]
            found[role.removeprefix("policy.")] = {"final": curve[-1][1], "curve": curve}
    return found


def curves(runs: Any) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Return metric -> run name -> (step, value) of the metrics that a report draws."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        rows = run.metrics()
        for metric in CURVES:
            if points := [(row["step"], row[metric]) for row in rows if row.get(metric) is not None]:
                found.setdefault(metric, {})[run.name] = points
    return found


def counts(runs: Any) -> dict[str, int]:
    """Return what the stages counted: every whole number of their summaries, under the step's name."""
    return {
        f"{run.name}: {key.replace('_', ' ')}": value
        for run in runs
        for key, value in run.summary.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }


def lineage_graph(parents: Mapping[str, Run], runs: Mapping[str, Run], seconds: Mapping[str, float]) -> dict[str, Any]:
    """Return the ancestry as a graph for the report."""
    policies = {role.removeprefix("policy."): run.id for role, run in parents.items() if role.startswith("policy.")}
    return {
        "roots": policies,
        "runs": {
            identity: {
                "name": run.name,
                "stage": run.stage,
                "round": run.round,
                "parents": {role: parent.id for role, parent in run.parents.items()},
                "inputs": run.inputs,
                "outputs": run.outputs,
                "seconds": seconds[identity],
            }
            for identity, run in runs.items()
        },
    }


def samples(
    parents: Mapping[str, Run], gold: Callable[[str, str], float] | None, *, number: int, seed: int
) -> list[dict[str, Any]]:
    """Return prompts with every policy's completion, drawn by seed, one category after the other."""
    from instructloop.models.scalar import Scorer

    prompts = {prompt.id: prompt for prompt in read_prompts(parents["prompts"])}
    written = defaultdict[str, list[Mapping[str, Any]]](list)
    for row in read_rows(parents["eval_samples"].file("completions.jsonl")):
        written[row["prompt_id"]].append(row)
    judged = defaultdict[str, list[Mapping[str, Any]]](list)
    if "eval_rankings" in parents:
        for row in read_rows(parents["eval_rankings"].file("rankings.jsonl")):
            judged[row["prompt_id"]].append(row)
    chosen = [prompts[prompt] for prompt in _spread({key: prompts[key] for key in written}, number, seed)]
    rows = [(prompt, row) for prompt in chosen for row in written[prompt.id]]
    scorer = Scorer.load(parents["reward"].file("model"))
    scores = iter(
        scorer.scores(
            [(prompt.text, row["text"]) for prompt, row in rows], finished=[row["finished"] for _, row in rows]
        )
    )
    return [
        {
            "prompt_id": prompt.id,
            "prompt": prompt.text,
            "category": prompt.category,
            "completions": [
                {
                    "policy": row["policy"],
                    "text": row["text"],
                    "finished": row["finished"],
                    "score": next(scores),
                    "gold": gold(prompt.text, row["text"]) if gold else None,
                    **_answers(judged[prompt.id], row["id"]),
                }
                for row in written[prompt.id]
            ],
        }
        for prompt in chosen
    ]


def completions(parents: Mapping[str, Run]) -> dict[str, Any]:
    """Return, by policy, the mean score, share finished and mean length of every completion for held-out prompts."""
    from instructloop.models.scalar import Scorer

    if "eval_samples" not in parents or "reward" not in parents:
        return {}
    prompts = {prompt.id: prompt.text for prompt in read_prompts(parents["prompts"])}
    rows = list(read_rows(parents["eval_samples"].file("completions.jsonl")))
    scorer = Scorer.load(parents["reward"].file("model"))
    pairs, ended = [(prompts[row["prompt_id"]], row["text"]) for row in rows], [row["finished"] for row in rows]
    measured = {
        "reward_score": scorer.scores(pairs, finished=ended),
        "finished": list(map(float, ended)),
        "completion_tokens": [float(len(scorer.text.completion_ids(row["text"], close=False))) for row in rows],
    }
    found: dict[str, Any] = {}
    for name, values in measured.items():
        of_policy = defaultdict[str, list[tuple[float, str]]](list)
        for row, value in zip(rows, values, strict=True):
            of_policy[row["policy"]].append((value, row["prompt_id"]))
        bounds = (0.0, 1.0) if name == "finished" else None
        found[name] = {
            policy: estimate(mean_interval([v for v, _ in of], [prompt for _, prompt in of], bounds=bounds))
            for policy, of in of_policy.items()
        }
    return found


def _spread(prompts: Mapping[str, Prompt], number: int, seed: int) -> list[str]:
    """Return prompt ids drawn by seed, taking one of each category in turn."""
    by_category = defaultdict[str, list[str]](list)
    for identity, prompt in sorted(prompts.items()):
        by_category[prompt.category or ""].append(identity)
    for category, ids in by_category.items():
        random.Random(f"{seed}/{category}").shuffle(ids)
    turns = [ids[i : i + 1] for i in range(len(prompts)) for _, ids in sorted(by_category.items())]
    return [prompt for turn in turns for prompt in turn][:number]


def _answers(group: Sequence[Mapping[str, Any]], completion: str) -> dict[str, Any]:
    """Return the mean rating of one completion, and the flags that most of its labelers set."""
    ratings = [row["ratings"][completion] for row in group if row["ratings"].get(completion) is not None]
    votes = defaultdict[str, list[bool]](list)
    for row in group:
        for flag, answer in row["flags"].get(completion, {}).items():
            if answer is not None:
                votes[flag].append(answer)
    return {
        "rating": sum(ratings) / len(ratings) if ratings else None,
        "flags": sorted(flag for flag, answers in votes.items() if sum(answers) * 2 > len(answers)),
    }


def drift(
    run: Run,
    parents: Mapping[str, Run],
    gold: Callable[[str, str], float] | None,
    *,
    number: int,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    console: Console,
) -> list[dict[str, Any]]:
    """Return proxy and gold score, on validation prompts, and the KL of every snapshot of a PPO run."""
    from instructloop.models.sampler import Policy
    from instructloop.models.scalar import Scorer

    scorer = Scorer.load(parents["reward"].file("model"))
    every = read_prompts(parents["prompts"])
    sources = sorted({prompt.source for prompt in every})
    prompts = draw(every, number, split="valid", sources=sources, seed=seed, what="drift")
    kl_at = {row["step"]: row["objective/kl"] for row in run.metrics() if "objective/kl" in row}
    found: list[dict[str, Any]] = []
    folders = sorted(run.path.glob("snapshots/*"))
    with console.track(len(folders), f"drift of {run.name}", unit="snapshots") as progress:
        for folder in folders:
            written = Policy.load(folder, name=run.name).generate(
                [p.text for p in prompts], max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
            )
            texts = [(p.text, one.text) for p, one in zip(prompts, written, strict=True)]
            iteration = int(folder.name)
            found.append(
                {
                    "iteration": iteration,
                    "kl": kl_at[iteration],
                    "proxy": sum(scorer.scores(texts, finished=[one.finished for one in written])) / len(texts),
                    **_gold_bounds(texts, gold, [p.id for p in prompts]),
                }
            )
            progress.advance(1)
    return found


def _gold_bounds(
    texts: Sequence[tuple[str, str]], gold: Callable[[str, str], float] | None, prompts: Sequence[str]
) -> dict[str, float | None]:
    if gold is None:
        return {}
    interval = estimate(mean_interval([gold(prompt, text) for prompt, text in texts], prompts))
    return {"gold": interval["value"], "gold_low": interval["low"], "gold_high": interval["high"]}
