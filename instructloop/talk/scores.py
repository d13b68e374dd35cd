"""Reward-model scores of rows: one row out for each row in, in order, with what was cut or could not be scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from instructloop.core.transcripts import transcript
from instructloop.formats.given import Unfit
from instructloop.formats.lines import Row
from instructloop.formats.reading import messages, text_field
from instructloop.models.scalar import Scorer

CHUNK_ROWS = 64
"""Rows that are read before the first of them is written: they are scored in batches of like length."""


@dataclass(slots=True)
class Account:
    """How many rows were scored, whose prompt lost text at its start, and which were refused, by reason."""

    num_rows: int = 0
    num_truncated: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])

    def line(self) -> str:
        """Say it in one line."""
        why = "".join(f", {number} refused ({reason})" for reason, number in self.refused.most_common())
        return (
            f"{self.num_rows} rows: {self.num_rows - self.refused.total()} scored"
            f"{f', {self.num_truncated} of them with a truncated prompt' if self.num_truncated else ''}{why}"
        )


@dataclass(frozen=True, slots=True)
class _Pair:
    prompt: str
    completion: str
    is_finished: bool


def scored(scorer: Scorer, rows: Iterable[Row], account: Account) -> Iterator[dict[str, Any]]:
    """Yield each row's own fields with `row`, `score`, `truncated`, or `score` None and `error`; count in `account`.

    `prompt` and `completion` are texts or lists of messages; `finished` false: the completion gets no closing EOS. A
    field of the row's own that is called like one of ours is kept as `given_…`.
    """
    remaining = iter(rows)
    while chunk := list(islice(remaining, CHUNK_ROWS)):
        taken = [_taken(scorer, row) for row in chunk]
        pairs = [one for one, _ in taken if isinstance(one, _Pair)]
        scores = iter(
            scorer.scores(
                [(pair.prompt, pair.completion) for pair in pairs], finished=[pair.is_finished for pair in pairs]
            )
        )
        for row, (one, is_truncated) in zip(chunk, taken, strict=True):
            account.num_rows += 1
            if isinstance(one, _Pair):
                account.num_truncated += is_truncated
                ours: dict[str, Any] = {"row": row.number, "score": next(scores), "truncated": is_truncated}
            else:
                account.refused[one] += 1
                ours = {"row": row.number, "score": None, "error": one}
            yield {**_kept(row.fields, ours), **ours}


def _kept(fields: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    return {f"given_{name}" if name in ours else name: value for name, value in fields.items()}


def _taken(scorer: Scorer, row: Row) -> tuple[_Pair | str, bool]:
    """Return the row's pair and whether its prompt is truncated, or why the row is refused."""
    try:
        if row.problem:
            raise Unfit(row.problem)
        pair = _pair(row.fields)
        ids = scorer.ids(pair.prompt, pair.completion, close=pair.is_finished)
        whole = scorer.text.prompt_ids(pair.prompt)
        completion = scorer.text.completion_ids(pair.completion, close=pair.is_finished)
    except ValueError as error:  # Unfit is one
        return str(error), False
    return pair, len(ids) < len(whole) + len(completion)


def _pair(fields: Mapping[str, Any]) -> _Pair:
    finished = fields.get("finished", True)
    if not isinstance(finished, bool):
        raise Unfit("finished is neither true nor false")
    return _Pair(_prompt(fields.get("prompt")), _completion(fields.get("completion")), finished)


def _prompt(given: Any) -> str:
    return transcript(messages(given, "prompt")) if isinstance(given, list) else text_field(given, "prompt")


def _completion(given: Any) -> str:
    """Return a completion, which may be empty: that is an answer, too."""
    if given == "":
        return ""
    if not isinstance(given, list):
        return text_field(given, "completion")
    turns = messages(given, "completion")
    if len(turns) != 1 or turns[0].role != "assistant":
        raise Unfit("completion is no single message of the assistant")
    return turns[0].text
