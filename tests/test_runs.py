"""Run folders: ids from inputs, no half-written run taken for whole, edits found, interrupted runs taken up again."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from instructloop import files, runs
from instructloop.runs import Run, lineage, publish, published

LABELS = hashlib.sha256(b"labels").hexdigest()


def start(root: Path, name: str = "sft", parents: Mapping[str, Run] | None = None, **changed: Any) -> Run:
    arguments = {"round": 1, "config": {"lr": 1e-5}, "inputs": {}, **changed}
    return Run.start(root, arguments.pop("stage", f"s_{name}"), name=name, parents=parents or {}, **arguments)


def done(
    root: Path, name: str = "sft", parents: Mapping[str, Run] | None = None, text: str = "x", **changed: Any
) -> Run:
    run = start(root, name, parents, **changed)
    (run.path / "model").mkdir()
    (run.path / "model" / "weights").write_text(text)
    return run.finish("model", summary={"loss": 0.5})


def test_a_finished_run_tells_what_it_was_made_of(tmp_path: Path):
    base = done(tmp_path, "base", inputs={"folder": LABELS})
    sft = Run.load(done(tmp_path, "sft", {"base": base}, config={"lr": 0.1, "betas": (0.9, 0.95)}).path)
    assert (sft.stage, sft.name, sft.round, sft.is_done, sft.resumed) == ("s_sft", "sft", 1, True, False)
    assert sft.config == {"lr": 0.1, "betas": [0.9, 0.95]}
    assert sft.summary == {"loss": 0.5}
    assert sft.parents["base"].id == base.id
    assert base.inputs == {"folder": LABELS}
    assert sft.finished > base.finished


def test_a_folder_is_hashed_over_its_sorted_paths_and_contents(tmp_path: Path):
    run = start(tmp_path)
    for name, text in {"model/b": "two", "model/a/c": "one", "rows.jsonl": "{}\n"}.items():
        run.file(name).parent.mkdir(parents=True, exist_ok=True)
        run.file(name).write_text(text)
    run.finish("model", "rows.jsonl")
    one, two = (hashlib.sha256(text).hexdigest() for text in (b"one", b"two"))
    assert run.outputs == {
        "model": hashlib.sha256(f"a/c\0{one}\nb\0{two}\n".encode()).hexdigest(),
        "rows.jsonl": hashlib.sha256(b"{}\n").hexdigest(),
    }
    assert files.hash_path(run.file("model")) == run.outputs["model"]


def test_equal_inputs_give_the_equal_id_in_another_workspace(tmp_path: Path):
    ids = [done(tmp_path / x, "sft", {"base": done(tmp_path / x, "base")}).id for x in "ab"]
    assert ids[0] == ids[1]
    assert ids[0].startswith("r01-sft-")


@pytest.mark.parametrize(
    "changed", [{"config": {"lr": 2e-5}}, {"stage": "other"}, {"inputs": {"rows": LABELS}}, {"name": "ppo_init"}]
)
def test_any_changed_input_gives_another_id(tmp_path: Path, changed: dict[str, Any]):
    hashes = {run.id.rsplit("-", 1)[1] for run in (start(tmp_path), start(tmp_path, **changed))}
    assert len(hashes) == 2


def test_the_package_version_enters_the_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = start(tmp_path).id
    monkeypatch.setattr(runs, "__version__", "9.9")
    assert Run.identify("s_sft", name="sft", round=1, config={"lr": 1e-5}, parents={}) != before


def test_one_changed_label_changes_the_id_of_everything_after_it(tmp_path: Path):
    def chain(root: Path, label: str) -> list[str]:
        labels = done(root, "rankings", text=label)
        reward = done(root, "reward", {"rankings": labels}, text=f"fitted to {label}")
        return [labels.id, reward.id, start(root, "ppo", {"reward": reward}).id]

    first, second = chain(tmp_path / "a", "1 > 2"), chain(tmp_path / "b", "2 > 1")
    assert first[0] == second[0]  # the same tasks; what people answered is an output
    assert first[1] != second[1]
    assert first[2] != second[2]


def test_identify_knows_the_id_before_the_run_is(tmp_path: Path):
    base = done(tmp_path, "base")
    run_id = Run.identify("s_sft", name="sft", round=1, config={"lr": 1e-5}, parents={"base": base})
    assert Run.get(tmp_path, run_id) is None
    assert start(tmp_path, "sft", {"base": base}).id == run_id
    assert Run.get(tmp_path, run_id) is not None


@pytest.mark.parametrize("name", ["", "SFT", "../x", "a b", "-a"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match="lower-case"):
        start(tmp_path, name, stage="s")


def test_a_configuration_that_is_no_json_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        start(tmp_path, config={"lr": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_second_start_of_a_finished_run_is_refused(tmp_path: Path):
    run = done(tmp_path)
    with pytest.raises(ValueError, match=f"{run.id} is finished already"):
        start(tmp_path)
    with pytest.raises(ValueError, match="finished already"):
        run.finish("model")


def test_an_unfinished_run_is_nobodys_parent(tmp_path: Path):
    with pytest.raises(ValueError, match=r"ppo: parent init \(r01-sft-.*\) is not finished"):
        start(tmp_path, "ppo", {"init": start(tmp_path)})


def edit(path: Path) -> None:
    path.write_text("y")


def remove(path: Path) -> None:
    path.unlink()


def add(path: Path) -> None:
    path.with_name("extra").write_text("")


@pytest.mark.parametrize(
    ("touch", "said"), [(edit, "weights was edited"), (remove, "weights was removed"), (add, "extra was added")]
)
def test_a_parent_whose_files_changed_is_refused_by_file(tmp_path: Path, touch: Any, said: str):
    parent = done(tmp_path)
    touch(parent.file("model") / "weights")
    with pytest.raises(ValueError, match=said):
        start(tmp_path, "ppo", {"init": parent})
    assert len(list(tmp_path.iterdir())) == 1


def test_a_large_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "weights"
    path.write_bytes(b"\0" * files.LARGE_BYTES)
    before = files.hash_file(path)
    assert before == hashlib.sha256(b"\0" * files.LARGE_BYTES).hexdigest()
    real = hashlib.file_digest
    reads = list[str]()
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: (reads.append("read"), real(*a))[1])
    assert files.hash_file(path) == before
    assert reads == []
    path.write_bytes(b"\1" * files.LARGE_BYTES)
    assert files.hash_file(path) != before
    assert reads == ["read"]


@pytest.mark.parametrize("key", ["config", "summary", "outputs", "status", "round", "seconds"])
def test_an_edited_manifest_is_refused(tmp_path: Path, key: str):
    path = done(tmp_path).file("manifest.json")
    manifest = json.loads(path.read_text())
    edited = {
        "config": {"lr": 1},
        "summary": {"loss": 0.1},
        "outputs": {},
        "status": "running",
        "round": 2,
        "seconds": 1,
    }
    path.write_text(json.dumps({**manifest, key: edited[key]}))
    with pytest.raises(ValueError, match=r"manifest\.json was edited by hand"):
        Run.load(path.parent)


@pytest.mark.parametrize("text", ["", '{"id": "r01', "[]", '{"id": "r01-sft-00000000"}'])
def test_a_torn_manifest_is_refused_with_the_file_named(tmp_path: Path, text: str):
    path = done(tmp_path).file("manifest.json")
    path.write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json is torn or was edited"):
        Run.all(tmp_path)


def test_a_renamed_run_folder_is_refused(tmp_path: Path):
    run = done(tmp_path)
    moved = run.path.rename(tmp_path / "r02-sft-00000000")
    with pytest.raises(ValueError, match="folder renamed"):
        Run.load(moved)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="is no run folder"):
        Run.load(tmp_path)


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_run_does_not_finish_without_its_outputs(tmp_path: Path, name: str):
    run = start(tmp_path)
    run.file("empty").mkdir()
    with pytest.raises(ValueError, match=f"output {name} was not written"):
        run.finish(name)
    assert not run.is_done
    assert run.outputs == {}


def test_a_full_disk_at_finish_leaves_the_run_unfinished_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = start(tmp_path)
    run.file("rows.jsonl").write_text("{}\n")
    before = run.file("manifest.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", lambda _: None)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device while writing.*manifest\.json"):
        run.finish("rows.jsonl")
    monkeypatch.undo()
    assert run.file("manifest.json").read_bytes() == before
    assert sorted(p.name for p in run.path.iterdir()) == ["lock", "manifest.json", "rows.jsonl"]
    assert start(tmp_path).resumed
    assert run.finish("rows.jsonl").is_done


def test_a_write_that_the_system_cuts_short_leaves_the_old_file_whole(tmp_path: Path):
    code = (
        "import resource, sys; from pathlib import Path; from instructloop.files import write_atomic\n"
        "path = Path(sys.argv[1]); write_atomic(path, 'old')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_atomic(path, 'x' * 100_000)\n"
        "except OSError as error: print(error)\n"
    )
    path = tmp_path / "choice.json"
    said = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    assert "while writing" in said
    assert "choice.json" in said
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["choice.json"]


def test_metrics_come_back_as_logged(tmp_path: Path):
    run = start(tmp_path)
    run.log(1, {"loss/lm": 0.1 + 0.2})
    run.log(2, {"loss/lm": float("nan"), "grad_norm": 3})
    assert run.metrics() == [
        {"step": 1, "loss/lm": 0.30000000000000004},
        {"step": 2, "loss/lm": None, "grad_norm": 3.0},
    ]


def test_a_resumed_run_drops_the_metrics_of_steps_it_does_again(tmp_path: Path):
    run = start(tmp_path)
    for step in (5, 10, 15):
        run.log(step, {"loss": 10.0 + step})
    with run.file("metrics.jsonl").open("a") as stream:
        stream.write('{"step": 20, "lo')  # killed while writing
    again = start(tmp_path)
    assert again.resumed
    assert [row["step"] for row in again.metrics()] == [5, 10, 15]
    again.log(15, {"loss": 1.0})  # it resumed from step 10
    again.log(20, {"loss": 2.0})
    assert [(row["step"], row["loss"]) for row in again.metrics()] == [(5, 15.0), (10, 20.0), (15, 1.0), (20, 2.0)]


def test_metrics_can_be_cut_to_the_step_resumed_from(tmp_path: Path):
    run = start(tmp_path)
    for step in (1, 2, 3):
        run.log(step, {"loss": 1.0})
    run.truncate_metrics(1)
    assert [row["step"] for row in run.metrics()] == [1]


def test_a_broken_metrics_line_is_named(tmp_path: Path):
    run = start(tmp_path)
    run.file("metrics.jsonl").write_text('{"step": 1}\nnothing\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not JSON"):
        run.metrics()


HOLD = """
import sys, time
from pathlib import Path
from instructloop.runs import Run
Run.start(Path(sys.argv[1]), "s_sft", name="sft", round=1, config={"lr": 1e-5}, parents={}, inputs={}).log(1, {"x": 1})
print("started", flush=True)
time.sleep(60)
"""


def test_a_live_process_keeps_its_run_and_a_killed_one_leaves_it_to_be_resumed(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "started\n"
            [run] = Run.all(tmp_path)
            assert run.owner_pid == other.pid
            with pytest.raises(ValueError, match=f"{run.id} is already running by pid {other.pid}"):
                start(tmp_path)
        finally:
            other.send_signal(signal.SIGKILL)
    assert run.owner_pid is None
    resumed = start(tmp_path)
    assert (resumed.resumed, resumed.id, resumed.owner_pid) == (True, run.id, os.getpid())
    assert len(resumed.manifest.resumed) == 1
    resumed.file("x").write_text("1")
    resumed.finish("x")
    assert not resumed.file("lock").exists()


def test_a_crash_before_the_first_manifest_leaves_no_run(tmp_path: Path):
    run_id = Run.identify("s_sft", name="sft", round=1, config={"lr": 1e-5}, parents={})
    (tmp_path / run_id).mkdir()
    assert Run.all(tmp_path) == []
    assert not start(tmp_path).resumed


def test_find_takes_a_published_name_a_name_or_the_start_of_an_id(tmp_path: Path):
    first, second = done(tmp_path, "ppo"), done(tmp_path, "ppo", round=2, config={"lr": 2})
    assert Run.find(tmp_path, "ppo").id == second.id  # the latest round
    assert Run.find(tmp_path, first.id).id == first.id
    assert Run.find(tmp_path, first.id.rsplit("-", 1)[1]).id == first.id
    publish(tmp_path, "best", first)
    assert Run.find(tmp_path, "best").id == first.id
    assert published(tmp_path) == {"best": first.id}
    with pytest.raises(ValueError, match=r"no run is called 'sft'; there are best, ppo"):
        Run.find(tmp_path, "sft")
    with pytest.raises(ValueError, match="means several runs"):
        Run.find(tmp_path, "r0")


def test_a_name_prefers_a_finished_run_to_a_newer_unfinished_one(tmp_path: Path):
    finished = done(tmp_path)
    start(tmp_path, round=2)
    assert Run.find(tmp_path, "sft").id == finished.id


def test_only_a_finished_run_is_published(tmp_path: Path):
    with pytest.raises(ValueError, match="not finished"):
        publish(tmp_path, "best", start(tmp_path))
    (tmp_path / "names.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"names\.json must map"):
        published(tmp_path)


def test_lineage_goes_down_to_the_frozen_labels(tmp_path: Path):
    labels = done(tmp_path, "rankings", inputs={"rankings.jsonl": LABELS})
    base = done(tmp_path, "base")
    reward = done(tmp_path, "reward", {"rankings": labels, "base": base})
    tree = lineage(done(tmp_path, "ppo", {"reward": reward, "init": base}))
    assert [(branch.role, branch.run.name) for branch in tree.parents] == [("reward", "reward"), ("init", "base")]
    leaves = {branch.role: branch for branch in tree.parents[0].parents}
    assert leaves["rankings"].run.inputs == {"rankings.jsonl": LABELS}
    assert leaves["rankings"].parents == ()


def test_lineage_names_a_parent_that_is_gone_or_was_made_again(tmp_path: Path):
    base = done(tmp_path, "base")
    sft = done(tmp_path, "sft", {"base": base})
    for path in sorted(base.path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(ValueError, match=f"its parent base \\({base.id}\\) is gone"):
        lineage(sft)
    done(tmp_path, "base", text="other")
    with pytest.raises(ValueError, match="no longer the one it was made from"):
        lineage(sft)


def test_equal_rows_are_written_as_equal_bytes(tmp_path: Path):
    files.write_jsonl(tmp_path / "a", [{"b": 0.1, "a": "é"}, {"c": [1, None]}])
    assert (tmp_path / "a").read_text() == '{"a":"é","b":0.1}\n{"c":[1,null]}\n'
    assert files.read_jsonl(tmp_path / "a") == [{"a": "é", "b": 0.1}, {"c": [1, None]}]
    (tmp_path / "a").write_text('{"a": 1}\n\n3\n')
    with pytest.raises(ValueError, match="line 3: must be a JSON object, not int"):
        files.read_jsonl(tmp_path / "a")


def test_a_start_of_small_parents_takes_milliseconds(tmp_path: Path):
    parents = {f"p{n}": done(tmp_path, f"p{n}") for n in range(10)}
    began = time.perf_counter()
    start(tmp_path, "ppo", parents)
    assert time.perf_counter() - began < 1.0
