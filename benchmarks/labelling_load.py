"""Load on the labelling app: many simulated labelers through HTTP, and the app killed in the middle of their work.

    python -m benchmarks.labelling_load --write

Checks that nothing is lost, nothing double, no task over its overlap; measures latency, requests, memory.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Thread
from typing import Any

from benchmarks.app_process import BACKENDS, App, workspace_on
from benchmarks.judgement_checks import (
    Record,
    RecordedBrowser,
    lost_drafts,
    oldest_unsaved_seconds,
    problems,
    stored,
)
from benchmarks.made_up_tasks import open_tasks
from benchmarks.measuring import machine, write
from instructloop.console import Console, open_console
from instructloop.microworld.judge import Judge
from instructloop.microworld.labelers import team
from instructloop.microworld.opinions import SimulatedLabeler
from instructloop.microworld.world import world_of
from instructloop.simulated.shift import Handbook, Shift, Visitor
from instructloop.simulated.visit import bring_in
from instructloop.simulated.visitors import email_of
from instructloop.store.membership import SIMULATED
from instructloop.web.browser import AGENT, Browser
from instructloop.web.sessions import digest
from instructloop.web.settings import Settings
from instructloop.workspace import Workspace

OVERLAP = 3
WRITING_SHARE = 0.15  # of judgements: demonstrations
MAX_AT_THE_DOOR = 100
"""More people are let in by the store: to hash 500 passwords takes minutes, and is not what is measured."""
MAX_P95_SECONDS = 0.25  # at 40 labelers
MAX_UNSAVED_SECONDS = 2.0
PATIENCE_SECONDS = 300.0  # a busy machine takes long to start the app again


@dataclass(frozen=True, slots=True)
class Phase:
    """So many judgements, at `speed` times the pace of people; None: without any pause between requests."""

    num_judgements: int
    speed: float | None
    num_kills: int = 0
    seconds_between_kills: float = 5.0


PLANS: dict[int, tuple[Phase, ...]] = {  # labelers -> phases, with as many judgements a second at both paces
    40: (Phase(300, 20.0), Phase(500, None), Phase(300, 20.0, num_kills=4)),
    500: (Phase(500, 2.0), Phase(700, None)),
}


def measure(backend: str, num_labelers: int, phases: Sequence[Phase], console: Console) -> list[dict[str, Any]]:
    """Return the figures of each phase with `problems`, empty where all is right; the same people work in all."""
    everyone = team(1, num_train=num_labelers, num_heldout=0)
    record = Record()
    with workspace_on(backend) as workspace:
        handbook = Handbook(workspace.store, everyone, Judge(world_of(workspace.seed)), workspace.seed)
        app = App(workspace)
        try:
            begun = time.monotonic()
            if num_labelers <= MAX_AT_THE_DOOR:
                visitors = bring_in(workspace, lambda: RecordedBrowser(app.url, record), everyone, console)
            else:
                visitors = [seated(workspace, one, RecordedBrowser(app.url, record)) for one in everyone]
            common = {
                "backend": backend,
                "labelers": num_labelers,
                "through_the_door": num_labelers <= MAX_AT_THE_DOOR,
                "coming_in_seconds": round(time.monotonic() - begun, 1),
                "coming_in_peak_mebibytes": app.peak_bytes >> 20,
            }
            found = list[dict[str, Any]]()
            num_opened = 0
            for phase in phases:
                num_opened += _opened(workspace, phase, num_opened)
                _think_ahead(handbook, workspace)
                found.append(common | _worked(phase, app, visitors, handbook, record, console))
                console.log(json.dumps(found[-1]))
        finally:
            app.stop()
            workspace.store.close()
    return found


def seated(workspace: Workspace, person: SimulatedLabeler, browser: Browser) -> Visitor:
    """Return a labeler who is in without having come through the door: account and session are made in the store."""
    accounts, now = workspace.store.accounts, workspace.now()
    _, token = accounts.invite("labeler", person.cohort, SIMULATED, None, now)
    account = accounts.sign_up(token, person.id, email_of(person.id), "nobody signs in with this", now)
    accounts.agree(account.id, accounts.consent_text().version, now)
    browser.cookies[Settings().cookie("session")], browser.csrf = accounts.open_session(account.id, digest(AGENT), now)
    assert account.labeler_id is not None
    return Visitor(person, account.labeler_id, browser)


def _opened(workspace: Workspace, phase: Phase, after: int) -> int:
    """Open a phase's tasks and return the number of sets."""
    num_to_write = round(phase.num_judgements * WRITING_SHARE)
    num_sets = max(num_to_write, math.ceil((phase.num_judgements - num_to_write) / OVERLAP))
    open_tasks(workspace, num_sets, num_to_write, overlap=OVERLAP, after=after)
    return num_sets


def _think_ahead(handbook: Handbook, workspace: Workspace) -> None:
    """Assess every completion once, so that the labelers' thinking takes no processor from the app meanwhile."""
    texts = {prompt.id: prompt.text for prompt in workspace.store.prompts()}
    for completion in workspace.store.completions():
        handbook.judge.assess(texts[completion.prompt_id], completion.text)


def _worked(
    phase: Phase, app: App, visitors: Sequence[Visitor], handbook: Handbook, record: Record, console: Console
) -> dict[str, Any]:
    """Let all work, with the app killed now and then where the phase says so; return what was measured meanwhile."""
    progress = console.track(phase.num_judgements, "labelling", unit="judgements")
    shift = Shift(handbook, progress, phase.speed, patience_seconds=PATIENCE_SECONDS)
    kills = list[dict[str, Any]]()
    killer = Thread(target=_kill, args=(phase, app, shift, record, kills), daemon=True)
    record.requests.clear()
    load_before, cpu, started = os.getloadavg()[0], app.cpu_seconds, time.monotonic()
    began_with = app.peak_bytes = app.memory_bytes
    killer.start()
    shift.work(visitors)
    seconds = time.monotonic() - started
    shift.end()
    killer.join()
    statuses = Counter(status for _, _, status in record.requests if status >= 400)
    wrong = [f"{number} answers of status {status}" for status, number in statuses.items()]
    wrong += [problem for kill in kills for problem in kill.pop("problems")]
    wrong += problems(stored(app.workspace.store_place), record, is_over=True)
    if phase.num_kills and not kills:
        wrong.append("the work was over before the first kill")
    more: dict[str, Any] = {"kills": kills} if phase.num_kills else {}
    if not phase.num_kills:
        more["app_cpu_milliseconds_per_request"] = round(1000 * (app.cpu_seconds - cpu) / len(record.requests), 1)
    return {
        "times_as_fast_as_people": phase.speed,
        "judgements": shift.num_submitted,
        "skipped": shift.num_skipped,
        "seconds": round(seconds, 1),
        "judgements_per_second": round(shift.num_submitted / seconds, 2),
        "requests": len(record.requests),
        "requests_per_second": round(len(record.requests) / seconds, 1),
        "milliseconds": latencies(record),
        "memory_mebibytes": {"start": began_with >> 20, "peak": app.peak_bytes >> 20, "end": app.memory_bytes >> 20},
        **more,
        "load_average": [round(load_before, 1), round(os.getloadavg()[0], 1)],
        "problems": wrong,
    }


def _kill(phase: Phase, app: App, shift: Shift, record: Record, kills: list[dict[str, Any]]) -> None:
    """Kill the app again and again, and look each time at what its database holds before it starts again."""
    up_since = time.monotonic()
    try:
        for _ in range(phase.num_kills):
            if shift.stop.wait(phase.seconds_between_kills):
                return
            app.kill()
            killed = time.monotonic()
            time.sleep(0.5)  # answers that were on their way are heard
            kills.append(_after_the_kill(app, record, up_since, killed))
            app.start_again()
            up_since = time.monotonic()
            kills[-1]["away_seconds"] = round(up_since - killed, 1)
    except BaseException as error:
        shift.error = error
        shift.end()


def _after_the_kill(app: App, record: Record, up_since: float, killed: float) -> dict[str, Any]:
    """Return what the database of the dead app holds, and what is wrong with it."""
    with record.lock:
        found = stored(app.workspace.store_place)
        unsaved = oldest_unsaved_seconds(found, record, up_since=up_since, killed=killed)
        wrong = problems(found, record, is_over=False) + lost_drafts(found, record)
        done = len(record.receipts)
    if unsaved > MAX_UNSAVED_SECONDS:
        wrong.append(f"typing of {unsaved:.1f} s ago was not saved")
    return {
        "submissions": done,
        "drafts": len(found.drafts),
        "oldest_unsaved_seconds": round(unsaved, 2),
        "problems": wrong,
    }


def latencies(record: Record) -> dict[str, dict[str, float]]:
    """Return p50, p95, p99 and the longest, in milliseconds, of all requests and of each kind."""
    by_kind: dict[str, list[float]] = {"all": [seconds for _, seconds, _ in record.requests]}
    for kind, seconds, _ in record.requests:
        by_kind.setdefault(kind, []).append(seconds)
    return {
        kind: {"number": len(times)}
        | {f"p{percent}": round(1000 * quantile(times, percent / 100), 1) for percent in (50, 95, 99)}
        | {"max": round(1000 * max(times), 1)}
        for kind, times in by_kind.items()
    }


def quantile(times: Sequence[float], share: float) -> float:
    """Return the smallest time within which at least this share of all lie (nearest rank)."""
    return sorted(times)[max(0, math.ceil(share * len(times)) - 1)]


def too_slow(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the phases of 40 labelers with pauses, and no kills, in which one request in twenty took too long."""
    limit = 1000 * MAX_P95_SECONDS
    return [
        one
        for one in found
        if one["labelers"] == 40
        and one["times_as_fast_as_people"] is not None
        and "kills" not in one
        and one["milliseconds"]["all"]["p95"] > limit
    ]


def main() -> None:
    """Measure what is asked for, print it, with --write keep it; exit code 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=BACKENDS, action="append", help="both if not given")
    parser.add_argument("--labelers", type=int, choices=PLANS, action="append", help="all plans if not given")
    parser.add_argument("--phase", type=int, action="append", help="only these of a plan, from 1; all if not given")
    parser.add_argument("--beside", default="", help="what else the machine was doing, for the record")
    parser.add_argument("--write", action="store_true", help="into benchmarks/results")
    asked = parser.parse_args()
    found = list[dict[str, Any]]()
    with open_console() as console:
        for backend in asked.database or BACKENDS:
            for num_labelers in asked.labelers or PLANS:
                plan = PLANS[num_labelers]
                phases = [phase for number, phase in enumerate(plan, start=1) if number in (asked.phase or (number,))]
                found += measure(backend, num_labelers, phases, console)
    slow = [
        f"{one['backend']}: p95 is {one['milliseconds']['all']['p95']} ms at 40 labelers" for one in too_slow(found)
    ]
    when = datetime.now(UTC)
    facts = machine() | {"sqlite": sqlite3.sqlite_version}
    result = {"date": when.isoformat(timespec="seconds"), "machine": facts, "beside": asked.beside, "runs": found}
    if asked.write:
        write("labelling-load", result | {"slow": slow})
    wrong = [problem for one in found for problem in one["problems"]]
    for line in (*slow, *wrong[:20]):
        print(f"wrong: {line}")
    sys.exit(1 if wrong or slow else 0)


if __name__ == "__main__":
    main()
