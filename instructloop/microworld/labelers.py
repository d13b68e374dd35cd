"""The simulated labelers: who they are, and their work on the store's tasks, by the calls that the web app makes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from random import Random

from instructloop.core.records import Cohort
from instructloop.microworld import demonstrations
from instructloop.microworld.chance import choice, normal, shuffled, uniform
from instructloop.microworld.judge import Judge
from instructloop.microworld.opinions import PARTS, Assess, Purpose, SimulatedLabeler, opinion
from instructloop.microworld.prompts import spec_of
from instructloop.microworld.specs import Spec
from instructloop.microworld.world import World
from instructloop.store import Assignment, ComparisonForm, Store

NOISE_SCALE: Mapping[Cohort, float] = {"train": 0.97, "heldout": 0.87, "screening": 0.97}
"""Noise on personal utility, in units of the spread of what is shown together (`opinions.leanings`). Calibrated on
`made_up.synthetic_sets` and on samples of small models: training labelers agree with each other on 72.6 +- 1.5 % of the
pairs that neither ties, held-out ones, judging as in the final evaluation, on 77.3 +- 1.3 %."""

HELDOUT_TASTE: Mapping[str, float] = {
    "helpful": 0.9,
    "truthful": 1.2,
    "harmless": 1.1,
    "brief": 1.4,
    "grammatical": 0.9,
}
"""Held-out labelers were never trained together with the others: their common taste is another one."""

SKIP_REASONS = ("the task is unclear", "I lack the expertise", "none of these can be judged")


def team(seed: int, *, num_train: int = 40, num_heldout: int = 15) -> list[SimulatedLabeler]:
    """Return the training cohort and the held-out one: people who differ in taste, noise, laziness and skill."""
    train = [_person(seed, "train", f"labeler-{i:02d}", dict.fromkeys(PARTS, 1.0)) for i in range(1, num_train + 1)]
    heldout = [_person(seed, "heldout", f"heldout-{i:02d}", HELDOUT_TASTE) for i in range(1, num_heldout + 1)]
    return _even(train) + _even(heldout)


def _even(cohort: list[SimulatedLabeler]) -> list[SimulatedLabeler]:
    """Scale the noise factors to a mean square of 1, so that one noise scale suits the cohorts of all seeds."""
    size = math.sqrt(sum(one.noise**2 for one in cohort) / len(cohort)) if cohort else 1.0
    return [replace(one, noise=one.noise / size) for one in cohort]


def _person(seed: int, cohort: Cohort, name: str, taste: Mapping[str, float]) -> SimulatedLabeler:
    def draw(what: str) -> float:
        return uniform("person", seed, name, what)

    noise = math.exp(0.25 * normal("person", seed, name, "noise"))
    lazy = draw("lazy") < 0.15
    return SimulatedLabeler(
        id=name,
        cohort=cohort,
        taste={part: taste[part] * math.exp(0.6 * normal("person", seed, name, part)) for part in PARTS},
        noise=noise,
        tie_margin=(0.08 if lazy else 0.02) + 0.02 * draw("ties"),
        skip_rate=(0.04 if lazy else 0.003) + 0.01 * draw("skips"),
        # Who judges carefully tends to write carefully.
        skill=min(1.0, max(0.0, 0.65 - 0.6 * math.log(noise) + 0.15 * normal("person", seed, name, "skill"))),
        leniency=0.4 * normal("person", seed, name, "leniency"),
        flag_errors=(0.05 + 0.1 * draw("misses"), 0.005 + 0.02 * draw("alarms")),
        seconds_per_word=0.3 + 0.3 * draw("pace"),
    )


def writers(labelers: Sequence[SimulatedLabeler], share: float = 0.5) -> list[SimulatedLabeler]:
    """Return the `share` of the labelers that write best: demonstrations come from them."""
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share {share} must lie between 0 and 1, 0 excluded")
    ranked = sorted(labelers, key=lambda one: (-one.skill, one.id))
    return sorted(ranked[: max(1, round(share * len(ranked)))], key=lambda one: one.id)


@dataclass(frozen=True, slots=True)
class Shift:
    """What one call of `work` did, and the simulated time at its end."""

    num_submitted: int
    num_skipped: int
    ended: datetime


def work(
    store: Store,
    task_set: str,
    team: Sequence[SimulatedLabeler],
    judge: Judge,
    now: datetime,
    seed: int,
    purpose: Purpose = "train",
    *,
    noise_scale: Mapping[Cohort, float] = NOISE_SCALE,
    flawed_fraction: float = 0.4,
) -> Shift:
    """Let `team` do tasks of `task_set` until the store has nothing left for any of them.

    Whose turn it is follows from what the store holds already, and every random choice from (seed, labeler, task): work
    that was interrupted and is called again ends with the same rows. `flawed_fraction` of the demonstrations are flawed
    on average, fewer of the skilled. The clock starts at `now` and advances by the seconds spent.
    """
    pens = Pens(team, judge, seed, purpose, noise_scale=noise_scale, flawed_fraction=flawed_fraction)
    for one in team:
        store.add_labeler(one.id, one.cohort, now=now, origin="simulated")
    progress = store.progress(task_set)
    position, done, skipped = progress.num_submitted + progress.num_skipped, 0, 0
    idle: set[str] = set()
    while claimed := _claim(store, task_set, _turn(team, seed, position), now, idle):
        one, assignment = claimed
        position += 1
        if reason := pens.reason_to_skip(one, assignment):
            now += timedelta(seconds=10)
            store.skip(assignment.id, reason, now)
            skipped += 1
        else:
            now = _answer(store, pens, one, assignment, now)
            done += 1
    return Shift(done, skipped, now)


def _turn(team: Sequence[SimulatedLabeler], seed: int, position: int) -> list[SimulatedLabeler]:
    """Who is asked for the task after `position` others, in order: everyone once a round, in an order of that round."""
    lap, start = divmod(position, len(team))
    order = _lap(tuple(one.id for one in team), seed, lap)
    return [team[i] for i in (*order[start:], *order[:start])]


@lru_cache(maxsize=2)
def _lap(ids: tuple[str, ...], seed: int, lap: int) -> tuple[int, ...]:
    return tuple(shuffled(range(len(ids)), "lap", seed, lap))


def _claim(
    store: Store, task_set: str, turn: Sequence[SimulatedLabeler], now: datetime, idle: set[str]
) -> tuple[SimulatedLabeler, Assignment] | None:
    """The first of `turn` for whom there is a task; who finds none is put into `idle` and not asked again."""
    for one in turn:
        if one.id not in idle:
            if assignment := store.claim(task_set, one.id, now):
                return one, assignment
            idle.add(one.id)
    return None


def _flaw_rates(team: Sequence[SimulatedLabeler], flawed_fraction: float) -> dict[str, float]:
    """Probability of a flawed demonstration by labeler: falls in a line with skill, `flawed_fraction` on average.

    The line is as steep as probabilities allow: who is farthest from the mean skill is at 0 or 1, or at twice the mean.
    """
    mean = sum(one.skill for one in team) / len(team)
    widest = max(abs(one.skill - mean) for one in team)
    tilt = min(flawed_fraction, 1.0 - flawed_fraction) / widest if widest > 0.0 else 0.0
    return {one.id: flawed_fraction + tilt * (mean - one.skill) for one in team}


class Pens:
    """What each of a team would write, tick and skip: the judge and the settings of one shift; sends nothing."""

    def __init__(
        self,
        team: Sequence[SimulatedLabeler],
        judge: Judge,
        seed: int,
        purpose: Purpose,
        *,
        noise_scale: Mapping[Cohort, float] = NOISE_SCALE,
        flawed_fraction: float = 0.4,
    ):
        if not 0.0 <= flawed_fraction <= 1.0:
            raise ValueError(f"flawed_fraction {flawed_fraction} must lie between 0 and 1")
        if without := sorted({one.cohort for one in team} - noise_scale.keys()):
            raise ValueError(f"noise_scale names no scale for the cohort {without[0]} of the team")
        self.world, self.seed, self.noise_scale = judge.world, seed, dict(noise_scale)
        self.flaws = _flaw_rates(team, flawed_fraction)
        self.purpose: Purpose = purpose
        self.assess: Assess = judge.assess

    def reason_to_skip(self, one: SimulatedLabeler, assignment: Assignment) -> str | None:
        """Return why `one` hands the task back; None where they do it."""
        if uniform("skip", self.seed, one.id, assignment.task_id) >= one.skip_rate:
            return None
        return choice(SKIP_REASONS, "skip reason", self.seed, one.id, assignment.task_id)

    def text(self, one: SimulatedLabeler, assignment: Assignment) -> tuple[str, float]:
        """Return the demonstration that `one` writes, and the seconds it takes."""
        text = demonstration(one, assignment, self.world, flaw_rate=self.flaws[one.id], seed=self.seed)
        return text, round(20.0 + 6.0 * one.seconds_per_word * len(text.split()), 1)

    def form(self, one: SimulatedLabeler, assignment: Assignment) -> ComparisonForm:
        """Return the comparison as `one` fills it in, with the seconds it takes."""
        return comparison_form(
            one,
            assignment,
            self.assess,
            noise_scale=self.noise_scale[one.cohort],
            purpose=self.purpose,
            seed=self.seed,
        )


def _answer(store: Store, pens: Pens, one: SimulatedLabeler, assignment: Assignment, now: datetime) -> datetime:
    """Submit the answer of `one` to `assignment`; return the time at which it was sent."""
    key = f"simulated-{pens.seed}-{assignment.id}"
    if assignment.kind == "demonstrate":
        text, seconds = pens.text(one, assignment)
        now += timedelta(seconds=seconds)
        store.submit_demonstration(assignment.id, text, now=now, idempotency_key=key, seconds=seconds)
        return now
    form = pens.form(one, assignment)
    now += timedelta(seconds=form.seconds or 0.0)
    store.submit_comparison(assignment.id, form, now=now, idempotency_key=key)
    return now


def demonstration(
    labeler: SimulatedLabeler, assignment: Assignment, world: World, *, flaw_rate: float, seed: int
) -> str:
    """Return what `labeler` writes for the prompt of `assignment`; with probability `flaw_rate` it has a flaw."""
    key = ("demonstration", seed, labeler.id, assignment.task_id)
    spec = spec_of(world, assignment.prompt.text)
    flaw = choice(flaws_for(spec), "which flaw", *key) if uniform("flaw", *key) < flaw_rate else None
    return demonstrations.write(spec, world, Random("\x1f".join(map(str, key))), flaw)


def flaws_for(spec: Spec) -> tuple[str, ...]:
    """Return the flaws that a completion of `spec` can have: without this choice most would end up rude."""
    possible = {
        "myth": spec.task in ("fact", "yesno", "describe", "stranger"),
        "hallucinated": spec.is_closed_domain,
        "constraint": bool(spec.constraints),
    }
    return tuple(flaw for flaw in demonstrations.FLAWS if possible.get(flaw, True))


def comparison_form(
    labeler: SimulatedLabeler,
    assignment: Assignment,
    assess: Assess,
    *,
    noise_scale: float,
    purpose: Purpose,
    seed: int,
) -> ComparisonForm:
    """Return the filled-in form of the comparison screen for `assignment`, as the web app sends it."""
    prompt = assignment.prompt
    given = opinion(
        labeler,
        (prompt.id, prompt.text),
        [(completion.id, completion.text) for completion in assignment.completions],
        assess,
        noise_scale=noise_scale,
        purpose=purpose,
        seed=seed,
    )
    return ComparisonForm(given.ratings, given.flags, given.tiers, given.notes, given.seconds)
