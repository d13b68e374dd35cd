"""What a person sees while the loop works: steps, progress with speed and time left, messages; no decisions."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress


STOPS = (KeyboardInterrupt, GeneratorExit)  # the second: Ctrl-C came while several steps were at work


class Console(Protocol):
    """What stages and `fit` are handed to report to; `Quiet`, `Plain` and `Terminal` are the three there are."""

    def step(self, name: str, detail: str = "") -> AbstractContextManager[None]:
        """Frame one step of the loop: says that it began, and how it ended after how long."""
        ...

    def track(self, work: Iterable[Any] | float | None, description: str, unit: str = "tokens") -> Track:
        """Return the progress of `work`: an iterable to loop over, a total in units, or None where nobody knows it."""
        ...

    def log(self, message: str) -> None:
        """Say one fact in one line."""
        ...


class Track:
    """Progress of one piece of work in units; loop over it, or call `advance`, inside `with` or until it is full."""

    def __init__(self, work: Iterable[Any] | float | None, description: str, unit: str):
        self.description = description
        self.unit = unit
        self.items = work if isinstance(work, Iterable) else None
        length = getattr(work, "__len__", None)
        known = None if work is None or isinstance(work, Iterable) else float(work)
        self.total = float(length()) if length else known
        self.done = 0.0
        self.fields: dict[str, float | int | str] = {}
        self.is_open = True
        self.started = self._now()

    def _now(self) -> float:
        return time.monotonic()

    def advance(self, num: float = 1, **fields: float | int | str) -> None:
        """Count `num` more units done and show `fields` (a loss, a KL) beside the bar; the last unit closes it."""
        self.done += num
        self.fields.update(fields)
        self._show()
        if self.total is not None and self.done >= self.total:
            self.close()

    def close(self) -> None:
        """Take the bar away; closing twice is harmless."""
        if self.is_open:
            self.is_open = False
            self._hide()

    @property
    def speed(self) -> float:
        """Units a second since the start."""
        return self.done / max(self._now() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the total at this speed; None without a total or before the first unit."""
        if self.total is None or self.done <= 0:
            return None
        return max(self.total - self.done, 0.0) / max(self.speed, 1e-12)

    def _show(self) -> None: ...

    def _hide(self) -> None: ...

    def __iter__(self) -> Iterator[Any]:
        assert self.items is not None, "only a track over an iterable can be looped over"
        with self:
            for item in self.items:
                yield item
                self.advance(1)

    def __enter__(self) -> Track:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Quiet:
    """A console that shows nothing: for tests and for code that calls the stages itself; `messages` keeps the log."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    @contextmanager
    def step(self, name: str, detail: str = "") -> Generator[None]:
        yield

    def track(self, work: Iterable[Any] | float | None, description: str, unit: str = "tokens") -> Track:
        return Track(work, description, unit)

    def log(self, message: str) -> None:
        self.messages.append(message)


class Plain:
    """A console of plain lines, for output that is no terminal: a line now and then instead of a bar."""

    def __init__(
        self, stream: TextIO | None = None, *, every_seconds: float = 15.0, clock: Callable[[], float] = time.monotonic
    ):
        self.stream = stream or sys.stdout
        self.every_seconds = every_seconds
        self.clock = clock

    @contextmanager
    def step(self, name: str, detail: str = "") -> Generator[None]:
        started = self.clock()
        self.log(f"{name}: {detail}" if detail else f"{name}: begins")
        try:
            yield
        except BaseException as error:
            how = "stopped" if isinstance(error, STOPS) else "failed"
            self.log(f"{name}: {how} after {duration(self.clock() - started)}")
            raise
        self.log(f"{name}: done in {duration(self.clock() - started)}")

    def track(self, work: Iterable[Any] | float | None, description: str, unit: str = "tokens") -> Track:
        return PlainTrack(self, work, description, unit)

    def log(self, message: str) -> None:
        print(message, file=self.stream, flush=True)


class PlainTrack(Track):
    """Progress as lines: at most one in `console.every_seconds`."""

    def __init__(self, console: Plain, work: Iterable[Any] | float | None, description: str, unit: str):
        self.console = console
        super().__init__(work, description, unit)
        self.shown = self.started

    def _now(self) -> float:
        return self.console.clock()

    def _show(self) -> None:
        if self._now() - self.shown >= self.console.every_seconds:
            self.shown = self._now()
            self.console.log(f"  {self.line()}")

    def line(self) -> str:
        """Return where the work stands: done of total, speed, time left, fields."""
        of = "" if self.total is None else f" of {self.total:,.0f}"
        parts = [f"{self.description}: {self.done:,.0f}{of} {self.unit}", f"{self.speed:,.3g} {self.unit}/s"]
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join([*parts, *shown_fields(self.fields)])


class Terminal:
    """A console of live bars (rich), all of one console in one live display; colours obey NO_COLOR."""

    def __init__(self, stream: TextIO | None = None, *, force: bool = False):
        import rich.console

        self.rich = rich.console.Console(file=stream, force_terminal=force or None, highlight=False)
        self.progress = self._progress()
        self.num_open = 0

    def _progress(self) -> Progress:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        return Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[pace]}", markup=False, style="cyan"),
            TimeRemainingColumn(),
            TextColumn("left"),
            TextColumn("{task.fields[shown]}", markup=False, style="dim"),
            console=self.rich,
            transient=True,
            refresh_per_second=4,
        )

    @contextmanager
    def step(self, name: str, detail: str = "") -> Generator[None]:
        started = time.monotonic()
        self._line("cyan", "▸", name, detail)
        try:
            yield
        except STOPS:
            self._line("yellow", "‖", name, f"stopped after {duration(time.monotonic() - started)}")
            raise
        except BaseException:
            self._line("red", "✗", name, f"failed after {duration(time.monotonic() - started)}")
            raise
        self._line("green", "✓", name, f"done in {duration(time.monotonic() - started)}")

    def _line(self, style: str, sign: str, name: str, detail: str) -> None:
        from rich.text import Text

        self.rich.print(Text.assemble((f"{sign} ", style), (name, "bold"), (f"  {detail}" if detail else "", "dim")))

    def track(self, work: Iterable[Any] | float | None, description: str, unit: str = "tokens") -> Track:
        return Bar(self, work, description, unit)

    def log(self, message: str) -> None:
        self.rich.print(message, markup=False, soft_wrap=True)


class Bar(Track):
    """One bar of a terminal's live display."""

    def __init__(self, terminal: Terminal, work: Iterable[Any] | float | None, description: str, unit: str):
        super().__init__(work, description, unit)
        self.terminal = terminal
        if terminal.num_open == 0:
            terminal.progress.start()
        terminal.num_open += 1
        self.task = terminal.progress.add_task(description, total=self.total, pace="", shown="")

    def _show(self) -> None:
        self.terminal.progress.update(
            self.task,
            completed=self.done,
            pace=f"{self.speed:,.3g} {self.unit}/s",
            shown=", ".join(shown_fields(self.fields)),
        )

    def _hide(self) -> None:
        self.terminal.progress.remove_task(self.task)
        self.terminal.num_open -= 1
        if self.terminal.num_open == 0:
            self.terminal.progress.stop()


def shown_fields(fields: dict[str, float | int | str]) -> list[str]:
    """Return `name value` for each field, numbers to four digits."""
    return [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in fields.items()]


def duration(seconds: float) -> str:
    """Return seconds as a person says them: `3.2 s`, `4 min 07 s`, `2 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def open_console(stream: TextIO | None = None) -> Generator[Console]:
    """Yield bars where `stream` (standard output by default) is a terminal that can draw, plain lines otherwise.

    Bars that an error left open are taken away at the end.
    """
    target = stream or sys.stdout
    if not target.isatty() or os.environ.get("TERM") == "dumb":
        yield Plain(stream)
        return
    terminal = Terminal(stream)
    try:
        yield terminal
    finally:
        terminal.progress.stop()
