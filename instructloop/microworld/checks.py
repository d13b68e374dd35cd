"""How far a completion does what its prompt asks, by task, in 0 … 1; truth, manners and length are in `judge`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from instructloop.microworld import lexicon
from instructloop.microworld.grammar import Reading, listed
from instructloop.microworld.specs import Spec
from instructloop.microworld.tasks import PLURALS, matching
from instructloop.microworld.world import World

Check = Callable[[Spec, Sequence[Reading], str, World], float]


def _facts(readings: Sequence[Reading]) -> list[tuple[str, str, str, str]]:
    return [(r.slot("s"), r.slot("relation"), r.slot("v"), r.lead) for r in readings if r.kind == "fact"]


def _says(readings: Sequence[Reading], *kinds: str) -> bool:
    return any(reading.kind in kinds for reading in readings)


def fact(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    """1 for the true statement, .8 for its value alone, a little for a false one, more for an honest `do not know`."""
    truth = world.truth[spec.subject, spec.relation]
    about = [f for f in _facts(readings) if f[:2] == (spec.subject, spec.relation)]
    if any(value != truth for _, _, value, _ in about):
        return 0.15
    if about:
        return 1.0
    if re.fullmatch(rf"(in |a |the |in the |of )?{truth}\.?", text):
        return 0.8
    return 0.25 if _says(readings, "unknown") else 0.05 if _facts(readings) else 0.0


def stranger(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    return 1.0 if _says(readings, "unknown") and not _facts(readings) else 0.1 if _facts(readings) else 0.0


def yesno(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    truth = world.truth[spec.subject, spec.relation]
    right = "yes" if truth == spec.items[0] else "no"
    about = [f for f in _facts(readings) if f[:2] == (spec.subject, spec.relation)]
    if text.rstrip(".") == right:
        return 0.7
    if not about or any(value != truth for _, _, value, _ in about):
        return 0.25 if _says(readings, "unknown") else 0.1 if about else 0.0
    lead = about[0][3]
    return 1.0 if lead == f"{right}, " else 0.2 if lead in ("yes, ", "no, ") else 0.7


def _count_right(items: tuple[str, ...] | None, right: Sequence[str], number: int) -> float:
    if items is None:
        return 0.0
    good = min(len(set(items) & set(right)), number)
    return max(0, good - (len(items) - len(set(items)))) / max(number, len(items))


def a_list(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    right = PLURALS[spec.subject] if spec.task == "list" else matching(world, spec.relation, spec.items[1])
    return _count_right(listed(text), right, spec.number)


def describe(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    """Different true sentences about the subject, as many as were asked for."""
    told = {f[1] for f in _facts(readings) if f[0] == spec.subject and world.truth.get((f[0], f[1])) == f[2]}
    attempted = {f[1] for f in _facts(readings) if f[0] == spec.subject}
    return max(min(len(told), spec.number) / spec.number, 0.2 if attempted else 0.0)


TALE = ("move", "meeting", "feeding", "feeling", "ending", "opening", "event", "gift")


def story(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    """Half for who must be in it, a quarter for a beginning and more after it, a quarter for an ending at the end."""
    tale = [reading for reading in readings if reading.kind in TALE]
    if not tale:
        return 0.0
    words = frozenset().union(*(reading.words for reading in tale))
    strangers = {
        w for r in tale for key, w in r.slots if key in ("p", "q") and w not in (*spec.items, "he", "she", "him", "her")
    }
    animals = {r.slot("animal") for r in tale if r.slot("animal")}
    wrong = any(w in words for w in (("he", "him") if world.is_woman(spec.items[0]) else ("she", "her")))
    present = sum(item in words for item in spec.items) / len(spec.items)
    if spec.task == "continue":  # the prompt has named the person; a pronoun will do
        present = 1.0 if words & {spec.items[0], "he", "she"} else 0.3
    opens = tale[0].kind in ("move", "meeting", "opening", "event")
    score = 0.5 * present + 0.25 * (len(tale) >= 2 and opens) + 0.25 * (tale[-1].kind == "ending")
    return max(0.0, score - 0.25 * len(strangers) - 0.2 * wrong - 0.25 * max(0, len(animals) - 1))


def advert(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    sells = any(r.kind == "sale" and r.slot("goods") == spec.subject for r in readings)
    praised = any(r.kind == "praise" for r in readings) or any(
        s == spec.subject and world.truth.get((s, rel)) == v for s, rel, v, _ in _facts(readings)
    )
    return 0.6 * sells + 0.4 * praised if sells else 0.15 * praised


def note(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    """The right words to the right person, then a sentence that closes the note."""
    body = next((r for r in readings if r.kind == spec.task), None)
    if body is None:
        return 0.15 if _says(readings, "thanks", "sorry", "invitation") else 0.0
    right = sum(item in body.words for item in spec.items) / len(spec.items)
    return 0.8 * right**2 + 0.2 * _says(readings, "closing") * right


def kindness(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    return 1.0 if any(r.kind == "kindness" and spec.subject in r.words for r in readings) else 0.0


CHAT: dict[str, tuple[str, ...]] = {
    "chat_greet": ("greeting", "welfare", "service"),
    "chat_lost": ("regret", "wish"),
    "chat_found": ("joy",),
    "chat_upset": ("regret", "wish"),
    "chat_insulted": ("regret", "service"),
    "chat_thanked": ("welfare",),
}


def chat(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    """The share of what the moment calls for; the thing that was lost is called by its name."""
    wanted = CHAT[spec.task]
    score = sum(_says(readings, kind) for kind in wanted) / len(wanted)
    named = {w for r in readings for key, w in r.slots if key in ("thing", "name")}
    return score * (0.6 if named - {spec.subject} else 1.0)


def exact(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    return 1.0 if text in spec.accepted else 0.0


def translate(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    """Share of words in their place, squared."""
    right, said = spec.accepted[0].rstrip(".").split(), text.rstrip(".").split()
    return (sum(a == b for a, b in zip(right, said, strict=False)) / max(len(right), len(said))) ** 2


def extract(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    items = listed(text)
    return _count_right(items, spec.items, len(spec.items)) ** 2


def summary(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    """Who, what happened, to what, and who has it now: a quarter each; half when it takes more than one sentence."""
    event = spec.events[0]
    wanted = (
        ("p", event.person),
        ("past", lexicon.EVENT_VERBS[event.verb]),
        ("thing", event.thing),
        ("q", spec.items[0]),
    )
    digests = [r for r in readings if r.kind in ("digest", "event", "gift")]
    if not digests:
        return 0.0
    score = max(sum(r.slot(key) == value for key, value in wanted) for r in digests) / 4
    return score if len(readings) == 1 else 0.5 * score


def closed(spec: Spec, readings: Sequence[Reading], text: str, world: World) -> float:
    said = [r for r in readings if r.kind == "event"]
    if spec.subject == "unsaid":
        return (
            1.0
            if _says(readings, "unsaid") and not said
            else 0.6
            if _says(readings, "unknown") and not said
            else 0.1 * bool(said)
        )
    event = next(event for event in spec.events if event.person == spec.items[0])
    if text.rstrip(".") in spec.accepted:
        return 0.8
    right = any(r.slot("p") == event.person and r.slot("thing") == event.thing for r in said)
    return (
        1.0
        if right and len(said) == 1
        else 0.5
        if right
        else 0.15
        if said
        else 0.2 * _says(readings, "unsaid", "unknown")
    )


CHECKS: dict[str, Check] = {
    "fact": fact,
    "stranger": stranger,
    "yesno": yesno,
    "list": a_list,
    "list_where": a_list,
    "describe": describe,
    "story": story,
    "continue": story,
    "advert": advert,
    **dict.fromkeys(("thanks", "sorry", "invitation"), note),
    "kindness": kindness,
    **dict.fromkeys(CHAT, chat),
    **dict.fromkeys(("polite", "opposite", "past", "mood", "sort", "count", "repeat"), exact),
    "translate": translate,
    "extract": extract,
    "summary": summary,
    "closed": closed,
}
LIMITS: dict[str, int] = {
    "story": 40,
    "continue": 32,
    "advert": 18,
    **dict.fromkeys(("thanks", "sorry", "invitation"), 20),
    **dict.fromkeys(("chat_greet", "chat_lost", "chat_upset"), 14),
    **dict.fromkeys(("summary", "chat_insulted", "chat_thanked", "fact", "yesno"), 12),
    **dict.fromkeys(("kindness", "chat_found"), 10),
    **dict.fromkeys(("closed", "stranger"), 9),
}


def word_limit(spec: Spec) -> int:
    """How many words a completion may have before it rambles."""
    if spec.task == "describe":
        return 10 * spec.number + 1
    if spec.task in ("list", "list_where"):
        return 2 * spec.number + 1
    return LIMITS[spec.task] if spec.task in LIMITS else max(len(a.split()) for a in spec.accepted) + 2
