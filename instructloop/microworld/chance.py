"""Random numbers that are functions of a key: the same key, the same number, whatever was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypeVar

Item = TypeVar("Item")

_STANDARD_NORMAL = NormalDist()


def uniform(*key: object) -> float:
    """Return a number in (0, 1) that depends on `key` alone: its parts' text, hashed with BLAKE2."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    # 52 bits and a half: the largest 53 that a double holds exactly, so that neither 0 nor 1 is reached.
    return ((int.from_bytes(digest, "big") >> 12) + 0.5) / 2**52


def normal(*key: object) -> float:
    """Return a standard normal number that depends on `key` alone."""
    return _STANDARD_NORMAL.inv_cdf(uniform(*key))


def choice(items: Sequence[Item], *key: object) -> Item:
    """Return one of `items`, each equally likely over keys."""
    return items[int(uniform(*key) * len(items))]


def shuffled(items: Sequence[Item], *key: object) -> list[Item]:
    """Return `items` in an order that depends on `key` and the items' positions."""
    return [item for _, item in sorted(enumerate(items), key=lambda pair: uniform(*key, pair[0]))]
