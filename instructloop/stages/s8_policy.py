"""Stage 8: choose among candidate policies by a rule written down beforehand, and say by which numbers (C.1, E.9)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.core.rankings import mean_interval
from instructloop.core.records import Prompt
from instructloop.files import write_atomic
from instructloop.runs import Run
from instructloop.stages.policies import policy_files
from instructloop.stages.prompts_file import draw, read_prompts, read_rows
from instructloop.workspace import Workspace

if TYPE_CHECKING:
    from instructloop.models.scalar import Scorer

RULE = (
    "the highest mean reward-model score on validation prompts, among candidates that finish at least "
    "{finished:.0%} of their completions{tax}"
)
TAX_RULE = " and whose loss on held-out pretraining text is at most {nats} nats a token above the first candidate's"


class Config(BaseModel):
    """Which candidates stand for election and the limits they must keep; the rule itself is `RULE`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folders: tuple[str, ...]  # patterns inside a candidate's run, such as "epochs/*"; empty: the policy itself
    prefixes: tuple[str, ...]  # few-shot prefixes to try on each; empty: the candidate's own
    num_prompts: int = Field(gt=0)  # validation prompts that are scored
    sources: tuple[str, ...]
    min_finished_fraction: float = Field(ge=0, le=1)
    max_text_loss_rise: float | None = Field(gt=0)  # nats per token; None: not part of the rule
    num_texts: int = Field(ge=0)
    temperature: float = Field(ge=0)
    max_new_tokens: int = Field(gt=0)
    seed: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy that may be chosen: the parent it comes from, a folder in it ("" for its policy) and a prefix."""

    role: str
    folder: str
    prefix: str

    def path(self, parents: Mapping[str, Run]) -> Path:
        """Return the model folder."""
        run = parents[self.role]
        return run.file(self.folder) if self.folder else policy_files(run).folder


def run(
    config: Config, *, workspace: Workspace, name: str, round: int, parents: Mapping[str, Run], console: Console
) -> Run:
    """Score every candidate (roles `candidate.NAME`) and write `choice.json`.

    The score is that of `reward`, or the mean of several, `reward.NAME`: a policy that learned from a reward model
    should be judged by others, or what fooled the one it learned from elects it.
    """
    started = Run.start(
        workspace.runs, "s8_policy", name=name, round=round, config=config.model_dump(mode="json"), parents=parents
    )
    rows = _measure(config, candidates(config, parents), parents, console)
    chosen, rule = choose(config, rows)
    choice = {"rule": rule, "chosen": chosen["candidate"], "candidates": rows}
    text = json.dumps(choice, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomic(started.file("choice.json"), text)
    label = chosen["candidate"]["folder"] or chosen["candidate"]["role"]
    console.log(f"{name}: chose {label} of {len(rows)} by {rule}: score {chosen['score']['value']:.2f}")
    started.finish("choice.json", summary={"chosen": label, "candidates": len(rows), "score": chosen["score"]})
    return started


def candidates(config: Config, parents: Mapping[str, Run]) -> list[Candidate]:
    """Return the candidates in a fixed order: roles, then folders, then prefixes."""
    found = [
        Candidate(role, folder, prefix)
        for role, run in sorted(parents.items())
        if role.startswith("candidate.")
        for folder in _folders(run, config.folders)
        for prefix in config.prefixes or ("",)
    ]
    if not found:
        raise ValueError("a policy is chosen among parents with roles candidate.NAME; there are none")
    return found


def choose(config: Config, rows: Sequence[dict]) -> tuple[dict, str]:
    """Return the row that the rule picks and the rule in words; ValueError when no candidate keeps the limits."""
    tax = "" if config.max_text_loss_rise is None else TAX_RULE.format(nats=config.max_text_loss_rise)
    rule = RULE.format(finished=config.min_finished_fraction, tax=tax)
    eligible = [row for row in rows if row["finished_fraction"] >= config.min_finished_fraction]
    if config.max_text_loss_rise is not None:
        limit = rows[0]["text_loss"] + config.max_text_loss_rise
        eligible = [row for row in eligible if row["text_loss"] <= limit]
    if not eligible:
        raise ValueError(f"none of {len(rows)} candidates keeps the limits of the rule: {rule}")
    return max(eligible, key=lambda row: row["score"]["value"]), rule


def _folders(run: Run, patterns: Sequence[str]) -> list[str]:
    if not patterns:
        return [""]
    return sorted(str(path.relative_to(run.path)) for pattern in patterns for path in run.path.glob(pattern))


def _measure(config: Config, found: Sequence[Candidate], parents: Mapping[str, Run], console: Console) -> list[dict]:
    from instructloop.models.scalar import Scorer

    prompts = draw(
        read_prompts(parents["prompts"]),
        config.num_prompts,
        split="valid",
        sources=config.sources,
        seed=config.seed,
        what="choice",
    )
    scorers = [
        Scorer.load(run.file("model")) for role, run in sorted(parents.items()) if role.split(".")[0] == "reward"
    ]
    if not scorers:
        raise ValueError("a policy is chosen by the parents reward or reward.NAME; there are none")
    texts = _texts(config, parents)
    with console.track(len(found), "candidates scored", unit="candidates") as progress:
        rows = []
        for candidate in found:
            rows.append(_row(config, candidate, candidate.path(parents), prompts, scorers, texts))
            progress.advance(1, score=rows[-1]["score"]["value"])
    return rows


def _texts(config: Config, parents: Mapping[str, Run]) -> list[str]:
    if config.max_text_loss_rise is None:
        return []
    return [row["text"] for row in read_rows(parents["text"].file("heldout.jsonl"))][: config.num_texts]


def _row(
    config: Config,
    candidate: Candidate,
    folder: Path,
    prompts: Sequence[Prompt],
    scorers: Sequence[Scorer],
    texts: Sequence[str],
) -> dict:
    from instructloop.models.sampler import Policy

    policy = Policy.load(folder, name=candidate.role, prefix=candidate.prefix)
    generations = policy.generate(
        [prompt.text for prompt in prompts],
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        seed=config.seed,
    )
    pairs = [(prompt.text, done.text) for prompt, done in zip(prompts, generations, strict=True)]
    finished = [done.finished for done in generations]
    scores = mean_scores(scorers, pairs, finished)
    return {
        "candidate": asdict(candidate),
        "score": mean_interval(scores, [prompt.id for prompt in prompts]).as_dict(),
        "finished_fraction": sum(finished) / len(finished),
        "text_loss": _text_loss(policy, texts) if texts else None,
    }


def mean_scores(scorers: Sequence[Scorer], pairs: Sequence[tuple[str, str]], finished: Sequence[bool]) -> list[float]:
    """Return each completion's score, the mean over reward models; demonstrations are at 0 in all of them."""
    by_scorer = [scorer.scores(pairs, finished=finished) for scorer in scorers]
    return [fmean(of_one) for of_one in zip(*by_scorer, strict=True)]


def _text_loss(policy, texts: Sequence[str]) -> float:
    """Return nats per token of held-out text, first tokens apart."""
    totals = policy.logprobs([("", text) for text in texts], raw=True)
    return -sum(total for total, _ in totals) / sum(tokens for _, tokens in totals)
