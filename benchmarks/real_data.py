"""What SmolLM2-135M learns from people's own labels: python -m benchmarks.real_data DATA [STUDY…] --to FOLDER.

Each study is one command of the quick path, on a part of DATA that two cores can read in minutes. What it found is that
run's summary, kept with the command. Started again it goes on where it was. `--full` is for a GPU: whole files, PPO of
100 iterations with 512 episodes.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import result, write
from instructloop.recipes import outside
from instructloop.runs import Run

NOT_HERE = "skipped: torch finds no CUDA device here; --full is for where there is one"
MODEL = "smollm2"


@dataclass(frozen=True, slots=True)
class Part:
    """Lines of a file of DATA: so many `rows`, drawn by their hash, of those with from … to `characters`."""

    file: str
    rows: int | None = None
    characters: tuple[int, int] | None = None

    def written(self, data: Path, folder: Path) -> Path:
        """Write the rows into a folder, unless they are the whole file; return where they are. Bad rows stay in."""
        source = data / self.file
        if self.rows is None and self.characters is None:
            return source
        least, most = self.characters or (0, sys.maxsize)
        kept = [line for line in outside.lines(source) if line.strip() and least <= len(line) <= most]
        kept.sort(key=lambda line: hashlib.sha256(line.encode()).digest())
        target = folder / source.name.removesuffix(".gz")
        folder.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(kept[: self.rows]))
        return target


@dataclass(frozen=True, slots=True)
class Study:
    """One command: what it trains on, what it is measured on, its options; `tfidf` is what the bag of words gets."""

    verb: str
    train: Part
    held_out: Part | None
    options: str = ""
    prompt: str | None = None  # of rows that have none
    text: Part | None = None
    held_out_text: Part | None = None
    reward: str | None = None  # the study whose reward model PPO trains against
    tfidf: float | None = None


PREFERENCES, DEMONSTRATIONS, TEXT = "preferences/{}.jsonl.gz", "demonstrations/{}.jsonl.gz", "text/{}"
SHORT = (0, 900)  # characters of a line
ADAPTER = "--lora 16 --lr 2e-4"


def _pairs(name: str) -> tuple[str, str]:
    return PREFERENCES.format(f"{name}.train"), PREFERENCES.format(f"{name}.dev")


def _reward(
    name: str, rows: int | None, options: str, *, characters: tuple[int, int] | None = None, **more: Any
) -> Study:
    train, dev = _pairs(name)
    return Study("reward", Part(train, rows, characters), Part(dev, None, characters), options, **more)


HH, HH_DEV = _pairs("hh-rlhf")
WIKITEXT = Part(TEXT.format("wikitext-2.valid.txt.gz"), rows=60, characters=(300, 700))
MIX = Part(TEXT.format("simple-news.jsonl.gz"))
PPO = "--lora 16 --lr 3e-4 --set ppo.value_lr=3e-4 --iterations 24 --max-prompt-tokens 64 --max-completion-tokens 24"


def _policy(text: Part | None) -> Study:
    parts = (Part(HH, 1000, (0, 500)), Part(HH_DEV, 200, (0, 500)))
    return Study("ppo", *parts, PPO, text=text, held_out_text=WIKITEXT, reward="oasst1-ranked")


SMALL: dict[str, Study] = {
    "sft-fairytaleqa": Study(
        "sft",
        Part(DEMONSTRATIONS.format("fairytaleqa.train"), 160, SHORT),
        Part(DEMONSTRATIONS.format("fairytaleqa.val"), 60, SHORT),
        "--max-prompt-tokens 256",
    ),
    "humour": _reward("humour", 9000, "--lr 5e-5 --batch 4", tfidf=0.682),
    "ethics-util": _reward(
        "ethics-util", 6000, "--lr 5e-5 --batch 4", prompt="Tell me something that happened to you.", tfidf=0.725
    ),
    "hh-rlhf": _reward("hh-rlhf", 2000, f"{ADAPTER} --batch 16", tfidf=0.544, characters=SHORT),
    "ukp-arguments": _reward("ukp-arguments", 800, f"{ADAPTER} --batch 4", tfidf=0.793),
    "oasst1-ranked": Study("reward", Part(_pairs("oasst1-ranked")[0]), None, f"{ADAPTER} --batch 8"),
    "stackexchange-ranked": _reward("stackexchange-ranked", None, f"{ADAPTER} --batch 8", characters=(0, 2000)),
    "ppo": _policy(None),
    "ppo-ptx": _policy(MIX),
}
"""On two cores, each within half an hour."""

FULL: dict[str, Study] = {
    "sft-fairytaleqa": Study(
        "sft", Part(DEMONSTRATIONS.format("fairytaleqa.train")), Part(DEMONSTRATIONS.format("fairytaleqa.val"))
    ),
    "hh-rlhf": _reward("hh-rlhf", None, "", tfidf=0.544),
    "ppo": Study("ppo", Part(HH), Part(HH_DEV), "--eval-prompts 256", held_out_text=WIKITEXT, reward="hh-rlhf"),
    "ppo-ptx": Study(
        "ppo", Part(HH), Part(HH_DEV), "--eval-prompts 256", text=MIX, held_out_text=WIKITEXT, reward="hh-rlhf"
    ),
}
"""With a recipe's numbers for a GPU: all of hh-rlhf, 100 iterations of 512 episodes."""


def command(name: str, study: Study, data: Path, to: Path) -> list[str]:
    """Return the words after `instructloop`, with the study's files written."""
    folder = to / "data" / name
    words = [study.verb, "--model", MODEL, "--data", str(study.train.written(data, folder))]
    parts = {"--eval": study.held_out, "--text": study.text, "--eval-text": study.held_out_text}
    for option, part in parts.items():
        words += [] if part is None else [option, str(part.written(data, folder))]
    if study.reward is not None:
        words += ["--reward", str(_only(to / study.reward, "reward").file("model"))]
    words += [] if study.prompt is None else ["--prompt", study.prompt]
    return [*words, *study.options.split(), "--to", str(to / name)]


def _only(workspace: Path, name: str) -> Run:
    return Run.find(workspace / "runs", name)


def measured(name: str, study: Study, data: Path, to: Path, *, more: Sequence[str] = ()) -> dict[str, Any]:
    """Run a study and return its command and its runs' summaries; CalledProcessError if it fails."""
    words = [*command(name, study, data, to), *more]
    subprocess.run([sys.executable, "-m", "instructloop", *words], check=True)
    runs = [study.verb, *([f"{study.verb}-held-out"] if study.verb != "reward" else [])]
    summaries = {run: _only(to / name, run).summary for run in runs}
    shown = " ".join(word.replace(str(to), "FOLDER").replace(str(data), "DATA") for word in words)
    return {"study": name, "command": f"instructloop {shown}", "summaries": summaries, "tfidf": study.tfidf}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the studies that are named, or all, in their order."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder of preferences/, demonstrations/, text/")
    parser.add_argument("studies", nargs="*", help=f"of {', '.join(SMALL)}; all if not given")
    parser.add_argument("--to", type=Path, required=True, help="workspaces and parts of the data")
    parser.add_argument("--full", action="store_true", help="whole files, on a GPU")
    parser.add_argument("--beside", default="", help="what else the machine was doing, for the record")
    parser.add_argument("--write", action="store_true", help="into benchmarks/results")
    asked = parser.parse_args(arguments)
    studies = FULL if asked.full else SMALL
    if unknown := sorted(set(asked.studies) - studies.keys()):
        parser.error(f"no study is called {', '.join(unknown)}; there are {', '.join(studies)}")
    if asked.full and not torch.cuda.is_available():
        print(NOT_HERE)
        return
    for name in asked.studies or studies:
        found = measured(
            name, studies[name], asked.data.resolve(), asked.to.resolve(), more=["--machine", "gpu"] * asked.full
        )
        if asked.write:
            write(f"real-data-{name}" + "-full" * asked.full, result(found, beside=asked.beside))


if __name__ == "__main__":
    main()
