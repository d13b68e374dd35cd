"""What a person sees: bars in a terminal, plain lines elsewhere, and the same interface for both."""

import io

import pytest

from instructloop.console import Plain, Quiet, Terminal, duration, open_console


class Clock:
    """A clock that tests set."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plain(every_seconds: float = 10.0) -> tuple[Plain, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    return Plain(stream, every_seconds=every_seconds, clock=clock), stream, clock


def test_a_plain_line_says_done_total_speed_time_left_and_fields():
    console, stream, clock = plain()
    with console.track(1000, "sft") as track:
        clock.now += 5
        track.advance(100, loss=2.5)
        assert stream.getvalue() == ""  # not yet ten seconds
        clock.now += 5
        track.advance(100, loss=2.25)  # 200 in 10 s: 20 a second, 800 left: 40 s
    assert stream.getvalue() == "  sft: 200 of 1,000 tokens, 20 tokens/s, 40.0 s left, loss 2.25\n"


def test_an_unknown_total_shows_no_time_left():
    console, stream, clock = plain(every_seconds=0)
    track = console.track(None, "reading", unit="rows")
    clock.now += 2
    track.advance(3)
    assert stream.getvalue() == "  reading: 3 rows, 1.5 rows/s\n"


def test_a_step_says_how_it_began_and_ended():
    console, stream, clock = plain()
    with console.step("reward", "412 rankings"):
        clock.now += 61
    assert stream.getvalue().splitlines() == ["reward: 412 rankings", "reward: done in 1 min 01 s"]


@pytest.mark.parametrize(
    ("error", "word"), [(KeyboardInterrupt, "stopped"), (GeneratorExit, "stopped"), (ValueError, "failed")]
)
def test_a_step_that_ends_early_says_so_and_passes_the_error_on(error: type[BaseException], word: str):
    console, stream, clock = plain()

    def body() -> None:
        with console.step("ppo"):
            clock.now += 2
            raise error

    with pytest.raises(error):
        body()
    assert stream.getvalue().splitlines()[-1] == f"ppo: {word} after 2.0 s"


@pytest.mark.parametrize("console", [Quiet(), Plain(io.StringIO()), Terminal(io.StringIO(), force=True)])
def test_every_console_counts_items_and_totals_alike(console):
    with console.step("samples", "five policies"):
        track = console.track([1, 2, 3], "prompts", unit="prompts")
        assert list(track) == [1, 2, 3]
        assert (track.done, track.total, track.is_open) == (3, 3, False)
        by_hand = console.track(10, "tokens")
        by_hand.advance(4, kl=0.5)
        assert by_hand.is_open
        by_hand.advance(6)
        assert not by_hand.is_open  # full
        by_hand.close()


def test_a_terminal_keeps_two_bars_in_one_display():
    stream = io.StringIO()
    console = Terminal(stream, force=True)
    with console.track(2, "outer") as outer, console.track(2, "inner [x]") as inner:
        inner.advance(1, loss=0.5)
        outer.advance(1)
        console.log("kept 812 of 900 prompts [/]")
        console.progress.refresh()
    assert "kept 812 of 900 prompts [/]" in stream.getvalue()
    assert "inner [x]" in stream.getvalue()
    assert "loss 0.5" in stream.getvalue()
    assert console.num_open == 0


def test_a_loop_that_breaks_takes_its_bar_away():
    console = Terminal(io.StringIO(), force=True)

    def body() -> None:
        with console.track(range(9), "rows") as track:
            for item in track:
                if item == 2:
                    raise ValueError("third")

    with pytest.raises(ValueError, match="third"):
        body()
    assert console.num_open == 0


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    with Terminal(stream, force=True).step("reward"):
        pass
    assert "\x1b[36m" not in stream.getvalue()
    assert "\x1b[32m" not in stream.getvalue()


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_output_that_is_no_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    with open_console(io.StringIO()) as console:
        assert isinstance(console, Plain)
    with open_console(Screen()) as console:
        assert isinstance(console, Terminal)
    monkeypatch.setenv("TERM", "dumb")
    with open_console(Screen()) as console:
        assert isinstance(console, Plain)


def test_an_error_leaves_no_bar_behind(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    seen = list[Terminal]()

    def body() -> None:
        with open_console(Screen()) as console:
            assert isinstance(console, Terminal)
            seen.append(console)
            console.track(10, "tokens").advance(1)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        body()
    assert not seen[0].progress.live.is_started


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (59.96, "1 min 00 s"), (125, "2 min 05 s"), (7500, "2 h 05 min")]
)
def test_durations_read_as_a_person_says_them(seconds: float, said: str):
    assert duration(seconds) == said
