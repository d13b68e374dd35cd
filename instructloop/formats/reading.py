"""From the fields of a row to what people gave, shape by shape; a row that cannot be taken is Unfit, with a reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from instructloop.core.records import CATEGORIES, Category
from instructloop.core.transcripts import Role, Turn, last_turn, transcript, turns_of
from instructloop.formats.given import (
    Given,
    GivenCompletion,
    GivenDemonstration,
    GivenPrompt,
    GivenRanking,
    GivenText,
    Kind,
    Unfit,
    in_tiers,
)
from instructloop.formats.shapes import BLANK_PROMPT

MAX_CHARACTERS = 1_000_000  # of a prompt or completion: more is a file in a cell, which no model and no person reads
Fields = dict[str, Any]
ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}


def given(kind: Kind, shape: str, fields: Mapping[str, Any], *, prompt: str | None = None) -> Given:
    """Return what a row of this shape says; `prompt` stands in where the row's own is blank. Unfit says why not."""
    rest = {name: value for name, value in fields.items() if value is not None}
    if prompt is not None and "prompt" in fields and not str(rest.get("prompt", "")).strip():
        rest["prompt"] = prompt
    return _READERS[kind, shape](rest)


def text_field(value: Any, name: str, *, limit: int | None = MAX_CHARACTERS) -> str:
    """Return a value as text that every store and file keeps byte for byte; Unfit names the field and the rule."""
    if value is None:
        raise Unfit(f"{name} is missing")
    if not isinstance(value, str):
        raise Unfit(f"{name} is no text")
    if not value.strip():
        raise Unfit(BLANK_PROMPT if name == "prompt" else f"{name} is blank")
    if limit is not None and len(value) > limit:
        raise Unfit(f"{name} is longer than {limit:,} characters")
    if "\x00" in value:
        raise Unfit(f"{name} holds a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unfit(f"{name} is not valid Unicode") from None
    return value


def messages(value: Any, name: str) -> tuple[Turn, ...]:
    """Return a list of messages as turns; their words may be `role` and `content`, `from` and `value` or `text`."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise Unfit(f"{name} is no list of messages")
    turns: list[Turn] = []
    for one in cast(Sequence[Any], value):
        if not isinstance(one, Mapping):
            raise Unfit(f"{name} is no list of messages")
        role = one.get("role", one.get("from"))
        said = next((one[word] for word in ("content", "text", "value") if one.get(word) is not None), None)
        if not isinstance(role, str) or role not in ROLES:
            raise Unfit(f"{name}: a role is none of {', '.join(ROLES)}")
        if one.get("tool_calls") or not isinstance(said, str):
            raise Unfit(f"{name}: the content of a message is no text")
        turns.append(Turn(ROLES[role], said))
    return tuple(turns)


def prompt_text(value: Any, name: str = "prompt") -> str:
    """Return a prompt, text or messages, as the one text that stands for it; the same conversation is the same text."""
    if value is None or isinstance(value, str):
        text = transcript(turns_of(text_field(value, name)))
    else:
        turns = messages(value, name)
        text = transcript(turns)
        if turns_of(text) != turns:
            raise Unfit(f"{name}: a message holds the mark of another speaker")
    return text_field(text, name)


def completion_text(value: Any, name: str) -> str:
    """Return a completion: a text, or the one message of the assistant in a list."""
    if value is None or isinstance(value, str):
        return text_field(value, name)
    turns = messages(value, name)
    if len(turns) != 1 or turns[0].role != "assistant":
        raise Unfit(f"{name} is not one message of the assistant")
    return text_field(turns[0].text, name)


def number(value: Any, name: str) -> float:
    """Return a finite number, also one that a CSV file holds as text."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise Unfit(f"{name} is no number")
    return found


def _text(rest: Fields) -> GivenText:
    return GivenText(text_field(rest.pop("text", None), "text", limit=None), rest)


def _prompt(rest: Fields, text: str) -> GivenPrompt:
    """Return a prompt with what the row says of it; a category that is not ours stays beside."""
    user = _name(rest, "user")
    known = rest.get("category") in CATEGORIES
    category = cast(Category, rest.pop("category")) if known else None
    return GivenPrompt(text, user, category, rest)


def _name(rest: Fields, field: str) -> str | None:
    """Return who a field names, a number as its digits; None when it is not there."""
    value = rest.pop(field, None)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unfit(f"{field} is no name")
    return text_field(str(value), field, limit=200)


def _lone_prompt(rest: Fields) -> GivenPrompt:
    return _prompt(rest, prompt_text(rest.pop("prompt", None)))


def _prompt_completion(rest: Fields) -> GivenDemonstration:
    labeler = _name(rest, "labeler")
    text = prompt_text(rest.pop("prompt", None))
    completion = completion_text(rest.pop("completion", None), "completion")
    return GivenDemonstration(_prompt(rest, text), completion, labeler)


def _messages(rest: Fields) -> GivenDemonstration:
    """Return a conversation as its last turn, which must be the assistant's, after all before it."""
    turns = messages(rest.pop("messages", None), "messages")
    if turns[-1].role != "assistant":
        raise Unfit("messages do not end with the assistant")
    if len(turns) < 2:
        raise Unfit("messages hold no prompt")
    before = [{"role": turn.role, "content": turn.text} for turn in turns[:-1]]
    return _prompt_completion({**rest, "prompt": before, "completion": turns[-1].text})


def _pairs(rest: Fields) -> GivenRanking:
    """Return the completion chosen over the one rejected; `chosen_policy` and the like say something of one of them."""
    labeler = _name(rest, "labeler")
    text = prompt_text(rest.pop("prompt", None))
    pair: list[GivenCompletion] = []
    for name in ("chosen", "rejected"):
        own = [field for field in rest if field.startswith(f"{name}_")]
        pair.append(_completion(rest.pop(name, None), {f.removeprefix(f"{name}_"): rest.pop(f) for f in own}, name))
    return GivenRanking(_prompt(rest, text), in_tiers(pair, (1, 0)), labeler)


def _hh(rest: Fields) -> GivenRanking:
    """Return a pair whose prompt is what `chosen` and `rejected` share up to the assistant's last turn."""
    split = [_split(rest.get(name), name) for name in ("chosen", "rejected")]
    if split[0][0] != split[1][0]:
        raise Unfit("chosen and rejected differ before their last turn")
    return _pairs({**rest, "prompt": split[0][0], "chosen": split[0][1], "rejected": split[1][1]})


def _split(value: Any, name: str) -> tuple[Any, str]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        turns = messages(value, name)
        if len(turns) < 2 or turns[-1].role != "assistant":
            raise Unfit(f"{name} does not end with what the assistant said to a prompt")
        return prompt_text([{"role": turn.role, "content": turn.text} for turn in turns[:-1]], name), turns[-1].text
    found = last_turn(text_field(value, name))
    if found is None:
        raise Unfit(f"{name} does not end with what the assistant said to a prompt")
    return found


def _kwise(rest: Fields) -> GivenRanking:
    labeler = _name(rest, "labeler")
    text = prompt_text(rest.pop("prompt", None))
    items = _list(rest.pop("completions", None), "completions")
    ranks: list[float] = []
    completions: list[GivenCompletion] = []
    for item in items:
        if not isinstance(item, Mapping):
            raise Unfit("completions hold something without rank and completion")
        fields = {str(name): value for name, value in cast(Mapping[Any, Any], item).items() if value is not None}
        ranks.append(-number(fields.pop("rank", None), "rank"))
        completions.append(_completion(fields.pop("completion", None), fields))
    return GivenRanking(_prompt(rest, text), in_tiers(completions, ranks), labeler)


def _completion(value: Any, fields: Fields, name: str = "completion") -> GivenCompletion:
    """Return a completion with the fields that say something of it; a rating on another scale stays beside."""
    rating = fields.get("rating")
    whole = isinstance(rating, int) and not isinstance(rating, bool) and 1 <= rating <= 7
    if whole:
        del fields["rating"]
    policy = _name(fields, "policy")
    return GivenCompletion(completion_text(value, name), policy, rating if whole else None, fields)


def _ranked(rest: Fields) -> GivenRanking:
    """Return texts that stand best first; `votes` beside them, more being better, may tie them.

    Any other list of the same length says something of each completion and goes along with it.
    """
    labeler = _name(rest, "labeler")
    text = prompt_text(rest.pop("prompt", None))
    items = _list(rest.pop("ranked", None), "ranked")
    columns = {k: v for k, v in rest.items() if isinstance(v, list) and len(cast(list[Any], v)) == len(items)}
    if "votes" in rest and "votes" not in columns:
        raise Unfit("votes are not as many as the completions")
    worth = [number(one, "votes") for one in columns["votes"]] if "votes" in columns else [*range(len(items), 0, -1)]
    completions = [
        _completion(one, {name: column[place] for name, column in columns.items()}) for place, one in enumerate(items)
    ]
    kept = {name: value for name, value in rest.items() if name not in columns}
    return GivenRanking(_prompt(kept, text), in_tiers(completions, worth), labeler)


def _votes(rest: Fields) -> GivenRanking:
    """Return two completions in the order of most votes; as many for both are a tie, none at all no ranking."""
    labeler = _name(rest, "labeler")
    text = prompt_text(rest.pop("prompt", None))
    votes = [number(rest.pop(name, None), name) for name in ("votes_a", "votes_b")]
    if not any(votes):
        raise Unfit("nobody voted")
    pair = [
        GivenCompletion(completion_text(rest.pop(name, None), name), _name(rest, f"policy_{name}"), None, {"votes": n})
        for name, n in zip(("a", "b"), (int(n) if n.is_integer() else n for n in votes), strict=True)
    ]
    return GivenRanking(_prompt(rest, text), in_tiers(pair, votes), labeler)


def _judgements(rest: Fields) -> GivenRanking:
    """Return a row of a frozen `rankings.jsonl`: ids give way to texts, flags and the order shown stay beside."""
    labeler = _name(rest, "labeler")
    text = prompt_text(rest.pop("prompt", None))
    items = _list(rest.pop("completions", None), "completions")
    tiers = [_list(tier, "tiers") for tier in _list(rest.pop("tiers", None), "tiers")]
    ids = [str(one.get("id")) if isinstance(one, Mapping) else "" for one in items]
    place = {str(key): -i for i, tier in enumerate(tiers) for key in tier}
    if sorted(ids) != sorted(str(key) for tier in tiers for key in tier) or len(place) < len(items):
        raise Unfit("tiers do not cover the completions, each once")
    ratings, flags = (_mapping(rest.pop(name, {}), name) for name in ("ratings", "flags"))
    shown = _list(rest.pop("shown", []), "shown")
    completions: list[GivenCompletion] = []
    for key, one in zip(ids, items, strict=True):
        answered = {flag: yes for flag, yes in _mapping(flags.get(key) or {}, "flags").items() if yes is not None}
        fields = {
            "policy": None if one.get("policy") == "unknown" else one.get("policy"),
            "rating": ratings.get(key),
            "flags": answered or None,
            "shown": shown.index(key) if key in shown else None,
        }
        completions.append(_completion(one.get("text"), {k: v for k, v in fields.items() if v is not None}))
    return GivenRanking(_prompt(rest, text), in_tiers(completions, [place[key] for key in ids]), labeler)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise Unfit(f"{name} is missing" if value is None else f"{name} is no list")
    return cast(list[Any], value)


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Unfit(f"{name} is no mapping")
    return cast(Mapping[str, Any], value)


_READERS: dict[tuple[Kind, str], Callable[[Fields], Given]] = {
    ("text", "text"): _text,
    ("prompts", "prompt"): _lone_prompt,
    ("demonstrations", "prompt_completion"): _prompt_completion,
    ("demonstrations", "messages"): _messages,
    ("rankings", "pairs"): _pairs,
    ("rankings", "hh"): _hh,
    ("rankings", "kwise"): _kwise,
    ("rankings", "ranked"): _ranked,
    ("rankings", "votes"): _votes,
    ("rankings", "judgements"): _judgements,
}
