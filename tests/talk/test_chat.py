"""Chat: a person at a terminal, two policies side by side, and prompts through a pipe."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from instructloop.models.dialogue import Dialogue, Speaking
from instructloop.models.sampler import Policy
from instructloop.runs import Run
from instructloop.talk import chat
from instructloop.talk.terminal import visible
from tests.tiny import tiny_lm

HOSTILE = "\x1b[2J\x1b]0;title\x07[bold red]x[/]\rover\x9b31m\u202eevil\u2028\x7f\x00"


def tiny_dialogue(name: str = "tiny", seed: int = 5) -> Dialogue:
    model, text = tiny_lm(seed=seed)
    return Dialogue(Policy(name, model, text), Speaking(temperature=1.0, seed=7, max_new_tokens=6))


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> list[str]:
    """Have `input` return these lines, raise where one is an exception; return what is left of them."""
    left = list(lines)

    def read(_: str) -> str:
        line = left.pop(0)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", read)
    return left


def test_nothing_that_controls_a_terminal_is_left_in_a_text():
    assert visible("a\n\tß 👩\u200d👧 [bold]") == "a\n\tß 👩\u200d👧 [bold]"
    assert visible("\x1b[0m\r\x00\x7f") == "␛[0m␍␀␡"
    assert visible("\x9b\u202e\u2028\ud800\U000e0041") == "<U+009B><U+202E><U+2028><U+D800><U+E0041>"


def test_a_hostile_completion_reaches_the_terminal_as_text(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")  # so that no column breaks a line
    one, other = tiny_dialogue("[red]a[/red]"), tiny_dialogue("b")
    for each in (one, other):
        monkeypatch.setattr(each.policy.text, "decode", lambda ids: HOSTILE)
    for dialogues in ([one], [one, other]):
        typed(monkeypatch, "The dog", "/quit")
        chat.talk(dialogues)
        out = capsys.readouterr().out
        assert "".join(re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]", out)) == ""
        assert "[bold red]x[/]" in out
        assert "[red]a[/red]" in out


def test_answers_are_those_of_the_policy_and_commands_are_done(monkeypatch, capsys):
    one = tiny_dialogue()
    first, again = one.policy.generate(["The dog", "The dog"], max_new_tokens=6, temperature=1.0, seed=7)
    other = one.policy.generate(["The dog"], max_new_tokens=6, temperature=1.0, seed=8)[0]
    assert len({first.text, again.text, other.text}) == 3
    typed(monkeypatch, "The dog", "/reset", "The dog", "/seed 8", "The dog", "/seed", "/what", "/help", "", EOFError)
    chat.talk([one])
    out = capsys.readouterr().out
    assert out.count(visible(first.text)) == 2
    assert visible(other.text) in out
    assert "\nseed 8\n" in out
    assert "/what is no command" in out
    assert out.count("/seed N") == 2
    assert len(one.turns) == 2


def test_a_prompt_may_begin_with_a_slash(monkeypatch):
    one = tiny_dialogue()
    typed(monkeypatch, "//reset the dog", "/quit")
    chat.talk([one])
    assert one.turns[0].text == "/reset the dog"


@pytest.mark.parametrize(
    ("lines", "num_left"),
    [
        ([KeyboardInterrupt, KeyboardInterrupt, "never"], 1),
        ([KeyboardInterrupt, "The dog", KeyboardInterrupt, "The dog", "/quit"], 0),
        (["/quit", "never"], 1),
        ([EOFError, "never"], 1),
    ],
)
def test_ctrl_c_ends_when_it_comes_twice(monkeypatch, lines, num_left: int):
    left = typed(monkeypatch, *lines)
    chat.talk([tiny_dialogue()])
    assert len(left) == num_left


def test_ctrl_c_in_an_answer_stops_it_and_once_more_ends(monkeypatch, capsys):
    one = tiny_dialogue()
    say = chat.say

    def interrupted(text: str, end: str = "\n") -> None:
        say(text, end)
        if end == "" and text and len(one.turns) == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(chat, "say", interrupted)
    left = typed(monkeypatch, "The dog", KeyboardInterrupt, "never")
    chat.talk([one])
    assert left == ["never"]
    assert "stopped after 1 tokens" in capsys.readouterr().out


def test_two_policies_answer_side_by_side(monkeypatch, capsys):
    one, other = tiny_dialogue("sft", 5), tiny_dialogue("ppo", 6)
    expected = [each.policy.generate(["x"], max_new_tokens=6, temperature=1.0, seed=7)[0].text for each in (one, other)]
    answers = chat._side_by_side([one, other], "x")
    assert [answer.text for answer in answers] == expected
    assert re.search(r"sft +┃? *│? *ppo", capsys.readouterr().out)
    screen = Console(width=80, record=True)
    screen.print(chat._columns([one, other], ["[b]left[/b]", "right"]))
    assert re.search(r"\[b\]left\[/b\] +│ right", screen.export_text())


def test_a_pipe_gives_one_row_for_each_prompt_whose_history_is_empty(loop: Path, call):
    given = b'The dog\n\n{"prompt": "a\\nb"}\n\xff\n{"prompt": 3}\nThe dog\n'
    arguments = ["best", "--dir", loop, "--json", "--max-new-tokens", "6", "--seed", "7"]
    said = call("chat", *arguments, given=given)
    assert (said.code, said.err) == (0, "5 prompts: 4 answered, 1 refused\n")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["line"] for row in rows] == [1, 3, 4, 5, 6]
    policy = Policy.load(Run.find(loop / "runs", "ppo").file("model"), name="best")
    prompts = ["The dog", "a\nb", '{"prompt": 3}', "The dog"]
    expected = policy.generate(prompts, max_new_tokens=6, temperature=1.0, seed=7)
    answered = [row for row in rows if "error" not in row]
    assert [row["prompt"] for row in answered] == prompts
    assert [row["completion"] for row in answered] == [one.text for one in expected]
    assert [row["finished"] for row in answered] == [one.finished for one in expected]
    assert [row["num_tokens"] for row in answered] == [one.num_tokens for one in expected]
    assert "not UTF-8" in rows[2]["error"]
    assert call("chat", *arguments, given=given).out == said.out


def test_a_pipe_with_two_policies_names_whose_completion_it_is(loop: Path, call):
    rows = call("chat", "sft", "--against", "best", "--dir", loop, "--json", "--max-new-tokens", "4", given=b"x\n").out
    assert [json.loads(row)["policy"] for row in rows.splitlines()] == ["sft", "best"]
    plain = call("chat", "sft", "--against", "best", "--dir", loop, "--max-new-tokens", "4", given=b"x\n").out
    assert plain.startswith("sft: ")
    assert "\nbest: " in plain


def test_what_cannot_be_meant_is_one_line(loop: Path, call):
    said = call("chat", "sft", "--dir", loop, "--max-new-tokens", "128")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "leaves no room for a prompt" in said.err
    assert call("chat", "sft", "--temperature", "-1").code == 2
    assert "no model is called 'nothing'" in call("chat", "nothing").err
