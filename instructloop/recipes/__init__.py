"""Configurations as functions: a recipe names every step of a round, its numbers and who does the people's part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instructloop.workspace import Workspace, suggestion

if TYPE_CHECKING:
    from instructloop.stages.round import Recipe

NAMES = ("microworld", "real")
"""The recipes that a workspace can name; `paper` states the paper's numbers and is not runnable as it stands."""

QUICK = "quick"
"""What loop.yaml says in a folder that was made by `instructloop sft --model …` and the like: runs, but no loop."""


def load(workspace: Workspace) -> Recipe:
    """Return the recipe that the workspace's loop.yaml names, its overrides applied; ValueError for an unknown one."""
    if workspace.recipe == "microworld":
        from instructloop.recipes.microworld import recipe
    elif workspace.recipe == "real":
        from instructloop.recipes.real import recipe
    elif workspace.recipe == QUICK:
        raise ValueError(
            f"{workspace.root}: no loop runs here; its runs are made by instructloop sft, reward and ppo with --model"
        )
    else:
        hint = suggestion(workspace.recipe, NAMES)
        raise ValueError(f"{workspace.root / 'loop.yaml'}: recipe {workspace.recipe!r} is unknown{hint}")
    return recipe(workspace)
