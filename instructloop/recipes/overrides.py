"""What loop.yaml and --set change in a recipe's configurations; unknown steps, fields and bad values are refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from instructloop.stages.round import Step
from instructloop.workspace import Workspace, merge_overrides, suggestion


def overridden(steps: Iterable[Step], workspace: Workspace) -> tuple[Step, ...]:
    """Return the steps with the workspace's overrides in their configurations.

    ValueError names an unknown step or field with the nearest one that exists, and a value with the rule it breaks.
    """
    every = tuple(steps)
    names = [step.name for step in every]
    if unknown := [name for name in workspace.overrides if name not in names]:
        raise ValueError(f"set: there is no step {unknown[0]!r}{suggestion(unknown[0], names)}")
    return tuple(
        replace(step, config=merge_overrides(step.config, workspace.overrides[step.name], where=step.name))
        if step.name in workspace.overrides
        else step
        for step in every
    )
