"""The microworld's labelers as its recipe sets them: how noisy and how careful; no stage and no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from instructloop.core.records import Cohort
from instructloop.microworld.calibration import Panel, sets_in
from instructloop.microworld.judge import Judge
from instructloop.microworld.labelers import Pens, team, work, writers
from instructloop.microworld.opinions import Purpose, SimulatedLabeler
from instructloop.microworld.world import World
from instructloop.store import Store
from instructloop.workspace import Workspace

FLAWED = 0.6  # of the demonstrations: to judge is easier than to write, and that is what ranking lives on
NOISE_SCALE: Mapping[Cohort, float] = {"train": 0.93}
"""Of training labelers' noise, so that they agree as often as the paper's did on completions of these policies."""
HELDOUT_AGREEMENT = 0.773
"""Of two held-out labelers (paper 3.4); their noise is set on what they are shown, for policies differ by seed."""


def work_all(world: World, seed: int, purpose: Purpose) -> Callable[[Workspace, str], None]:
    """Return whoever does people's part at once: the simulated labelers, by the calls that the web app makes."""
    everyone, judge = team(seed), Judge(world)

    def all_of(workspace: Workspace, tasks: str) -> None:
        people, noise = at_work(workspace.store, tasks, everyone, judge, seed, purpose=purpose)
        work(
            workspace.store,
            tasks,
            people,
            judge,
            workspace.now(),
            seed,
            purpose,
            noise_scale=noise,
            flawed_fraction=FLAWED,
        )

    return all_of


def pens(
    store: Store, tasks: str, everyone: Sequence[SimulatedLabeler], judge: Judge, seed: int, *, purpose: Purpose
) -> Pens:
    """Return what `everyone` writes and ticks on `tasks`: what `work_all` would, where the same people do them."""
    people, noise = at_work(store, tasks, everyone, judge, seed, purpose=purpose)
    return Pens(people, judge, seed, purpose, noise_scale=noise, flawed_fraction=FLAWED)


def at_work(
    store: Store, tasks: str, everyone: Sequence[SimulatedLabeler], judge: Judge, seed: int, *, purpose: Purpose
) -> tuple[list[SimulatedLabeler], Mapping[Cohort, float]]:
    """Return who works on `tasks`, one cohort and of it only good writers where they write, and how noisy they are."""
    cohort = "heldout" if purpose == "evaluation" else "train"
    people = [one for one in everyone if one.cohort == cohort]
    if store.progress(tasks).kind == "demonstrate":
        people = writers(people)
    noise = heldout_noise(store, tasks, people, judge, seed) if purpose == "evaluation" else NOISE_SCALE
    return people, noise


def heldout_noise(
    store: Store, tasks: str, people: Sequence[SimulatedLabeler], judge: Judge, seed: int
) -> Mapping[Cohort, float]:
    """Return the noise at which held-out labelers agree as often as the paper's on what `tasks` show them."""
    panel = Panel(people, sets_in(store, tasks), judge.assess, purpose="evaluation", seed=seed)
    return {"heldout": panel.calibrate(HELDOUT_AGREEMENT)}
