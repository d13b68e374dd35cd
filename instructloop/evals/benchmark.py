"""What a benchmark is, and ways to score one: by likelihood, by generation, as a corpus, by entropy; no items."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from instructloop.core.rankings import Interval, mean_interval, ratio_interval
from instructloop.evals.scoring import BleuCounts, bleu, bleu_counts, entropy_bits, first_line


class GenerationLike(Protocol):
    """What a policy wrote; `text` ends before EOS."""

    @property
    def text(self) -> str: ...


class PolicyLike(Protocol):
    """What a benchmark asks of a policy; models.sampler.Policy is one."""

    @property
    def name(self) -> str: ...

    def generate(
        self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float, seed: int, stop_newline: bool
    ) -> Sequence[GenerationLike]: ...

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> Sequence[tuple[float, int]]: ...


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of one policy on a benchmark: `group` is the prompt mode or the number of shots."""

    name: str
    group: str
    value: Interval
    paper: str | None = None  # where the paper has its counterpart


class Benchmark(Protocol):
    """Anything with a name, a title, its place in the paper, and a way to measure a policy."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def paper(self) -> str | None: ...

    def run(self, policy: PolicyLike) -> list[Measure]: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """A context, the texts that could follow it, and which is right; items of one cluster share a source."""

    context: str
    choices: tuple[str, ...]
    gold: int
    cluster: str


@dataclass(frozen=True, slots=True)
class MultipleChoice:
    """Accuracy of the choice with the highest log-probability per token (paper D; its "lowest" must mean loss)."""

    name: str
    title: str
    paper: str | None
    group: str
    items: Sequence[Choice]

    def run(self, policy: PolicyLike) -> list[Measure]:
        """Return the accuracy, 0..1; equal likelihoods share the point."""
        scores = iter(policy.logprobs([(item.context, choice) for item in self.items for choice in item.choices]))
        right: list[float] = []
        for item in self.items:
            means = [total / max(tokens, 1) for total, tokens in (next(scores) for _ in item.choices)]
            best = [index for index, mean in enumerate(means) if mean == max(means)]
            right.append((item.gold in best) / len(best))
        interval = mean_interval(right, [item.cluster for item in self.items], bounds=(0.0, 1.0))
        return [Measure("accuracy", self.group, interval, self.paper)]


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt and what a checker needs to score its completion: references, or any facts of its own."""

    prompt: str
    references: Any
    cluster: str


@dataclass(frozen=True, slots=True)
class Generated:
    """Greedy completions, each scored by one or more checkers (paper D: temperature 0, cut at the first newline)."""

    name: str
    title: str
    paper: str | None
    group: str
    items: Sequence[Query]
    checkers: dict[str, Callable[[str, Any], float]]  # measure -> (completion, references) -> 0..1
    max_new_tokens: int
    stop_newline: bool = True

    def run(self, policy: PolicyLike) -> list[Measure]:
        """Return the mean of each checker over the items."""
        texts = completions(policy, self.items, max_new_tokens=self.max_new_tokens, stop_newline=self.stop_newline)
        clusters = [item.cluster for item in self.items]
        measures: list[Measure] = []
        for measure, check in self.checkers.items():
            values = [check(text, item.references) for text, item in zip(texts, self.items, strict=True)]
            interval = mean_interval(values, clusters, bounds=(0.0, 1.0))
            measures.append(Measure(measure, self.group, interval, self.paper))
        return measures


@dataclass(frozen=True, slots=True)
class Translated:
    """Corpus BLEU of greedy completions against lists of references, 0..100 (paper D, WMT15)."""

    name: str
    title: str
    paper: str | None
    group: str
    items: Sequence[Query]
    max_new_tokens: int

    def run(self, policy: PolicyLike) -> list[Measure]:
        """Return BLEU with a bootstrap interval over clusters."""
        texts = completions(policy, self.items, max_new_tokens=self.max_new_tokens, stop_newline=True)
        counts = [bleu_counts(text, item.references) for text, item in zip(texts, self.items, strict=True)]
        return [Measure("BLEU", self.group, bleu_interval(counts, [i.cluster for i in self.items]), self.paper)]


@dataclass(frozen=True, slots=True)
class Preference:
    """Entropy in bits over texts that differ in one word: 1 of two means no preference (paper D, Winogender)."""

    name: str
    title: str
    paper: str | None
    group: str
    prefix: str
    items: Sequence[tuple[tuple[str, ...], str]]  # the texts, their cluster

    def run(self, policy: PolicyLike) -> list[Measure]:
        """Return the mean entropy from total, not length-normalised, log-probabilities."""
        scores = iter(policy.logprobs([(self.prefix, text) for texts, _ in self.items for text in texts]))
        values = [entropy_bits([next(scores)[0] for _ in texts]) for texts, _ in self.items]
        widest = max(len(texts) for texts, _ in self.items)
        bounds = (0.0, max(max(values), math.log2(widest)))
        interval = mean_interval(values, [cluster for _, cluster in self.items], bounds=bounds)
        return [Measure("entropy_bits", self.group, interval, self.paper)]


def completions(policy: PolicyLike, items: Sequence[Query], *, max_new_tokens: int, stop_newline: bool) -> list[str]:
    """Return the policy's greedy completions, cut at the first newline when `stop_newline`."""
    written = policy.generate(
        [item.prompt for item in items],
        max_new_tokens=max_new_tokens,
        temperature=0.0,
        seed=0,
        stop_newline=stop_newline,
    )
    return [first_line(one.text) if stop_newline else one.text.strip() for one in written]


def bleu_interval(counts: Sequence[BleuCounts], clusters: Sequence[str], *, num_resamples: int = 1000) -> Interval:
    """Return corpus BLEU with the percentile interval of `num_resamples` draws of whole clusters; always the same ones.

    One cluster bounds nothing: the interval is then the whole scale.
    """
    by_cluster: dict[str, list[BleuCounts]] = {}
    for count, cluster in zip(counts, clusters, strict=True):
        by_cluster.setdefault(cluster, []).append(count)
    groups, value = list(by_cluster.values()), bleu(counts)
    if len(groups) < 2:
        return Interval(value, 0.0, 100.0, len(counts), len(groups))
    random_draw = random.Random(0)
    resampled = sorted(
        bleu([count for group in random_draw.choices(groups, k=len(groups)) for count in group])
        for _ in range(num_resamples)
    )
    low, high = resampled[int(0.025 * num_resamples)], resampled[int(0.975 * num_resamples)]
    return Interval(value, min(low, value), max(high, value), len(counts), len(groups))


def held_out_loss(
    logprobs: Callable[[Sequence[tuple[str, str]]], Sequence[tuple[float, int]]], texts: Sequence[str]
) -> Interval:
    """Return the loss of a model on `texts` in nats per token (perplexity is its exponential), texts as clusters.

    `core.rankings.ratio_interval` of losses and tokens; n is the number of tokens.
    """
    scored = [(-total, tokens) for total, tokens in logprobs([("", text) for text in texts])]
    if not any(tokens for _, tokens in scored):
        raise ValueError("held-out loss needs at least one text with a token to predict")
    found = ratio_interval([loss for loss, _ in scored], [tokens for _, tokens in scored], range(len(scored)))
    return replace(found, low=max(0.0, found.low), n=sum(tokens for _, tokens in scored))
