"""Which pages a role finds in the head of every page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """One entry of the navigation, with the roles that see it."""

    path: str
    text: str
    roles: tuple[str, ...]

    def is_here(self, path: str) -> bool:
        """Return whether a page lies at this entry or below it."""
        return path == self.path or (self.path != "/" and path.startswith(self.path + "/"))


LABELS = ("labeler", "researcher")
STUDIES = ("owner", "researcher", "auditor")
LINKS = (
    Link("/", "Home", ("owner", "researcher", "labeler", "auditor")),
    Link("/work", "Label", LABELS),
    Link("/write", "Write", LABELS),
    Link("/history", "History", LABELS),
    Link("/research", "Research", STUDIES),
    Link("/exports", "Exports", STUDIES),
    Link("/people", "People", STUDIES),
    Link("/audit", "Audit", STUDIES),
    Link("/help", "Help", LABELS),
)


def links(role: str) -> tuple[Link, ...]:
    """Return the entries that a role sees, in their order."""
    return tuple(link for link in LINKS if role in link.roles)
