"""Doing what can be done: steps one after the other, or several at once in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any

from instructloop import files
from instructloop.console import Console
from instructloop.runs import Run
from instructloop.stages.labels import Waiting
from instructloop.stages.relay import Relay, Replay
from instructloop.stages.round import Recipe, StepState, execute, plan, publish_policies, survey, wanted
from instructloop.workspace import Workspace

LoadRecipe = Callable[[Workspace], Recipe]
"""A function at the top of a module: worker processes read the recipe from the workspace themselves."""


def run(workspace: Workspace, load: LoadRecipe, console: Console, *, until: str | None = None) -> list[StepState]:
    """Do everything that needs no people (up to the step `until`), then return where every step stands.

    Steps whose parents are done run `recipe.workers` at a time, each with `recipe.threads` torch threads, so that
    how many run at once changes no number. Ctrl-C reaches every worker, which stops at its next resumable point; the
    error of one step is raised once the others at work have ended. One process at a time drives a workspace.
    """
    recipe = load(workspace)
    names = wanted(recipe, until)
    with _alone(workspace):
        _sweep(workspace)
        with _starter(workspace, recipe, load, console) as start:
            _work_off(workspace, recipe, names, start, console)
    publish_policies(workspace, recipe, survey(workspace, recipe)[1])
    return plan(workspace, recipe)


@contextmanager
def _alone(workspace: Workspace) -> Generator[None]:
    """Hold the workspace's lock; ValueError names the process that drives it already."""
    workspace.cache.mkdir(exist_ok=True)
    pid = files.owner(workspace.cache)
    if pid not in (None, os.getpid()):
        raise ValueError(f"{workspace.root} is being worked on by process {pid}: one at a time")
    files.lock(workspace.cache)
    try:
        yield
    finally:
        files.unlock(workspace.cache)


def _sweep(workspace: Workspace) -> None:
    """Delete the checkpoints of runs that are done: a kill came between the end of the run and their deletion."""
    for run in Run.all(workspace.runs):
        if run.is_done and run.file("checkpoints").exists():
            shutil.rmtree(run.file("checkpoints"), ignore_errors=True)


Start = Callable[[str], "Future[None]"]


def _work_off(workspace: Workspace, recipe: Recipe, names: set[str], start: Start, console: Console) -> None:
    """Start what is ready until nothing is and nothing works; steps that wait for people are left out."""
    left = set[str]()  # waiting for people
    at_work: dict[Future[None], tuple[str, ExitStack]] = {}
    failure: BaseException | None = None
    while True:
        busy = {name for name, _ in at_work.values()}
        states = plan(workspace, recipe) if failure is None else []
        ready = [s.name for s in states if s.status in ("ready", "running") and s.name in names - left - busy]
        for name in ready[: recipe.workers - len(at_work)]:
            shown = ExitStack()
            shown.enter_context(console.step(name))
            at_work[start(name)] = (name, shown)
        if not at_work:
            break
        for future in wait(at_work, return_when=FIRST_COMPLETED).done:
            name, shown = at_work.pop(future)
            try:
                with shown:
                    future.result()
            except Waiting as waiting:
                console.log(str(waiting))
                left.add(name)
            except BaseException as error:
                failure = failure or error
    if failure is not None:
        raise failure


@contextmanager
def _starter(workspace: Workspace, recipe: Recipe, load: LoadRecipe, console: Console) -> Generator[Start]:
    """Yield a function that starts a step by name: here when the recipe wants one at a time, in a process otherwise."""
    if recipe.workers == 1:
        yield lambda name: _done_here(workspace, recipe, name, console)
        return
    context = multiprocessing.get_context("spawn")
    events = context.Queue()
    reader = Thread(target=_read, args=(events, Replay(console)), daemon=True)
    reader.start()
    os.environ["OMP_NUM_THREADS"] = str(recipe.threads)
    stop = context.Event()
    pool: Executor = ProcessPoolExecutor(
        recipe.workers, mp_context=context, initializer=_prepare, initargs=(events, stop, workspace, load)
    )

    def start(name: str) -> Future[None]:
        with _deaf_to_interrupts():  # workers inherit it: Ctrl-C reaches them at work only, not starting or idle
            return pool.submit(_do, name)

    try:
        yield start
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        events.put(None)
        reader.join()


@contextmanager
def _deaf_to_interrupts() -> Generator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _done_here(workspace: Workspace, recipe: Recipe, name: str, console: Console) -> Future[None]:
    future = Future[None]()
    try:
        use_threads(recipe, name)
        execute(workspace, recipe, name, console)
        future.set_result(None)
    except BaseException as error:
        future.set_exception(error)
    return future


def _read(events: Any, replay: Replay) -> None:
    while (event := events.get()) is not None:
        replay.show(event)


_worker: dict[str, Any] = {}


def _prepare(events: Any, stop: Any, workspace: Workspace, load: LoadRecipe) -> None:
    """Make a worker process ready: its own store and recipe."""
    _worker.update(workspace=workspace, recipe=load(workspace), events=events, stop=stop, is_at_work=False)
    Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End this worker when the main process is gone: at work it stops as at Ctrl-C, where the run can go on from."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGINT)
    while _worker["is_at_work"]:
        time.sleep(0.1)
    os._exit(1)


def _do(name: str) -> None:
    use_threads(_worker["recipe"], name)
    _worker["is_at_work"] = True
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if _worker["stop"].is_set():  # Ctrl-C came before the step began
            raise KeyboardInterrupt
        execute(_worker["workspace"], _worker["recipe"], name, Relay(_worker["events"], name))
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _worker["is_at_work"] = False


def use_threads(recipe: Recipe, name: str) -> None:
    """Give torch the threads that the recipe has for this step: results on CPU depend on their number."""
    import torch

    own = [step.threads for step in recipe.steps if step.name == name and step.threads]
    torch.set_num_threads(own[0] if own else recipe.threads)
