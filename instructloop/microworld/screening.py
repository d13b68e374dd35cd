"""Simulated candidates, and their screening on three criteria of the paper (appendix B.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from instructloop.core.records import Ranking
from instructloop.core.screening import CutOffs, demonstration_grade, flag_agreement, ranking_agreement
from instructloop.microworld import demonstrations, prompts
from instructloop.microworld.calibration import Shown
from instructloop.microworld.labelers import team
from instructloop.microworld.opinions import Assess, Opinion, SimulatedLabeler, opinion, tiers
from instructloop.microworld.world import World


@dataclass(frozen=True, slots=True)
class Screening:
    """One candidate's results; the fourth criterion of the paper, self-assessed coverage, has no number."""

    labeler: str
    flag_agreement: float
    ranking_agreement: float
    demonstration_grade: float
    cut_offs: CutOffs

    @property
    def is_passed(self) -> bool:
        """Whether every criterion is met."""
        return (
            self.flag_agreement >= self.cut_offs.flags
            and self.ranking_agreement >= self.cut_offs.rankings
            and self.demonstration_grade >= self.cut_offs.demonstrations
        )


def candidates(seed: int) -> list[SimulatedLabeler]:
    """Return six candidates: three good ones, one who judges at random, one who flags wrongly, one who writes badly."""
    people = team(seed, num_train=6, num_heldout=0)
    good = {"cohort": "screening", "noise": 0.6, "skill": 0.97, "flag_errors": (0.05, 0.02)}
    faults: list[tuple[str, dict[str, object]]] = [
        ("good-1", {}),
        ("good-2", {}),
        ("good-3", {}),
        ("careless", {"noise": 12.0}),
        ("blind", {"flag_errors": (0.7, 0.1)}),
        ("clumsy", {"skill": 0.2}),
    ]
    return [
        replace(person, id=f"candidate-{name}", **(good | fault))  # type: ignore[arg-type]
        for person, (name, fault) in zip(people, faults, strict=True)
    ]


def screening_sets(world: World, num_sets: int, seed: int) -> list[Shown]:
    """Return prompts with four completions each, about half of them sensitive: with rare ones silence would agree."""
    asked = list({prompt.text: prompt for prompt in prompts.raw_prompts(world)}.values())
    rng = Random(f"screening {world.seed} {seed}")
    sets: list[Shown] = []
    for prompt in rng.sample(asked, num_sets):
        spec = prompts.spec_of(world, prompt.text)
        other = rng.choice([flaw for flaw in demonstrations.FLAWS if flaw != "rude"])
        texts = [demonstrations.write(spec, world, rng, flaw) for flaw in (None, other, "rude", "rude")]
        sets.append(Shown((prompt.id, prompt.text), tuple((f"{prompt.id}-{i}", text) for i, text in enumerate(texts))))
    return sets


def screen(
    candidate: SimulatedLabeler,
    sets: Sequence[Shown],
    assess: Assess,
    world: World,
    *,
    cut_offs: CutOffs,
    noise_scale: float,
    seed: int,
) -> Screening:
    """Return how `candidate` does on `sets`, with the judge in the place of the researchers who labelled them."""
    given = {
        shown.prompt[0]: opinion(
            candidate,
            shown.prompt,
            shown.completions,
            assess,
            noise_scale=noise_scale,
            purpose="train",
            seed=seed,
        )
        for shown in sets
    }
    grades = [assess(shown.prompt[1], _written(candidate, shown, world, seed)).quality for shown in sets]
    prompt_of = {name: shown.prompt[0] for shown in sets for name, _ in shown.completions}
    return Screening(
        labeler=candidate.id,
        flag_agreement=flag_agreement(_flags(given.values()), _true_flags(sets, assess), prompt_of).value,
        ranking_agreement=ranking_agreement(
            [Ranking(name, candidate.id, answer.tiers) for name, answer in given.items()],
            [Ranking(shown.prompt[0], "researcher", _true_tiers(shown, assess)) for shown in sets],
        ).value,
        demonstration_grade=demonstration_grade(grades, [shown.prompt[0] for shown in sets]).value,
        cut_offs=cut_offs,
    )


def _written(candidate: SimulatedLabeler, shown: Shown, world: World, seed: int) -> str:
    rng = Random(f"screening {seed} {candidate.id} {shown.prompt[0]}")
    flaw = rng.choice(demonstrations.FLAWS) if rng.random() > candidate.skill else None
    return demonstrations.write(prompts.spec_of(world, shown.prompt[1]), world, rng, flaw)


def _flags(opinions: Iterable[Opinion]) -> dict[str, Mapping[str, bool | None]]:
    return {name: flags for one in opinions for name, flags in one.flags.items()}


def _true_flags(sets: Sequence[Shown], assess: Assess) -> dict[str, Mapping[str, bool | None]]:
    return {name: assess(shown.prompt[1], text).flags for shown in sets for name, text in shown.completions}


def _true_tiers(shown: Shown, assess: Assess) -> tuple[tuple[str, ...], ...]:
    """The order of gold utility (0 … 7), with what is within a twentieth of the scale tied."""
    return tiers({name: assess(shown.prompt[1], text).utility / 7 for name, text in shown.completions}, 0.05)
