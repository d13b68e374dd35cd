"""From raw prompts to a clean set: normalise, deduplicate, cap and split by user, no PII in training; no tokens."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from instructloop.core.pii import contains_pii
from instructloop.core.records import SPLITS, Prompt, Split

Key = Callable[[Prompt], str]


def by_user(prompt: Prompt) -> str:
    """Return the user: the key of paper 3.2; A.2 groups by organisation, for which one passes another key."""
    return prompt.user


@dataclass(frozen=True, slots=True)
class Kept:
    """What a step of cleaning kept, in the order given, and how many it dropped by reason; together they are all."""

    prompts: list[Prompt]
    dropped: dict[str, int] = field(default_factory=dict[str, int])


def normalise(text: str) -> str:
    """Return the text in NFC, with \\n line ends, no controls but tab, no blanks at line ends or around it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Cc holds the controls, Cs lone surrogates, which no file can hold.
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    text = unicodedata.normalize("NFC", text)
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()


def normalise_prompts(prompts: Iterable[Prompt]) -> Kept:
    """Normalise every text, its id following it; drop those of which nothing is left, reason `empty`."""
    cleaned = [(prompt, normalise(prompt.text)) for prompt in prompts]
    kept = [prompt if text == prompt.text else _with_text(prompt, text) for prompt, text in cleaned if text]
    return _kept(kept, {"empty": len(cleaned) - len(kept)})


def deduplicate(prompts: Iterable[Prompt], *, prefix_characters: int) -> Kept:
    """Drop a prompt that shares its first `prefix_characters` with an earlier one, reason `duplicate` (paper 3.2).

    Letter case and the kind and number of blanks do not count. A text shorter than that is a duplicate of an equal text
    only. The paper says "a long common prefix" and gives no length.
    """
    if prefix_characters < 1:
        raise ValueError(f"prefix_characters {prefix_characters} must be at least 1")
    first = dict[str, Prompt]()
    total = 0
    for prompt in prompts:
        total += 1
        first.setdefault(re.sub(r"\s+", " ", prompt.text.strip()).casefold()[:prefix_characters], prompt)
    return _kept(list(first.values()), {"duplicate": total - len(first)})


def cap_per_user(prompts: Iterable[Prompt], *, limit: int, key: Key = by_user) -> Kept:
    """Keep the first `limit` prompts of each user, reason `over_cap` (200 in paper 3.2)."""
    if limit < 1:
        raise ValueError(f"limit {limit} prompts per user must be at least 1")
    seen = Counter[str]()
    kept = list[Prompt]()
    for prompt in prompts:
        seen[key(prompt)] += 1
        if seen[key(prompt)] <= limit:
            kept.append(prompt)
    return _kept(kept, {"over_cap": seen.total() - len(kept)})


def split_of(user: str, *, fractions: Mapping[Split, float], seed: int) -> Split:
    """Return the split of a user: a hash of seed and user, so nobody moves when others come.

    `fractions` of users, in the order train, valid, test, sum to 1.
    """
    if not fractions.keys() <= set(SPLITS):
        raise ValueError(f"fractions {dict(fractions)}: the splits are {', '.join(SPLITS)}")
    if abs(sum(fractions.values()) - 1.0) > 1e-9 or min(fractions.values()) < 0.0:
        raise ValueError(f"fractions {dict(fractions)} must not be negative and must sum to 1")
    digest = hashlib.sha256(f"split\x1f{seed}\x1f{user}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    chosen, upper = SPLITS[0], 0.0
    for split in SPLITS:
        # A split without anyone is passed over; the last one also takes what rounding leaves of the sum.
        chosen = split if fractions.get(split, 0.0) > 0.0 else chosen
        upper += fractions.get(split, 0.0)
        if share < upper:
            break
    return chosen


def split_by_user(
    prompts: Iterable[Prompt], *, fractions: Mapping[Split, float], seed: int, key: Key = by_user
) -> list[Prompt]:
    """Return the prompts with their split: all of one user in one split (paper 3.2), whatever they had before."""
    return [replace(prompt, split=split_of(key(prompt), fractions=fractions, seed=seed)) for prompt in prompts]


def drop_pii(prompts: Iterable[Prompt], *, detector: Callable[[str], bool] = contains_pii) -> Kept:
    """Drop prompts with personal data from the training split only, reason `pii` (paper 3.2); split first."""
    split = list(prompts)
    if any(prompt.split is None for prompt in split):
        raise ValueError("a prompt has no split yet: split by user before dropping personal data")
    kept = [prompt for prompt in split if prompt.split != "train" or not detector(prompt.text)]
    return _kept(kept, {"pii": len(split) - len(kept)})


def clean(
    prompts: Iterable[Prompt],
    *,
    prefix_characters: int,
    max_per_user: int,
    fractions: Mapping[Split, float],
    seed: int,
    key: Key = by_user,
    detector: Callable[[str], bool] = contains_pii,
) -> Kept:
    """Return the prompts normalised, deduplicated, capped, split and free of PII in training, in this order."""
    normal = normalise_prompts(prompts)
    distinct = deduplicate(normal.prompts, prefix_characters=prefix_characters)
    capped = cap_per_user(distinct.prompts, limit=max_per_user, key=key)
    split = split_by_user(capped.prompts, fractions=fractions, seed=seed, key=key)
    private = drop_pii(split, detector=detector)
    return Kept(private.prompts, normal.dropped | distinct.dropped | capped.dropped | private.dropped)


def _with_text(prompt: Prompt, text: str) -> Prompt:
    return Prompt.make(
        text,
        source=prompt.source,
        user=prompt.user,
        split=prompt.split,
        kind=prompt.kind,
        category=prompt.category,
    )


def _kept(prompts: list[Prompt], dropped: Mapping[str, int]) -> Kept:
    return Kept(prompts, {reason: number for reason, number in dropped.items() if number})
