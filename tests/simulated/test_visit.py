"""Simulated labelers in the app: by HTTP they say what they say through the store, and a visit can be interrupted."""

import _thread
from pathlib import Path

import pytest

from instructloop.console import Quiet, Track
from instructloop.microworld.judge import Judge
from instructloop.microworld.labelers import work, writers
from instructloop.microworld.world import world_of
from instructloop.recipes.microworld_people import FLAWED, NOISE_SCALE
from instructloop.simulated.visit import people, visit
from instructloop.simulated.visitors import email_of
from instructloop.store import Store
from instructloop.workspace import Workspace
from tests.simulated.served import RANKED, WRITTEN, with_tasks

TEAM = people(1, 3)
TRAIN = [one for one in TEAM if one.cohort == "train"]


def answers(store: Store, names: dict[str, str]) -> dict[tuple[str, str], object]:
    """Return (person, prompt) -> what they submitted."""
    found: dict[tuple[str, str], object] = {
        (names[row.labeler], row.prompt.id): (row.tiers, row.ratings, row.flags, row.notes)
        for row in store.rankings([RANKED], ["train"])
    }
    for row in store.demonstrations([WRITTEN], ["train"]):
        found[names[row.labeler], f"written {row.prompt.id}"] = row.text
    return found


def names_of(store: Store) -> dict[str, str]:
    """Return labeler id -> simulated person, by the accounts."""
    accounts = {account.email: account.labeler_id for account in store.accounts.accounts()}
    return {accounts[email_of(one.id)] or "": one.id for one in TRAIN}


@pytest.mark.slow
def test_by_http_they_say_what_they_say_through_the_store(workspace: Workspace, url: str, tmp_path: Path):
    # Every task is for as many labelers as there are, so both ways every person meets every task.
    visit(workspace, url, Quiet(), num_train=3, seed=None, speed=None)
    beside, judge = with_tasks(tmp_path / "beside", 8), Judge(world_of(1))
    for tasks, team in ((RANKED, TRAIN), (WRITTEN, writers(TRAIN))):
        work(beside.store, tasks, team, judge, beside.now(), 1, noise_scale=NOISE_SCALE, flawed_fraction=FLAWED)
    by_http = answers(workspace.store, names_of(workspace.store))
    assert len(by_http) == 8 * 3 + 4 * 2 - sum(progress.num_skipped for progress in beside.store.task_sets())
    assert by_http == answers(beside.store, {one.id: one.id for one in TRAIN})


@pytest.mark.slow
def test_nobody_can_take_their_judgements_for_those_of_people(workspace: Workspace, url: str):
    visit(workspace, url, Quiet(), num_train=3, seed=None, speed=None)
    assert {row.origin for row in workspace.store.rankings([RANKED], ["train"])} == {"simulated"}


class Interrupted(Quiet):
    """A console at which somebody presses Ctrl-C after five judgements."""

    def track(self, work, description: str, unit: str = "tokens") -> Track:
        return CtrlC(work, description, unit) if unit == "judgements" else super().track(work, description, unit)


class CtrlC(Track):
    def _show(self) -> None:
        if self.done == 5:
            _thread.interrupt_main()


@pytest.mark.slow
def test_an_interrupted_visit_keeps_all_and_the_next_goes_on_with_the_same_people(workspace: Workspace, url: str):
    with pytest.raises(KeyboardInterrupt, match=r"stopped: \d+ judgements were submitted and are kept"):
        visit(workspace, url, Interrupted(), num_train=3, seed=None, speed=20_000)
    before = sum(progress.num_submitted for progress in workspace.store.task_sets())
    assert 5 <= before < 8 * 3 + 4 * 2
    visit(workspace, url, Quiet(), num_train=3, seed=None, speed=None)
    assert len(workspace.store.accounts.accounts()) == len(TEAM)
    for progress in workspace.store.task_sets():
        assert progress.num_submitted + progress.num_skipped == progress.num_judgements_wanted
        assert progress.num_leased == 0
        assert progress.num_surplus == 0


def test_an_app_over_another_store_is_refused(url: str, tmp_path: Path):
    with pytest.raises(ValueError, match="it serves another one"):
        visit(with_tasks(tmp_path / "other", 2), url, Quiet(), num_train=3, seed=None, speed=None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"num_train": 2}, "team 2 must be at least 3"), ({"speed": 0.0}, "speed 0.0 must be above 0")],
)
def test_settings_that_cannot_be_meant_are_refused_before_anybody_comes(
    workspace: Workspace, settings: dict, said: str
):
    values = {"num_train": 3, "seed": None, "speed": None} | settings
    with pytest.raises(ValueError, match=said):
        visit(workspace, "http://127.0.0.1:9", Quiet(), **values)
    assert workspace.store.accounts.accounts() == []


@pytest.mark.slow
def test_prompts_that_nobody_of_the_world_wrote_are_skipped_with_the_reason(workspace: Workspace, url: str):
    from instructloop.core.records import Prompt
    from instructloop.store import TaskItem

    strange = Prompt.make("what is love?", source="customer", user="u")
    workspace.store.add_prompts([strange])
    items = [TaskItem(strange.id)]
    workspace.store.open_tasks("strange", "demonstrate", items, overlap=1, cohort="train", now=workspace.now())
    console = Quiet()
    shift = visit(workspace, url, console, num_train=3, seed=None, speed=None)
    assert shift.num_foreign == 2  # both writers look at it and hand it back
    assert workspace.store.progress("strange").reasons == {"nobody of this world wrote this prompt": 2}
    assert console.messages[-1].endswith("2 of them prompts of another world")
