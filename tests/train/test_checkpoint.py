import errno

import pytest
import torch

from instructloop.train.checkpoint import Checkpoints


def state(value: float) -> dict:
    return {"weights": torch.full((3,), value), "step": 7, "name": "x", "nested": {"sums": [1.0, 2.0]}}


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path, "r01-a-00000000")
    checkpoints.save(3, state(0.1))
    step, loaded = checkpoints.load()
    assert step == 3
    assert torch.equal(loaded["weights"], torch.full((3,), 0.1))
    assert loaded["nested"] == {"sums": [1.0, 2.0]}


def test_without_a_checkpoint_there_is_nothing_to_load(tmp_path):
    assert Checkpoints(tmp_path / "none", "a").load() is None


def test_the_latest_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a")
    for step in (1, 2, 10):
        checkpoints.save(step, state(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000002.json",
        "00000002.pt",
        "00000010.json",
        "00000010.pt",
    ]
    assert checkpoints.load()[0] == 10


def test_a_damaged_checkpoint_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save(1, state(1.0))
    path = tmp_path / "00000001.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"00000001\.pt is damaged"):
        checkpoints.load()


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    Checkpoints(tmp_path, "a").save(1, state(1.0))
    with pytest.raises(ValueError, match="belongs to run a, not to b"):
        Checkpoints(tmp_path, "b").load()


def test_a_full_disk_leaves_the_last_checkpoint_and_no_rubbish(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save(1, state(1.0))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("instructloop.train.checkpoint.os.fsync", full)
    with pytest.raises(OSError, match=r"00000002\.pt"):
        checkpoints.save(2, state(2.0))
    assert checkpoints.load()[0] == 1
    assert not list(tmp_path.glob("*.partial"))


def test_weights_without_their_record_count_as_not_there(tmp_path):
    checkpoints = Checkpoints(tmp_path, "a")
    checkpoints.save(1, state(1.0))
    checkpoints.save(2, state(2.0))
    (tmp_path / "00000002.json").unlink()
    assert checkpoints.load()[0] == 1
