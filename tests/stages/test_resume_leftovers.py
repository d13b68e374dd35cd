"""What killed processes and full disks leave behind: swept away, and said with the name of the file."""

import errno
import re
import resource
from pathlib import Path

import pytest
from pydantic import BaseModel

from instructloop.console import Quiet
from instructloop.files import naming
from instructloop.models.lm import save_lm
from instructloop.models.scalar import ScalarModel
from instructloop.runs import Run
from instructloop.stages import engine
from instructloop.stages.prompts_file import write_rows
from instructloop.stages.round import Recipe
from instructloop.workspace import Workspace
from tests.tiny import tiny_lm

full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system: a file nothing fits in")


class Config(BaseModel):
    number: int


def start(root: Path) -> Run:
    return Run.start(root, "toy", name="one", round=1, config={"number": 1}, parents={})


def test_a_resumed_run_deletes_what_a_killed_process_left_half_written(tmp_path: Path):
    run = start(tmp_path)
    for name in (".manifest.json.1234.tmp", ".metrics.jsonl.99.tmp", "kept.tmp"):
        run.file(name).write_text("{")
    again = start(tmp_path)
    assert again.resumed
    assert sorted(path.name for path in again.path.iterdir()) == ["kept.tmp", "lock", "manifest.json"]


def test_checkpoints_of_a_run_that_was_done_when_it_was_killed_are_deleted(tmp_path: Path):
    workspace = Workspace.create(tmp_path, "toy")
    done = start(workspace.runs)
    done.file("result").write_text("1")
    done.finish("result")
    other = Run.start(workspace.runs, "toy", name="two", round=1, config={}, parents={})
    for run in (done, other):
        run.file("checkpoints").mkdir()
        run.file("checkpoints/00000001.pt").write_text("x")
    engine.run(workspace, lambda _: Recipe("toy", ()), Quiet())
    assert not done.file("checkpoints").exists()
    assert other.file("checkpoints/00000001.pt").exists()


@full
@pytest.mark.parametrize("file", ["tokenizer.json", "README.md"])
def test_a_disk_that_fills_up_within_a_model_is_an_error_of_the_disk_with_its_place(tmp_path: Path, file: str):
    """Rust libraries raise errors of their own there, and none says which file."""
    (tmp_path / file).symlink_to("/dev/full")
    model, text = tiny_lm(width=8)
    with pytest.raises(OSError, match=re.escape(f"No space left on device while writing: '{tmp_path}")) as lm:
        save_lm(model, text, tmp_path)
    with pytest.raises(OSError, match="No space left on device while writing"):
        ScalarModel.from_lm(model, text, seed=1)[0].save(tmp_path, text)
    assert lm.value.errno == errno.ENOSPC


def test_weights_that_are_cut_off_are_an_error_of_the_disk_too(tmp_path: Path):
    model, text = tiny_lm(width=8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # bytes of a file; 290 embeddings of 8 alone are 9,280
    try:
        with pytest.raises(OSError, match=re.escape(f"File too large while writing: '{tmp_path}")):
            save_lm(model, text, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@full
def test_a_disk_that_fills_up_within_rows_names_their_file(tmp_path: Path):
    (tmp_path / "rows.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device while writing: '.*rows\.jsonl'"):
        write_rows(tmp_path / "rows.jsonl", [{"a": 1}])


def test_only_errors_of_the_disk_are_renamed(tmp_path: Path):
    with pytest.raises(KeyError, match="os error"), naming(tmp_path):
        raise KeyError("(os error many)")
    with pytest.raises(OSError, match=r"^not a model$"), naming(tmp_path):
        raise OSError("not a model")
    with pytest.raises(PermissionError, match="Permission denied while writing: 'inner'"), naming(tmp_path):
        raise PermissionError(errno.EACCES, "no", "inner")
