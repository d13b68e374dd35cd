"""Measuring: turns, medians, ratios of rounds, the memory of another process, dated files."""

import sys
from pathlib import Path

import pytest

from benchmarks.measuring import Times, alternating, commit, latest, machine, peak_bytes, rates, ratio, write


def test_arms_run_in_turns_and_every_second_round_backwards():
    order = []
    arms = {name: lambda name=name: order.append(name) for name in "ab"}
    found = alternating(arms, repeats=3, warm_ups=1)
    assert "".join(order) == "ba" + "ab" + "ba" + "ab"
    assert [len(times.seconds) for times in found.values()] == [3, 3]  # the warm-up does not count


def test_seconds_that_an_arm_returns_count_instead_of_those_of_the_call():
    given = iter([9.0, 1.0, 3.0, 2.0])
    found = alternating({"a": lambda: next(given)}, repeats=3)
    assert found["a"].seconds == (1.0, 3.0, 2.0)
    assert found["a"].median == 2.0
    assert found["a"].record() == {"median": 2.0, "min": 1.0, "max": 3.0, "repeats": 3, "seconds": [1.0, 3.0, 2.0]}


def test_a_ratio_is_of_medians_and_its_range_of_rounds():
    # medians 6 and 2; rounds 4/2, 6/1, 9/3
    assert ratio(Times((4.0, 6.0, 9.0)), Times((2.0, 1.0, 3.0))) == {"median": 3.0, "min": 2.0, "max": 6.0}


def test_no_repeats_are_refused():
    with pytest.raises(ValueError, match="repeats 0 must be at least 1"):
        alternating({}, repeats=0)


def test_the_peak_of_a_process_is_what_it_had_resident():
    empty, full = (
        peak_bytes([sys.executable, "-c", f"import time; kept = bytearray(b'x') * {size}; time.sleep(0.2)"])
        for size in (1, 100 << 20)
    )
    assert 95 << 20 < full - empty < 110 << 20


def test_a_process_that_fails_is_no_measurement():
    with pytest.raises(ValueError, match="ended with 3: no memory"):
        peak_bytes([sys.executable, "-c", "import sys; print('no memory', file=sys.stderr); sys.exit(3)"])


def test_rates_are_of_the_threads_that_torch_has():
    found = rates(side=64, num_bytes=1 << 16)
    assert found.threads == 1
    assert min(found.gigaflops("float32"), found.gigaflops("bfloat16"), found.copy_gigabytes) > 0


def test_a_result_has_a_name_with_its_minute_and_the_newest_is_found(tmp_path: Path):
    for day in (1, 2):
        write("made-up", {"date": f"2026-11-0{day}T10:05:00+00:00", "found": day}, tmp_path)
    write("made-up-other", {"date": "2026-12-01T00:00:00+00:00"}, tmp_path)
    assert (tmp_path / "made-up-2026-11-01-1005.json").is_file()
    assert latest("made-up", tmp_path) == {"date": "2026-11-02T10:05:00+00:00", "found": 2}
    assert latest("never-measured", tmp_path) is None


def test_what_is_said_of_the_machine_does_not_name_it():
    assert set(machine()) == {"processor", "cores", "memory_gibibytes", "python", "niceness", "load_average"}
    assert len(commit().rstrip("+")) in (0, *range(7, 13))
