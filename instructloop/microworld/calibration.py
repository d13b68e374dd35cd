"""How much simulated labelers agree on given completions at a given noise, and the noise that meets a target."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from instructloop.core.agreement import pairwise_agreement
from instructloop.core.rankings import Interval
from instructloop.core.records import Ranking
from instructloop.microworld.chance import shuffled
from instructloop.microworld.opinions import Assess, Purpose, SimulatedLabeler, leanings, tiers
from instructloop.store.store import Store


@dataclass(frozen=True, slots=True)
class Shown:
    """One prompt and the completions shown with it, as (id, text)."""

    prompt: tuple[str, str]
    completions: tuple[tuple[str, str], ...]


class Panel:
    """Several labelers on each of many sets; everything but the noise scale is drawn once."""

    def __init__(
        self,
        labelers: Sequence[SimulatedLabeler],
        sets: Iterable[Shown],
        assess: Assess,
        *,
        purpose: Purpose,
        seed: int,
        num_per_set: int = 4,
    ):
        if len(labelers) < 2:
            raise ValueError(f"{len(labelers)} labelers cannot agree: at least 2 are needed")
        self._judged = [
            (shown.prompt[0], one, leanings(one, shown.prompt, shown.completions, assess, purpose=purpose, seed=seed))
            for shown in sets
            for one in shuffled(labelers, "panel", seed, shown.prompt[0])[:num_per_set]
        ]

    def agreement(self, noise_scale: float) -> Interval:
        """Return the pairwise agreement at `noise_scale`, clustered by prompt, without pairs that either side ties."""
        return pairwise_agreement(
            [
                Ranking(
                    prompt_id,
                    one.id,
                    tiers(
                        {name: value + noise_scale * error for name, (value, error) in leaning.items()}, one.tie_margin
                    ),
                )
                for prompt_id, one, leaning in self._judged
            ],
            ties="drop",
        )

    def calibrate(self, target: float, *, tolerance: float = 0.002, highest: float = 4.0) -> float:
        """Return the noise scale at which agreement is `target` within `tolerance`, by bisection on [0, highest].

        The noise is drawn once and only scaled, so agreement falls almost without jumps. ValueError when no scale in
        the interval can do it: labelers of different taste disagree even without noise, and chance agrees on half.
        """
        low, high = 0.0, highest
        if not self.agreement(high).value <= target <= self.agreement(low).value:
            raise ValueError(
                f"agreement {target} is out of reach: {self.agreement(low).value:.3f} without noise, "
                f"{self.agreement(high).value:.3f} at noise scale {high}"
            )
        while True:
            middle = (low + high) / 2
            found = self.agreement(middle).value
            if abs(found - target) <= tolerance or high - low < 1e-6:
                return middle
            low, high = (middle, high) if found > target else (low, middle)


def sets_in(store: Store, task_set: str) -> list[Shown]:
    """Return the sets of completions that the tasks of `task_set` show, in the order in which they were opened."""
    texts = {prompt.id: prompt.text for prompt in store.prompts()}
    items = store.items(task_set)
    ids = sorted({completion_id for item in items for completion_id in item.completion_ids})
    completions = {one.id: one.text for one in store.completions(ids)}
    return [
        Shown((item.prompt_id, texts[item.prompt_id]), tuple((name, completions[name]) for name in item.completion_ids))
        for item in items
    ]


def frozen_sets(path: Path) -> list[Shown]:
    """Return the distinct sets of completions in a frozen rankings.jsonl."""
    sets: dict[tuple[str, ...], Shown] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        completions = tuple(sorted((one["id"], one["text"]) for one in row["completions"]))
        sets[(row["prompt_id"], *(name for name, _ in completions))] = Shown(
            (row["prompt_id"], row["prompt"]), completions
        )
    return [sets[key] for key in sorted(sets)]


def agreement_table(panel: Panel, noise_scales: Iterable[float]) -> str:
    """Return one line per noise scale with the agreement and its 95 % interval, to choose a recipe's scale by eye."""
    return "\n".join(f"noise {scale:.3f}  agreement {panel.agreement(scale)}" for scale in noise_scales)
