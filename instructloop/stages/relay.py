"""Progress across processes: a worker's console sends events into a queue, and the main process shows them."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, Protocol

from instructloop.console import Console, Track


class Events(Protocol):
    """The end of a queue that workers write to."""

    def put(self, event: tuple[Any, ...], /) -> None: ...


class Relay:
    """A console whose messages and progress are shown elsewhere; `name` tells its bars from those of other workers."""

    def __init__(self, events: Events, name: str):
        self.events = events
        self.name = name
        self.ids = itertools.count()

    @contextmanager
    def step(self, name: str, detail: str = "") -> Generator[None]:
        yield

    def track(self, work: Iterable[Any] | float | None, description: str, unit: str = "tokens") -> Track:
        return RelayTrack(self, work, f"{self.name}: {description}", unit)

    def log(self, message: str) -> None:
        self.events.put(("log", message))


class RelayTrack(Track):
    """Progress that is counted here and shown there."""

    def __init__(self, relay: Relay, work: Iterable[Any] | float | None, description: str, unit: str):
        super().__init__(work, description, unit)
        self.relay = relay
        self.key = (relay.name, next(relay.ids))
        relay.events.put(("open", self.key, self.total, description, unit))

    def advance(self, num: float = 1, **fields: float | int | str) -> None:
        self.relay.events.put(("advance", self.key, num, fields))
        super().advance(num, **fields)

    def _hide(self) -> None:
        self.relay.events.put(("close", self.key))


class Replay:
    """Shows on `console` what workers send."""

    def __init__(self, console: Console):
        self.console = console
        self.tracks: dict[tuple[str, int], Track] = {}

    def show(self, event: tuple[Any, ...]) -> None:
        """Show one event of a `Relay`."""
        match event:
            case ("log", message):
                self.console.log(message)
            case ("open", key, total, description, unit):
                self.tracks[key] = self.console.track(total, description, unit)
            case ("advance", key, num, fields):
                self.tracks[key].advance(num, **fields)
            case ("close", key):
                self.tracks.pop(key).close()
            case _:
                raise AssertionError(f"unknown event {event}")
