"""SFT, a reward model and PPO from a model and files that are there already: one step after the other, no loop."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from instructloop.console import Console
from instructloop.core.records import Split, content_id
from instructloop.formats.converting import convert
from instructloop.formats.given import GivenText
from instructloop.formats.rows import read_rows
from instructloop.recipes import given_data, imports, outside
from instructloop.runs import Run
from instructloop.stages import before_after, s3_sft, s6_reward, s7_ppo
from instructloop.stages.round import Step, do
from instructloop.workspace import Workspace

VALID_FRACTION = 0.1  # of the prompts, where no file is held out
NUM_ZEROS = 500  # best completions that score 0 on average; the paper's are all demonstrations


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs are made and reported: the workspace, the console, and the name of the run that is wanted."""

    workspace: Workspace
    console: Console
    name: str

    def do(self, step: Step, parents: Mapping[str, Run]) -> Run:
        """Return the step's run, done now unless it is done already."""
        config = step.config.model_dump(mode="json")
        space = self.workspace
        identity = Run.identify(
            step.stage, name=step.name, round=space.round, config=config, parents=parents, inputs=step.inputs
        )
        known = Run.get(space.runs, identity)
        is_done = known is not None and known.is_done
        with nullcontext() if is_done else self.console.step(step.name):
            return do(space, step, parents, self.console)


@dataclass(frozen=True, slots=True)
class Data:
    """Files of labels or prompts, "train" and perhaps "valid", and how they are read."""

    sources: Mapping[Split, str]
    name: str
    seed: int
    shape: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    prompt: str | None = None


def data(place: Place, given: Data, kind: str) -> Run:
    """Return the run of the files: rows as stages read them."""
    config = given_data.Config.model_validate(
        {
            "kind": kind,
            "name": given.name,
            "shape": given.shape,
            "fields": dict(given.fields),
            "prompt": given.prompt,
            "valid_fraction": None if "valid" in given.sources else VALID_FRACTION,
            "num_zeros": NUM_ZEROS,
            "seed": given.seed,
        }
    )
    inputs = {split: given_data.digest(source) for split, source in given.sources.items()}
    return place.do(_import(f"import-{given.name}", given_data.run, config, inputs, sources=given.sources), {})


def model(place: Place, source: str, name: str) -> Run:
    """Return the run of a model that comes from a folder, a .gguf file or the hub."""
    from instructloop.models.bringing import digest, put_into

    inputs = {"model": digest(source)}
    config = imports.ModelConfig(source=source)
    return place.do(
        _import(f"import-{name}", imports.model, config, inputs, convert=lambda folder: put_into(folder, source)), {}
    )


def text(place: Place, source: str, name: str, *, num_heldout: int | None) -> Run:
    """Return the run of pretraining text: documents, `num_heldout` of them apart (None: all, nothing is learned)."""
    documents = sorted(_documents(source, place.console), key=lambda one: content_id("text", one))
    number = len(documents) if num_heldout is None else num_heldout
    config = imports.TextConfig(source=source, num_heldout=number)
    inputs = {"file": given_data.digest(source)}
    hooks = {"documents": lambda: documents[number:], "heldout": lambda: documents[:number]}
    return place.do(_import(f"import-{name}", imports.text, config, inputs, **hooks), {})


def sft(place: Place, config: s3_sft.Config, base: Run, demonstrations: Run) -> tuple[Run, Run]:
    """Return the run of the fitted model, and that of its loss on what was held out, before and after."""
    step = Step(place.name, s3_sft.run, "s3_sft", config)
    fitted = place.do(step, {"base": base, "demonstrations": demonstrations})
    limits = {"max_prompt_tokens": config.max_prompt_tokens, "max_completion_tokens": config.max_completion_tokens}
    measuring = before_after.Config(**limits, num_prompts=None, sources=(), temperature=1.0, seed=config.seed)
    parents = {"before": base, "after": fitted, "demonstrations": demonstrations}
    return fitted, place.do(_measure(place, measuring), parents)


def reward(place: Place, config: s6_reward.Config, init: Run, rankings: Run) -> Run:
    """Return the run of the reward model; the best completions among the rankings stand in for demonstrations."""
    step = Step(place.name, s6_reward.run, "s6_reward", config)
    return place.do(step, {"init": init, "rankings": rankings, "demonstrations": rankings})


def ppo(
    place: Place, config: s7_ppo.Config, parents: Mapping[str, Run], *, heldout: Run | None, num_prompts: int
) -> tuple[Run, Run]:
    """Return the run of the trained policy, and that of held-out scores (and loss on text), before and after.

    `parents` are stage 7's: init, reward, prompts and, for the mix, pretraining; `heldout` holds text in heldout.jsonl.
    """
    trained = place.do(Step(place.name, s7_ppo.run, "s7_ppo", config), parents)
    measuring = before_after.Config(
        max_prompt_tokens=config.max_prompt_tokens,
        max_completion_tokens=config.max_new_tokens,
        num_prompts=num_prompts,
        sources=config.sources,
        temperature=config.temperature,
        seed=config.seed,
    )
    roles = {"before": parents["init"], "after": trained, "prompts": parents["prompts"], "reward": parents["reward"]}
    return trained, place.do(_measure(place, measuring), roles | ({} if heldout is None else {"text": heldout}))


def _measure(place: Place, config: before_after.Config) -> Step:
    return Step(f"{place.name}-held-out", before_after.run, "before_after", config)


def _documents(source: str, console: Console) -> list[str]:
    """Return the documents of a file, the paragraphs of one that ends in .txt or .txt.gz; each once, drops counted."""
    if Path(source).name.removesuffix(".gz").endswith(".txt"):
        return [*dict.fromkeys(outside.paragraphs(Path(source)))]
    found = convert(read_rows(source), "text", source=source)
    every = [one.text for _, one in found.kept if isinstance(one, GivenText)]
    dropped = {**found.reasons, "repeated": len(every) - len(set(every))}
    reasons = ", ".join(f"{number} {reason}" for reason, number in dropped.items() if number)
    console.log(f"{Path(source).name}: {found.num_read} documents read; dropped: {reasons or 'none'}")
    return [*dict.fromkeys(every)]


def _import(name: str, run: Any, config: BaseModel, inputs: dict[str, str], **hooks: Any) -> Step:
    return Step(name, run, "import", config, inputs=inputs, hooks={**hooks, "inputs": inputs})
