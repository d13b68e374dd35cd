"""The only SQL of the project: what people were asked, what they answered, and how it is frozen for training."""

from instructloop.store.export import Exported, export
from instructloop.store.freeze import Frozen, freeze_demonstrations, freeze_rankings
from instructloop.store.rows import (
    Assignment,
    ComparisonForm,
    DemonstrationRow,
    Imported,
    ImportedDemonstration,
    ImportedRanking,
    Labeler,
    Progress,
    RankingRow,
    TaskItem,
)
from instructloop.store.store import Store

__all__ = [
    "Assignment",
    "ComparisonForm",
    "DemonstrationRow",
    "Exported",
    "Frozen",
    "Imported",
    "ImportedDemonstration",
    "ImportedRanking",
    "Labeler",
    "Progress",
    "RankingRow",
    "Store",
    "TaskItem",
    "export",
    "freeze_demonstrations",
    "freeze_rankings",
]
