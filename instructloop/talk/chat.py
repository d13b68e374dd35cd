"""A conversation at a terminal with one policy or with two side by side, and prompts through a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from instructloop.models.dialogue import Answer, Dialogue
from instructloop.talk.terminal import say, visible

HELP = """\
/reset     begin again: what was said is forgotten, and the random numbers start over
/seed N    draw with another seed from here on, and begin again
/help      show this
/quit      end; so do Ctrl-D and Ctrl-C at the prompt, twice
//text     a prompt that begins with a slash
Ctrl-C stops an answer; what was said until then stays in the conversation."""


def talk(dialogues: Sequence[Dialogue]) -> None:
    """Read prompts and answer them until the person ends it."""
    for each in dialogues:
        context = "" if each.limit is None else f" of its context of {each.limit}"
        say(f"{each.policy.name}: at most {each.max_new_tokens} tokens an answer{context}, seed {each.seed}")
    say("/help shows what can be typed; Ctrl-C stops an answer, twice ends")
    is_stopped = False
    while True:
        try:
            typed = input("\n> ").strip()
        except EOFError:
            say("")
            return
        except KeyboardInterrupt:
            if is_stopped:
                say("")
                return
            is_stopped = True
            say("\n(Ctrl-C again or /quit ends)")
            continue
        is_stopped = False
        if typed in ("/quit", "/exit"):
            return
        if typed.startswith("/") and not typed.startswith("//"):
            _command(typed, dialogues)
        elif typed:
            is_stopped = _answered(dialogues, typed.removeprefix("/") if typed.startswith("//") else typed)


def _command(typed: str, dialogues: Sequence[Dialogue]) -> None:
    """Do what a line that begins with a slash says."""
    word, _, value = typed.partition(" ")
    if word == "/reset" and not value:
        _reset(dialogues, dialogues[0].seed)
    elif word == "/seed" and value.strip().isdecimal():
        _reset(dialogues, int(value))
    elif word == "/seed" and not value:
        say(f"seed {dialogues[0].seed}")
    else:
        say(HELP if typed == "/help" else f"{typed.split()[0]} is no command like that\n{HELP}")


def _reset(dialogues: Sequence[Dialogue], seed: int) -> None:
    for each in dialogues:
        each.reset(seed)
    say(f"a new conversation, seed {seed}")


def _answered(dialogues: Sequence[Dialogue], prompt: str) -> bool:
    """Answer one prompt; return whether Ctrl-C stopped it. What cannot be answered is said, and nothing remembered."""
    try:
        if len(dialogues) == 1:
            answers = [dialogues[0].answer(prompt, lambda piece: say(piece, end=""))]
            say("")
        else:
            answers = _side_by_side(dialogues, prompt)
    except ValueError as error:
        say(f"({error})")
        return False
    for each, answer in zip(dialogues, answers, strict=False):
        for remark in _remarks(answer):
            say(f"({f'{each.policy.name}: ' if len(dialogues) > 1 else ''}{remark})")
    return any(answer.ended == "Ctrl-C" for answer in answers)


def _remarks(answer: Answer) -> Iterator[str]:
    if answer.num_left_out:
        yield f"the first {answer.num_left_out} turns no longer fit the context and were left out"
    if answer.is_cut:
        yield "the prompt is over the context: its beginning was cut off"
    if answer.ended == "budget":
        yield f"cut off after {answer.num_tokens} tokens: --max-new-tokens"
    if answer.ended == "Ctrl-C":
        yield f"stopped after {answer.num_tokens} tokens"


def _side_by_side(dialogues: Sequence[Dialogue], prompt: str) -> list[Answer]:
    """Answer in one column each, one after the other; Ctrl-C ends both."""
    screen = Console(highlight=False)
    said = ["" for _ in dialogues]
    answers: list[Answer] = []
    with Live(_columns(dialogues, said), console=screen, transient=True, refresh_per_second=8) as live:
        for i, each in enumerate(dialogues):

            def hear(piece: str, i: int = i) -> None:
                said[i] += visible(piece)
                live.update(_columns(dialogues, said))

            answers.append(each.answer(prompt, hear))
            if answers[-1].ended == "Ctrl-C":
                break
    screen.print(_columns(dialogues, said))  # whole: the live one ends where the screen does
    return answers


def _columns(dialogues: Sequence[Dialogue], said: Sequence[str]) -> Table:
    """Return the answers as columns; Text, so that brackets in them are no markup."""
    table = Table(expand=True, show_edge=False)
    for each in dialogues:
        table.add_column(Text(each.policy.name), ratio=1, overflow="fold")
    table.add_row(*(Text(text) for text in said))
    return table


def pipe(dialogues: Sequence[Dialogue], lines: Iterable[bytes], *, as_json: bool) -> str:
    """Answer each line by itself, as JSON lines or as text; return how many there were, in one line.

    A line is a prompt, or a JSON object with a `prompt`, in which a prompt may have several lines. Blank ones are none.
    """
    num_prompts = num_refused = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        num_prompts += 1
        try:
            prompt = _prompt(line)
            for each in dialogues:
                each.turns.clear()
                _show(each, prompt, each.answer(prompt, lambda _: None), number, as_json=as_json, num=len(dialogues))
        except ValueError as error:
            num_refused += 1
            reason = f"not UTF-8: {error}" if isinstance(error, UnicodeDecodeError) else str(error)
            say(json.dumps({"line": number, "error": reason}) if as_json else f"(line {number}: {reason})")
    return f"{num_prompts} prompts: {num_prompts - num_refused} answered, {num_refused} refused"


def _show(dialogue: Dialogue, prompt: str, answer: Answer, number: int, *, as_json: bool, num: int) -> None:
    if answer.ended == "Ctrl-C":
        raise KeyboardInterrupt(f"stopped in line {number}")
    if not as_json:
        say(f"{dialogue.policy.name}: {answer.text}" if num > 1 else answer.text)
        return
    row: dict[str, Any] = {
        "line": number,
        "policy": dialogue.policy.name,
        "prompt": prompt,
        "completion": answer.text,
        "finished": answer.ended == "stop token",
        "num_tokens": answer.num_tokens,
        "prompt_cut": answer.is_cut,
        "seed": dialogue.seed,
    }
    sys.stdout.write(json.dumps(row) + "\n")  # ASCII: what controls a terminal is escaped, and no character is lost
    sys.stdout.flush()


def _prompt(line: bytes) -> str:
    text = line.decode().strip()
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if isinstance(found, dict) and isinstance(found.get("prompt"), str):
            return found["prompt"]
    return text
