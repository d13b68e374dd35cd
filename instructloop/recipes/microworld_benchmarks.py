"""The microworld's benchmarks in miniature as benchmarks that a policy can be measured on, by section of the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from instructloop.evals import benchmark as b
from instructloop.microworld.benchmarks import miniatures
from instructloop.microworld.miniature import Miniature
from instructloop.microworld.world import World
from instructloop.recipes.benchmarks import HeldOutLoss


@dataclass(frozen=True, slots=True)
class Raw:
    """A benchmark whose prompts are continued as bare text, without template or prefix, as in the paper (D)."""

    name: str
    title: str
    paper: str | None
    inner: b.Benchmark

    def run(self, policy: Any) -> list[b.Measure]:
        """Return what the benchmark inside measures."""
        return self.inner.run(replace(policy, raw=True, prefix=""))


def benchmarks(world: World, seed: int, *, context: int) -> dict[str, list[b.Benchmark]]:
    """Return section of the report -> benchmarks."""
    found = defaultdict[str, list[b.Benchmark]](list)
    for mini in miniatures(world, seed, context=context):
        inner = _benchmark(mini)
        found[mini.section].append(Raw(mini.name, mini.title, mini.paper, inner) if mini.is_raw else inner)
    return dict(found)


def _benchmark(mini: Miniature) -> b.Benchmark:
    items: Any = mini.items
    head = (mini.name, mini.title, mini.paper)
    match mini.scoring:
        case "check":
            return b.Generated(*head, mini.group, _queries(items), dict(mini.checkers), mini.max_new_tokens)
        case "bleu":
            return b.Translated(*head, mini.group, _queries(items), mini.max_new_tokens)
        case "choice":
            choices = [b.Choice(item.context, item.choices, item.gold, item.cluster) for item in items]
            return b.MultipleChoice(*head, mini.group, choices)
        case "entropy":
            return b.Preference(*head, mini.group, mini.prefix, [(item.texts, item.cluster) for item in items])
        case "loss":
            return HeldOutLoss(*head, items)


def _queries(items: Sequence[Any]) -> list[b.Query]:
    return [b.Query(item.prompt, item.references, item.cluster) for item in items]
