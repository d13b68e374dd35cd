"""Text and token ids: chat templates, truncation, end of text, and the masks, which are born here with the tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int
from jinja2 import TemplateError
from torch import Tensor

from instructloop.core.transcripts import Turn

PLAIN_TEMPLATE = "{% for m in messages %}{{ m.content }}{{ '\\n' if m.role != 'assistant' else eos_token }}{% endfor %}"
"""For tokenizers that bring no chat template: the prompt and a newline, then the completion and EOS."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A conversation as ids, with what was left out of it to fit: turns at its front, text of its last turn."""

    ids: list[int]
    num_left_out: int
    is_cut: bool


class Text:
    """A tokenizer with its rules: how a prompt and a completion become ids, and ids text.

    `eos_id` closes every completion that training sees; `stop_ids`, `eos_id` among them, end sampling. A tokenizer
    without a chat template gets PLAIN_TEMPLATE, which is saved with the model, so that others format prompts alike.
    """

    def __init__(self, tokenizer: Any, stop_ids: Sequence[int] = ()):
        if tokenizer.eos_token_id is None:
            raise ValueError("the tokenizer has no eos_token: a completion could never end")
        found = tokenizer.encode(tokenizer.eos_token, add_special_tokens=False)
        if found != [tokenizer.eos_token_id]:
            raise ValueError(f"the tokenizer reads its eos_token {tokenizer.eos_token!r} as {found}, not as one id")
        self.tokenizer = tokenizer  # transformers' fast tokenizer; its annotations are too wide to be of use
        self.bos_id = _used_bos_id(tokenizer)
        if tokenizer.chat_template is None:
            tokenizer.chat_template = ("{{ bos_token }}" if self.bos_id is not None else "") + PLAIN_TEMPLATE
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token  # harmless: masks are never read off ids
        self.pad_id: int = tokenizer.convert_tokens_to_ids(tokenizer.pad_token)
        stops = {tokenizer.eos_token_id, *stop_ids}
        self.eos_id: int = self._closing_id(stops)
        self.stop_ids: tuple[int, ...] = tuple(sorted(stops))

    def prompt_ids(self, prompt: str, *, before: Sequence[Turn] = (), max_tokens: int | None = None) -> list[int]:
        """Return the ids of a prompt, template and generation prefix included, with exactly one BOS where BOS is used.

        A prompt over `max_tokens` loses text at its start: whole lines if that is enough, else words, else characters;
        turns that stand `before` it stay.
        """
        ids = self._templated(prompt, before)
        if max_tokens is None or len(ids) <= max_tokens:
            return ids
        if len(self._templated("", before)) > max_tokens:
            what = "the chat template alone" if not before else "the prompt after what stands before it"
            raise ValueError(f"max_tokens {max_tokens} leaves no room for {what}")
        for boundary in ("\n", " ", ""):
            kept = _shortest_cut(prompt, boundary, lambda rest: len(self._templated(rest, before)) <= max_tokens)
            if kept:
                return self._templated(kept, before)
        return self._templated("", before)

    def conversation_ids(self, turns: Sequence[Turn], *, max_tokens: int | None = None) -> Fitted:
        """Return a conversation that ends with the user, as `prompt_ids` has a single turn of theirs.

        Over `max_tokens` the oldest exchanges go, a system turn at the front never; then text of the last turn. What
        an assistant's turn spells like a special token stays text.
        """
        *rest, last = [self._as_text(turn) for turn in turns]
        system = [turn for turn in rest[:1] if turn.role == "system"]
        del rest[: len(system)]
        num_turns = len(rest)
        if max_tokens is not None:
            while rest and len(self._templated(last.text, [*system, *rest])) > max_tokens:
                next_user = (i for i, turn in enumerate(rest) if i and turn.role == "user")
                del rest[: next(next_user, len(rest))]
        before = [*system, *rest]
        ids = self.prompt_ids(last.text, before=before, max_tokens=max_tokens)
        return Fitted(ids, num_turns - len(rest), ids != self._templated(last.text, before))

    def completion_ids(self, text: str, *, close: bool = True) -> list[int]:
        """Return the ids of a completion, with the closing EOS unless `close` is False (a truncated sample).

        The text of a special token inside it stays text: EOS stands at the end or nowhere.
        """
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [*ids, self.eos_id] if close else ids

    def document_ids(self, text: str, *, close: bool = True) -> list[int]:
        """Return the ids of raw text (pretraining, scoring by likelihood): BOS where it is used, no template, EOS."""
        return [*([] if self.bos_id is None else [self.bos_id]), *self.completion_ids(text, close=close)]

    def context_ids(self, text: str) -> list[int]:
        """Return the ids of raw text to be continued; empty text is the end of another document (EOS, or BOS)."""
        return self.document_ids(text, close=False) or [self.eos_id]

    @cached_property
    def newline_ids(self) -> tuple[int, ...]:
        """Every id whose text holds a newline."""
        texts = self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))])
        return tuple(token for token, text in enumerate(texts) if "\n" in text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of sampled ids up to the first stop id; special tokens are left out."""
        end = next((i for i, token in enumerate(ids) if token in self.stop_ids), len(ids))
        return self.tokenizer.decode(list(ids[:end]), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def pad_left_right(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"], Bool[Tensor, "B C"]]:
        """Return tokens_BT, attention_BT, mask_BC: prompts padded on the left, completions on the right (T = P + C).

        mask_BC is True on the completion's own tokens, its EOS among them; an empty completion is all False.
        """
        if len(prompts) != len(completions):
            raise ValueError(f"{len(prompts)} prompts for {len(completions)} completions")
        if not all(prompts):
            raise ValueError("an empty prompt: the first completion token would have nothing to be predicted from")
        left_BP, left_mask_BP = self.pad_left(prompts)
        right_BC, mask_BC = self.pad_right(completions)
        return torch.cat([left_BP, right_BC], 1), torch.cat([left_mask_BP, mask_BC], 1), mask_BC

    def pad_left(self, rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Return tokens_BT and attention_BT with the rows at the right edge."""
        tokens_BT, mask_BT = self.pad_right([row[::-1] for row in rows])
        return tokens_BT.flip(1), mask_BT.flip(1)

    def pad_right(self, rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "B T"], Bool[Tensor, "B T"]]:
        """Return tokens_BT and attention_BT with the rows at the left edge."""
        length = max((len(row) for row in rows), default=0)
        padded = [[*row, *[self.pad_id] * (length - len(row))] for row in rows]
        lengths_B = torch.tensor([len(row) for row in rows], dtype=torch.long)
        tokens_BT = torch.tensor(padded, dtype=torch.long).reshape(len(rows), length)
        return tokens_BT, torch.arange(length) < lengths_B[:, None]

    def require_same_ids(self, other: Text) -> None:
        """Raise ValueError unless both give every token the same id, so that one's ids may be fed to the other's model.

        A pad token that only one of them has is no difference: it stands under no mask.
        """
        own, others = self.tokenizer.get_vocab(), other.tokenizer.get_vocab()
        pads = {self.tokenizer.pad_token, other.tokenizer.pad_token}
        differing = sorted(token for token, _ in own.items() ^ others.items() if token not in pads)
        if differing or self.eos_id != other.eos_id:
            raise ValueError(
                f"the two models use different tokenizers ({len(differing)} tokens differ, first {differing[:3]}; "
                f"EOS {self.eos_id} and {other.eos_id}): score text instead of ids"
            )

    @cached_property
    def _special(self) -> tuple[str, ...]:
        """The spellings of special tokens, longest first."""
        added = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        return tuple(sorted({*added, *self.tokenizer.all_special_tokens}, key=len, reverse=True))

    def _as_text(self, turn: Turn) -> Turn:
        """Return an assistant's turn with a blank inside what would be read as a special token; others as they are."""
        said = turn.text
        for token in self._special if turn.role == "assistant" else ():
            said = said.replace(token, f"{token[:1]} {token[1:]}")
        return Turn(turn.role, said)

    def _templated(self, prompt: str, before: Sequence[Turn] = ()) -> list[int]:
        rendered = self._rendered([*before, Turn("user", prompt)], add_generation_prompt=True)
        ids: list[int] = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        if self.bos_id is None:
            return ids
        if ids[:2] == [self.bos_id, self.bos_id]:
            raise ValueError("the chat template begins with BOS twice")
        return ids if ids[:1] == [self.bos_id] else [self.bos_id, *ids]

    def _rendered(self, turns: Sequence[Turn], *, add_generation_prompt: bool) -> str:
        """Return turns as the chat template writes them; ValueError where it cannot."""
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        try:
            return self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in turns)
            raise ValueError(f"the model's chat template cannot write {roles}: {error}") from error

    def _closing_id(self, stops: set[int]) -> int:
        """Return the stop id with which the chat template closes an assistant's turn, else the tokenizer's EOS."""
        rendered = self._rendered([Turn("user", "a"), Turn("assistant", "b")], add_generation_prompt=False)
        ids = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        closing = ids[len(self._templated("a")) :]
        return next((token for token in closing if token in stops), self.tokenizer.eos_token_id)


def length_sorted_batches(lengths: Sequence[int], *, max_tokens: int) -> Iterator[list[int]]:
    """Yield batches of indices, rows of like length together, longest first, each at most `max_tokens` when padded.

    A row longer than `max_tokens` comes alone. Every index comes exactly once.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens {max_tokens} must be at least 1")
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _used_bos_id(tokenizer: Any) -> int | None:
    """Return the BOS id if the tokenizer itself puts it before a text; a BOS that is merely named is not used."""
    bos_id = tokenizer.bos_token_id
    return bos_id if bos_id is not None and tokenizer.encode("a")[:1] == [bos_id] else None


def _shortest_cut(text: str, boundary: str, fits: Callable[[str], bool]) -> str:
    """Return the longest rest of `text` that begins after a `boundary` and fits; "" if none does."""
    if boundary:
        starts = [i + 1 for i, character in enumerate(text) if character == boundary]
    else:
        starts = list(range(1, len(text)))
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(text[starts[middle] :]) else (middle + 1, high)
    return text[starts[low] :] if low < len(starts) else ""
