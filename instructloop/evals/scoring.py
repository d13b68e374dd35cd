"""How one completion is scored against its references: F1, exact match, BLEU, entropy; no policy, no interval."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Return `text` lower-case, without punctuation, articles and extra space, as SQuAD's own script does."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def f1(text: str, reference: str) -> float:
    """Return the F1 of shared words (SQuAD v2's script): two empty answers agree, one empty answer scores 0."""
    words, wanted = normalise_answer(text).split(), normalise_answer(reference).split()
    if not words or not wanted:
        return float(words == wanted)
    shared = sum((Counter(words) & Counter(wanted)).values())
    return 2 * shared / (len(words) + len(wanted))


def best_f1(text: str, references: Sequence[str]) -> float:
    """Return the highest F1 over `references`, 0..1 (paper Table 14 prints it times 100)."""
    return max(f1(text, reference) for reference in _required(references))


def exact_match(text: str, references: Sequence[str]) -> float:
    """Return 1.0 when `text` equals one of `references` after normalising, else 0.0."""
    return float(any(normalise_answer(text) == normalise_answer(reference) for reference in _required(references)))


def first_line(text: str) -> str:
    """Return what stands before the first newline, stripped: benchmarks cut completions there (paper D)."""
    return text.strip().partition("\n")[0].strip()


def entropy_bits(logprobs: Sequence[float]) -> float:
    """Return H = -sum_i P_i log2 P_i with P_i = exp(logprob_i) / sum_j exp(logprob_j) (paper D, bias).

    `logprobs` are total log-probabilities in nats, not divided by length; two equal ones give 1 bit.
    """
    if len(logprobs) < 2:
        raise ValueError(f"entropy needs two choices or more, got {len(logprobs)}")
    shifted = np.asarray(logprobs, dtype=np.float64) - max(logprobs)
    log_share = shifted - np.log(np.exp(shifted).sum())
    return float(-(np.exp(log_share) * log_share).sum() / np.log(2))


@dataclass(frozen=True, slots=True)
class BleuCounts:
    """What BLEU needs of one sentence; counts of several sentences add up to the corpus's."""

    correct: tuple[int, ...]  # n-grams shared with the references, n = 1..4
    total: tuple[int, ...]
    length: int
    reference_length: int


def bleu_counts(text: str, references: Sequence[str]) -> BleuCounts:
    """Return sacreBLEU's n-gram counts (its own tokenizer, 13a) of one sentence against its references."""
    from sacrebleu.metrics.bleu import BLEU

    score = BLEU(effective_order=True).sentence_score(text, list(_required(references)))
    return BleuCounts(tuple(score.counts), tuple(score.totals), score.sys_len, score.ref_len)


def bleu(counts: Sequence[BleuCounts]) -> float:
    """Return corpus BLEU, 0..100, from the summed counts of its sentences, as sacreBLEU's default (exp smoothing)."""
    from sacrebleu.metrics.bleu import BLEU

    score = BLEU.compute_bleu(
        correct=np.sum([one.correct for one in counts], axis=0).tolist(),
        total=np.sum([one.total for one in counts], axis=0).tolist(),
        sys_len=sum(one.length for one in counts),
        ref_len=sum(one.reference_length for one in counts),
        smooth_method="exp",
    )
    return float(score.score)


def _required(references: Sequence[str]) -> Sequence[str]:
    if not references:
        raise ValueError("a completion is scored against at least one reference, got none")
    return references
