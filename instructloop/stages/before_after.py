"""What training changed, on data held out: loss on demonstrations, loss on text, score of completions; no training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.core.rankings import Interval, mean_interval, ratio_interval
from instructloop.files import write_atomic, write_jsonl
from instructloop.runs import Run
from instructloop.stages.policies import policy_files
from instructloop.stages.prompts_file import draw, read_prompts, read_rows
from instructloop.workspace import Workspace

if TYPE_CHECKING:
    from instructloop.core.records import Prompt
    from instructloop.models.lm import PreTrainedModel
    from instructloop.models.text import Text

Heard = Callable[[int], None]


class Config(BaseModel):
    """What is measured follows from the parents; how long texts may be and how prompts are answered stands here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_prompt_tokens: int = Field(gt=0)  # longer prompts lose lines at their start, as in training
    max_completion_tokens: int = Field(gt=0)  # EOS included; longer demonstrations are left out
    num_prompts: int | None = Field(gt=0)  # held-out prompts that are answered; None: without the parent `prompts`
    sources: tuple[str, ...]  # of these prompts
    temperature: float = Field(ge=0)
    seed: int


@dataclass(slots=True)
class Answered:
    """What a policy wrote for the held-out prompts, and its scores."""

    texts: list[str]
    scores: list[float]
    num_tokens: list[int]
    finished: list[bool]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What both models are measured on."""

    demonstrations: list[dict[str, Any]]
    texts: list[str]
    prompts: list[Prompt]

    def __len__(self) -> int:
        return len(self.demonstrations) + len(self.texts) + len(self.prompts)


def run(
    config: Config, *, workspace: Workspace, name: str, round: int, parents: Mapping[str, Run], console: Console
) -> Run:
    """Measure `after` and, where it is among the parents, `before` on what the other parents hold out.

    `demonstrations`: loss per completion token; `text` (heldout.jsonl): loss per token; `prompts` with `reward`: the
    score of one completion each, same random numbers for both. The figures are the run's summary, with intervals
    clustered by prompt, and the paired difference, and `figures.json`; `completions.jsonl` has what was written.
    """
    held_out = _held_out(config, name, parents)
    started = Run.start(
        workspace.runs, "before_after", name=name, round=round, config=config.model_dump(mode="json"), parents=parents
    )
    models = [role for role in ("before", "after") if role in parents]
    losses: dict[str, dict[str, list[tuple[float, int]]]] = {}
    answers: dict[str, Answered] = {}
    with console.track(len(held_out) * len(models), started.name, unit="rows") as track:
        for role in models:
            losses[role], answers[role] = _measured(config, parents, role, held_out, track.advance)
    figures = _loss_figures(held_out, losses) | _score_figures(held_out, answers)
    write_atomic(started.file("figures.json"), json.dumps(figures, indent=1, sort_keys=True) + "\n")
    if held_out.prompts:
        write_jsonl(started.file("completions.jsonl"), _completions(held_out, answers))
    return started.finish("figures.json", *["completions.jsonl"] * bool(held_out.prompts), summary=figures)


def _held_out(config: Config, name: str, parents: Mapping[str, Run]) -> HeldOut:
    if ("prompts" in parents, "reward" in parents) != (config.num_prompts is not None,) * 2:
        raise ValueError(f"num_prompts {config.num_prompts}, a parent `prompts` and a parent `reward` belong together")
    demonstrations = parents.get("demonstrations")
    rows = [] if demonstrations is None else read_rows(demonstrations.file("demonstrations.jsonl"))
    texts = [row["text"] for row in read_rows(parents["text"].file("heldout.jsonl"))] if "text" in parents else []
    prompts: list[Prompt] = []
    if config.num_prompts is not None:
        every = read_prompts(parents["prompts"])
        number = min(config.num_prompts, sum(one.split == "valid" for one in every))
        prompts = draw(every, number, split="valid", sources=config.sources, seed=config.seed, what=name)
    return HeldOut([row for row in rows if row["split"] == "valid"], texts, prompts)


def _measured(
    config: Config, parents: Mapping[str, Run], role: str, held_out: HeldOut, heard: Heard
) -> tuple[dict[str, list[tuple[float, int]]], Answered]:
    """Return the loss and tokens of every row, and the answers, of one model; the model is gone afterwards."""
    from instructloop.models.lm import load_lm
    from instructloop.models.sampler import row_logprobs
    from instructloop.train.device import to_training_device

    model, text = load_lm(policy_files(parents[role]).folder)
    to_training_device(model)
    rows = {
        "loss": [_demonstration(config, row, text) for row in held_out.demonstrations],
        "text_loss": [_document(text, one, config) for one in held_out.texts],
    }
    losses = {
        name: [(-total, number) for total, number in row_logprobs(model, text, of, on_rows=heard)]
        for name, of in rows.items()
    }
    return losses, _answered(config, (model, text), parents, held_out.prompts, heard)


def _demonstration(config: Config, row: Mapping[str, Any], text: Text) -> tuple[list[int], list[int]]:
    """Return a demonstration as ids as SFT reads it; one that is too long without a token to predict."""
    completion = text.completion_ids(row["completion"])
    prompt = text.prompt_ids(row["prompt"], max_tokens=config.max_prompt_tokens)
    return prompt, completion if len(completion) <= config.max_completion_tokens else []


def _document(text: Text, document: str, config: Config) -> tuple[list[int], list[int]]:
    """Return a text's ids, as many as a prompt and a completion may have together, the first of them given."""
    ids = text.context_ids(document)[: config.max_prompt_tokens + config.max_completion_tokens]
    return ids[:1], ids[1:]


def _answered(
    config: Config,
    policy: tuple[PreTrainedModel, Text],
    parents: Mapping[str, Run],
    prompts: Sequence[Prompt],
    heard: Heard,
) -> Answered:
    from instructloop.models.sampler import row_seeds, sample
    from instructloop.models.scalar import ScalarModel
    from instructloop.train.device import to_training_device
    from instructloop.train.ranked import score_rows

    if not prompts:
        return Answered([], [], [], [])
    model, text = policy
    ids = [text.prompt_ids(prompt.text, max_tokens=config.max_prompt_tokens) for prompt in prompts]
    samples = sample(
        model,
        text,
        ids,
        max_new_tokens=config.max_completion_tokens,
        temperature=config.temperature,
        seeds=row_seeds(config.seed, [prompt.id for prompt in prompts]),
        on_rows=heard,
    )
    reward, reward_text = ScalarModel.load(parents["reward"].file("model"))
    text.require_same_ids(reward_text)
    to_training_device(reward)
    finished = samples.finished_B.tolist()
    completions = samples.completions()
    closed = [[*row[:-1], text.eos_id] if done else row for row, done in zip(completions, finished, strict=True)]
    scores = score_rows(reward, text, [[*p, *c] for p, c in zip(ids, closed, strict=True)])
    return Answered([text.decode(row) for row in completions], scores, list(map(len, completions)), finished)


def _loss_figures(held_out: HeldOut, losses: Mapping[str, Mapping[str, list[tuple[float, int]]]]) -> dict[str, Any]:
    """Return the losses in nats per token, n the tokens, and after less before, rows in pairs."""
    clusters: dict[str, Sequence[Any]] = {
        "loss": _clusters([row["prompt_id"] for row in held_out.demonstrations]),
        "text_loss": list(range(len(held_out.texts))),
    }
    found: dict[str, Any] = {}
    for name, of in clusters.items():
        rows = {role: measured[name] for role, measured in losses.items()}
        if not any(number for _, number in rows["after"]):
            continue
        intervals = {role: _per_token(values, of) for role, values in rows.items()}
        if "before" in rows:
            pairs = zip(rows["after"], rows["before"], strict=True)
            intervals["difference"] = _per_token([(a - b, number) for (a, number), (b, _) in pairs], of)
        found[name] = {role: one.as_dict() for role, one in intervals.items()}
    return found


def _clusters(prompts: Sequence[str]) -> Sequence[Any]:
    """Return what rows are drawn by: their prompts, or the rows where all have one prompt, which is a frame then."""
    return prompts if len(set(prompts)) > 1 else range(len(prompts))


def _per_token(rows: Sequence[tuple[float, int]], clusters: Sequence[Any]) -> Interval:
    found = ratio_interval([loss for loss, _ in rows], [number for _, number in rows], clusters)
    return replace(found, n=sum(number for _, number in rows))


def _score_figures(held_out: HeldOut, answers: Mapping[str, Answered]) -> dict[str, Any]:
    """Return the mean scores and lengths, and after less before, prompts in pairs."""
    if not held_out.prompts:
        return {}
    clusters = [prompt.id for prompt in held_out.prompts]
    values = {role: list(answered.scores) for role, answered in answers.items()}
    if "before" in values:
        values["difference"] = [a - b for a, b in zip(values["after"], values["before"], strict=True)]
    return {
        "score": {role: mean_interval(of, clusters).as_dict() for role, of in values.items()},
        "tokens": {role: sum(one.num_tokens) / len(one.num_tokens) for role, one in answers.items()},
        "finished": {role: sum(one.finished) / len(one.finished) for role, one in answers.items()},
    }


def _completions(held_out: HeldOut, answers: Mapping[str, Answered]) -> list[dict[str, Any]]:
    return [
        {"prompt": prompt.text}
        | {role: one.texts[place] for role, one in answers.items()}
        | {f"{role}_score": round(one.scores[place], 4) for role, one in answers.items()}
        for place, prompt in enumerate(held_out.prompts)
    ]
