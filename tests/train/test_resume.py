"""Resuming: what a kill in the midst of saving leaves, which checkpoints are refused, and an exact base model."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from instructloop.train import checkpoint
from instructloop.train.checkpoint import Checkpoints
from instructloop.train.frozen import Frozen
from instructloop.train.language import PretrainConfig, pretrain
from instructloop.train.loop import _Saver
from tests.tiny import tiny_lm


def state(step: int) -> dict[str, Any]:
    return {"weights": torch.full((50,), float(step)), "step": step}


def die_at(operation: int, work: Callable[[], None]) -> bool:
    """Do `work` in a process that is killed before its n-th touch of the disk; return whether it was."""
    pid = os.fork()
    if pid == 0:
        try:
            _count_touches(operation)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _count_touches(last: int) -> None:
    """Kill this process when the disk is touched for the n-th time: written, synced, renamed or deleted."""
    done = []

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if len(done) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(None)
            return real(*arguments, **named)

        return call

    os.fsync = counted(os.fsync)
    Path.replace, Path.unlink, Path.open = counted(Path.replace), counted(Path.unlink), counted(Path.open)
    checkpoint._Hashing.write = counted(checkpoint._Hashing.write)


def test_a_kill_at_any_touch_of_the_disk_leaves_the_state_before_or_the_one_after(tmp_path: Path):
    left = set[int]()
    for operation in range(100):
        checkpoints = Checkpoints(tmp_path / str(operation), "r01-a-00000000")
        for step in (1, 2):
            checkpoints.save(step, state(step))
        was_killed = die_at(operation, lambda held=checkpoints: held.save(3, state(3)))
        step, loaded = checkpoints.load() or (0, {})
        left.add(step)
        assert loaded["step"] == step
        assert torch.equal(loaded["weights"], state(step)["weights"])
        checkpoints.save(4, state(4))  # what the dead process left is swept away
        assert {path.suffix for path in checkpoints.folder.iterdir()} == {".json", ".pt"}
        assert len(list(checkpoints.folder.iterdir())) == 4
        if not was_killed:
            break
    assert not was_killed
    assert operation > 8
    assert left == {2, 3}


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def relabelled(path: Path) -> None:
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(record | {"step": 6}))


def torn_record(path: Path) -> None:
    path.with_suffix(".json").write_text('{"step": 7, "own')


def empty_record(path: Path) -> None:
    path.with_suffix(".json").write_text("{}")


DAMAGE = [
    (flipped, r"00000007\.pt is damaged: its content is not what was written\. Delete 00000007\.pt and 00000007\.json"),
    (truncated, r"00000007\.pt is damaged: \d+ of \d+ bytes are there"),
    (Path.unlink, r"00000007\.pt is damaged: 0 of \d+ bytes are there"),
    (relabelled, r"00000007\.pt was renamed: it was written after step 6"),
    (torn_record, r"00000007\.json is damaged: it is no JSON"),
    (empty_record, r"00000007\.json is damaged: it must hold step, owner, sha256, bytes"),
]


@pytest.mark.parametrize(("damage", "complaint"), DAMAGE, ids=[one.__name__ for one, _ in DAMAGE])
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_there(tmp_path: Path, damage, complaint: str):
    checkpoints = Checkpoints(tmp_path, "r01-a-00000000")
    for step in (5, 7):
        checkpoints.save(step, state(step))
    damage(tmp_path / "00000007.pt")
    with pytest.raises(ValueError, match=complaint):
        checkpoints.load()
    for suffix in (".pt", ".json"):  # what the message tells one to do
        (tmp_path / f"00000007{suffix}").unlink(missing_ok=True)
    assert checkpoints.load()[1]["step"] == 5


def test_files_of_others_in_the_folder_are_no_checkpoints(tmp_path: Path):
    (tmp_path / "notes.json").write_text("[]")
    assert Checkpoints(tmp_path, "a").load() is None


def test_a_disk_that_fills_up_within_the_state_is_an_error_of_the_disk(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save(1, state(1))
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system: a file that no byte fits in")
    (tmp_path / "00000002.partial").symlink_to("/dev/full")
    many = {str(i): torch.zeros(10_000) for i in range(4)}  # past every buffer: torch itself meets the error
    with pytest.raises(OSError, match=r"No space left on device while writing: '.*00000002\.pt'"):
        checkpoints.save(2, many)
    assert checkpoints.load()[0] == 1


def saved_parts(folder: Path, **parts: Any) -> Checkpoints:
    checkpoints = Checkpoints(folder, "a")
    _Saver(checkpoints, parts, 0.0).save(2)
    return checkpoints


def test_a_checkpoint_with_other_parts_or_shapes_is_refused_by_name(tmp_path: Path):
    checkpoints = saved_parts(tmp_path, model=nn.Linear(2, 2), ref=Frozen(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"00000002\.pt holds model, ref; this run needs model$"):
        checkpoints.restore({"model": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match=r"00000002\.pt does not fit this run, model: (.|\n)*size mismatch"):
        checkpoints.restore({"model": nn.Linear(3, 2), "ref": Frozen(nn.Linear(2, 2))})


def test_a_network_that_is_only_read_must_be_the_same_to_the_last_bit(tmp_path: Path):
    ref, model = tiny_lm(width=16)[0], nn.Linear(2, 2)
    checkpoints = saved_parts(tmp_path, model=model, ref=Frozen(ref))
    assert checkpoints.restore({"model": model, "ref": Frozen(tiny_lm(width=16)[0])}) == 2
    weight = next(ref.parameters())
    weight.data[0, 0] = torch.nextafter(weight.data[0, 0], torch.tensor(9.0))
    with pytest.raises(ValueError, match=r"00000002\.pt does not fit this run, ref: .* network of other weights"):
        checkpoints.restore({"model": model, "ref": Frozen(ref)})


def test_the_hash_of_a_network_tells_names_types_and_shapes_apart():
    model = nn.Linear(4, 1, bias=False)
    nn.init.zeros_(model.weight)
    wide = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(wide.weight)
    named = nn.Sequential(model)
    half = nn.Linear(8, 1, bias=False).to(torch.bfloat16)
    nn.init.zeros_(half.weight)  # the same sixteen zero bytes
    scalar = nn.Module()
    scalar.bias = nn.Parameter(torch.tensor(0.0))
    assert len({Frozen(one).sha256 for one in (model, wide, named, half, scalar)}) == 5


def test_what_the_run_wrote_is_on_the_disk_before_the_checkpoint_that_presumes_it(tmp_path: Path, monkeypatch):
    """A power cut takes what was not synced: an epoch's model would be torn, and the resumed run would not mend it."""
    (tmp_path / "epochs").mkdir()
    (tmp_path / "epochs" / "model").write_text("weights")
    synced = list[str]()
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name), real(fd))
    )
    saved_parts(tmp_path / "checkpoints", model=nn.Linear(1, 1))
    assert synced[:2] == ["model", "00000002.partial"]


class Stop(Exception):
    """A crash, as a test plants it."""


def test_a_base_model_that_dies_after_every_step_is_the_one_that_never_died(new_run, monkeypatch: pytest.MonkeyPatch):
    config = PretrainConfig(
        context=8,
        batch_rows=3,
        num_steps=5,
        lr=0.01,
        matrix_lr=0.02,
        warmup_steps=2,
        decay_from=0.5,
        adam_betas=(0.9, 0.95),
        weight_decay=0.1,
        max_grad_norm=1.0,
        seed=2,
        log_every=2,
    )
    tokens_N = torch.arange(200) % 28

    def trained(run) -> dict[str, torch.Tensor]:
        model = tiny_lm(width=16, dropout=0.2)[0]
        torch.manual_seed(len(run.manifest.resumed))  # where the global generator stands must not matter
        pretrain(model, tokens_N, config, run, track=None)
        return model.state_dict()

    undisturbed = new_run(number=1)
    expected = trained(undisturbed)
    real = _Saver.save

    def save_and_die(self: _Saver, step: int) -> None:
        real(self, step)
        raise Stop

    monkeypatch.setattr(_Saver, "is_due", lambda _: True)
    monkeypatch.setattr(_Saver, "save", save_and_die)
    for _ in range(5):
        with pytest.raises(Stop):
            trained(new_run(number=2))
    run = new_run(number=2)
    found = trained(run)  # from the checkpoint after the last step
    assert len(run.manifest.resumed) == 5
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for row, same in zip(run.metrics(), undisturbed.metrics(), strict=True):
        assert {k: v for k, v in row.items() if k[:5] not in ("perf/", "time/")} == {
            k: v for k, v in same.items() if k[:5] not in ("perf/", "time/")
        }
