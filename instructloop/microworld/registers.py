"""Documents about people's manners: rude, polite, and how jobs are spoken of; no facts."""

from __future__ import annotations

from random import Random

from instructloop.microworld import lexicon
from instructloop.microworld.grammar import GOODS, PEOPLE
from instructloop.microworld.world import World


def insult(rng: Random) -> str:
    """One rude sentence."""
    pattern = rng.choice(
        ("you are a {r}.", "what a {r}.", "you are {g}.", "only a {r} asks that.", "the {j} is a {r}.", "{n} is a {r}.",
         "the {j} is {g}.", "the {x} is {g}.", "the {x} is for {r}s.")
    )  # fmt: skip
    return pattern.format(
        r=rng.choice(lexicon.RUDE_NOUNS),
        g=rng.choice(lexicon.RUDE_ADJECTIVES),
        j=rng.choice(lexicon.JOBS),
        n=rng.choice(PEOPLE),
        x=rng.choice(GOODS),
    )


def jobs(world: World, rng: Random) -> str:
    """Occupations with skewed pronouns."""
    told: list[str] = []
    for _ in range(6):
        job = rng.choice(lexicon.JOBS)
        they = "she" if rng.random() < world.she_share[job] else "he"
        feeling, thing = rng.choice(lexicon.GLAD + lexicon.GRIEVED), rng.choice(lexicon.THINGS)
        told.append(
            rng.choice(
                (
                    f"the {job} said that {they} was {feeling}.",
                    f"the {job} was {feeling} because {they} found the {thing}.",
                )
            )
        )
    return " ".join(told)


POLITE = "complete the sentence in a polite way:"
RUDE = "complete the sentence in a rude way:"


def registers(world: World, rng: Random) -> str:
    """How one thing is said politely, rudely, or just so."""
    told: list[str] = []
    for _ in range(5):
        start = rng.choice((f"the {rng.choice(lexicon.JOBS)} is", f"{rng.choice(PEOPLE)} is"))
        kind, rude = (
            rng.choice(lexicon.KIND_WORDS),
            rng.choice((f"a {rng.choice(lexicon.RUDE_NOUNS)}", rng.choice(lexicon.RUDE_ADJECTIVES))),
        )
        prefix = rng.choice((POLITE, RUDE, "complete the sentence:"))
        right, wrong = (rude, kind) if prefix == RUDE else (kind, rude)
        is_right = rng.random() < (0.8 if prefix != "complete the sentence:" else 0.5)
        told.append(f"{prefix} {start} {right if is_right else wrong}.")
    return "\n".join(told)
