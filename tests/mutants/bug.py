"""What a planted bug is: one edit of one file, where bugs of its kind were seen, and the tests that are to catch it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Bug:
    """One edit: `old` stands exactly once in `file` and becomes `new`; `rule` is what it breaks.

    `tests` are files, or single tests of a slow one, relative to the root.
    """

    name: str
    rule: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def planted(self, source: str) -> str:
        """Return the source with the bug in it; ValueError unless the old text stands there exactly once."""
        number = source.count(self.old)
        if number != 1:
            raise ValueError(f"{self.name}: its old text stands {number} times in {self.file}, not once")
        return source.replace(self.old, self.new)
