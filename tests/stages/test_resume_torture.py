"""The torture (python -m tests.torture) would notice: its comparison finds what differs, its plan strikes real work."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from instructloop.recipes import load
from instructloop.runs import Run
from instructloop.workspace import Workspace
from tests.torture.__main__ import FEWEST_KILLS, FROM_CHECKPOINT, KINDS, missed
from tests.torture.artefacts import artefacts, differences, leftovers
from tests.torture.disk import FULL, contents, refusal
from tests.torture.moments import PLAN, Kill, _struck, kind_of


def loop(root: Path, *, loss: float = 0.5, seconds: float = 1.0, weights: str = "w", summary: int = 1) -> Path:
    """Return a workspace with one finished run."""
    workspace = Workspace.create(root, "toy")
    run = Run.start(workspace.runs, "toy", name="sft", round=1, config={}, parents={})
    run.log(1, {"loss": loss, "time/update": seconds, "perf/tokens_per_second": 1 / seconds})
    run.file("model").mkdir()
    run.file("model/weights").write_text(weights)
    run.finish("model", summary={"number": summary})
    return root


def test_equal_loops_of_other_speed_are_the_same(tmp_path: Path):
    one, other = (artefacts(loop(tmp_path / name, seconds=s)) for name, s in (("a", 1.0), ("b", 2.0)))
    assert differences(one, other) == []
    assert len(one) == 4  # the published names; a file, the metrics and the summary of the run


@pytest.mark.parametrize(
    ("change", "name"),
    [({"loss": 0.25}, "metrics.jsonl"), ({"weights": "v"}, "model/weights"), ({"summary": 2}, "summary")],
)
def test_what_differs_is_found_by_name(tmp_path: Path, change: dict, name: str):
    one, other = artefacts(loop(tmp_path / "a")), artefacts(loop(tmp_path / "b", **change))
    (found,) = differences(other, one)
    assert found.endswith(name)
    assert len(differences(one, {})) == len(one)


def test_files_that_changed_and_runs_that_did_not_end_are_found(tmp_path: Path):
    root = loop(tmp_path)
    (run,) = Run.all(root / "runs")
    run.file("checkpoints").mkdir()
    assert leftovers(root) == [f"runs/{run.id}/checkpoints"]
    before = contents(root)
    run.file("model/weights").write_text("u")
    assert contents(root) != before
    with pytest.raises(ValueError, match="weights was edited"):
        artefacts(root)
    run.file("model/weights").write_text("w")
    Run.start(root / "runs", "toy", name="reward", round=1, config={}, parents={})
    with pytest.raises(ValueError, match="was begun and is not finished"):
        artefacts(root)


def full(place: str) -> str:
    return f"error: No space left on device while writing: {place}; free some space and run again"


def test_an_error_counts_as_clear_when_it_is_one_line_that_names_the_disk_and_the_file(tmp_path: Path):
    assert refusal(["sft: begins", full(f"{tmp_path}/x")], 1, FULL, tmp_path).startswith("error: No space left")


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (lambda at: [full(at)], 0),
        (lambda at: [full(at)], -9),
        (lambda at: ["Traceback (most recent call last):", full(at)], 1),
        (lambda at: [full("somewhere")], 1),
        (lambda at: [f"error: RuntimeError: unexpected pos {at}"], 1),
        (lambda at: [full(at), full(at)], 1),
        (lambda at: [], 1),
    ],
)
def test_any_other_end_on_a_full_disk_is_a_failure(tmp_path: Path, lines: Callable[[str], list[str]], code: int):
    with pytest.raises(SystemExit):
        refusal(lines(str(tmp_path)), code, FULL, tmp_path)


def test_every_moment_of_the_plan_is_a_step_of_the_loop_in_its_order(tmp_path: Path):
    steps = [step.name for step in load(Workspace.create(tmp_path, "microworld")).steps]
    planned = [step for step, _ in PLAN if step]
    assert set(planned) <= set(steps)
    kinds = Counter(map(kind_of, planned))
    assert all(kinds[kind] >= 3 for kind in KINDS)
    assert len(PLAN) >= FEWEST_KILLS + 5  # some strike after the end
    firsts = [steps.index(step) for step in dict.fromkeys(planned)]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize(("since", "where"), [(-60.0, "while freezing"), (60.0, "while people worked")])
def test_a_kill_is_told_by_what_its_own_go_has_written(tmp_path: Path, since: float, where: str):
    root = loop(tmp_path)
    (root / "cache" / "r01-rankings-0123abcd.jsonl").write_text("{}")
    struck = _struck(root, 2.0, ["sft", "rankings", "ppo"], "rankings", time.time() + since)
    assert struck == Kill(2.0, "rankings", "labels", where, False, ("ppo",))  # sft was done


def kill(kind: str, *, has_checkpoint: bool = True, where: str = "report.json was there") -> Kill:
    return Kill(1.0, kind, kind, where, has_checkpoint, ())  # type: ignore[arg-type]


def test_kills_that_missed_a_kind_of_work_are_a_failure():
    enough = [kill(kind) for kind in KINDS] * 4
    assert missed(enough) == []
    assert missed(enough[:19]) == ["only 19 kills"]
    for kind in KINDS:
        assert f"no kill struck {kind}" in missed([one for one in enough if one.kind != kind])
    without = [kill(one.kind, has_checkpoint=one.kind != "ppo") for one in enough]
    assert missed(without) == ["no kill left a checkpoint of ppo"]
    assert "ppo" in FROM_CHECKPOINT
    elsewhere = [kill(one.kind, where="its run had begun") for one in enough]
    assert missed(elsewhere) == ["no kill struck the writing of the report"]
