"""A conversation with one policy: its turns, and answers that are heard while they are sampled; nothing is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from instructloop.core.transcripts import Turn
from instructloop.models.lm import context_length
from instructloop.models.sampler import Policy, row_seeds, sample
from instructloop.models.stream import Stream

DEFAULT_NEW_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Speaking:
    """How answers are drawn; `max_new_tokens` None: 256, in a short context half of it."""

    temperature: float
    seed: int
    max_new_tokens: int | None = None
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion; `ended` says by what: a stop token, the budget of tokens, or Ctrl-C."""

    text: str
    ended: str
    num_tokens: int
    num_left_out: int  # turns at the front of the conversation that did not fit the context
    is_cut: bool  # the prompt itself lost text at its start


class Dialogue:
    """What was said to one policy and by it; the same seed and the same prompts give the same answers.

    A policy with a few-shot prefix (paper 3.5) answers each prompt by itself: its examples are of single turns.
    """

    def __init__(self, policy: Policy, speaking: Speaking):
        self.policy = policy
        self.speaking = speaking
        self.limit = context_length(policy.model.config)
        budget = speaking.max_new_tokens
        if budget is None:
            budget = DEFAULT_NEW_TOKENS if self.limit is None else min(DEFAULT_NEW_TOKENS, self.limit // 2)
        if self.limit is not None and budget >= self.limit:
            raise ValueError(
                f"--max-new-tokens {budget} leaves no room for a prompt: the context of {policy.name} is {self.limit}"
            )
        self.max_new_tokens = budget
        self.reset(speaking.seed)

    def reset(self, seed: int) -> None:
        """Begin again: no turns, and the random streams of `seed`."""
        self.seed = seed
        self.turns: list[Turn] = []
        self._num_asked: Counter[str] = Counter()

    def answer(self, prompt: str, hear: Callable[[str], None]) -> Answer:
        """Return the answer and take both into the conversation; `hear` is told its text piece by piece.

        Ctrl-C ends it where it stands. The first answer is that of `Policy.generate` for the same seed.
        """
        text, prefix = self.policy.text, self.policy.prefix
        system = [] if self.speaking.system is None else [Turn("system", self.speaking.system)]
        asked = Turn("user", prefix + prompt)
        room = None if self.limit is None else self.limit - self.max_new_tokens
        fitted = text.conversation_ids([*system, *([] if prefix else self.turns), asked], max_tokens=room)
        stream = Stream(text, stop_newline=bool(prefix))
        seeds = row_seeds(self.seed, [f"{self._num_asked[prompt]}/{prompt}"])
        try:
            samples = sample(
                self.policy.model,
                text,
                [fitted.ids],
                max_new_tokens=self.max_new_tokens,
                temperature=self.speaking.temperature,
                seeds=seeds,
                stop_ids=(*text.stop_ids, *text.newline_ids) if prefix else None,
                on_token=lambda _, token: hear(stream.add(token)),
            )
            ended = "stop token" if bool(samples.finished_B[0]) else "budget"
        except KeyboardInterrupt:
            ended = "Ctrl-C"
        hear(stream.rest())
        self._num_asked[prompt] += 1
        self.turns += [Turn("user", prompt), Turn("assistant", stream.text)]
        return Answer(stream.text, ended, len(stream.ids), fitted.num_left_out, fitted.is_cut)
