"""What the page shows of a guard against over-optimisation."""

import html
import re

import pytest

from instructloop.evals.report import render
from instructloop.evals.report_schema import checked

WARNING = "over-optimisation at iteration 30, 6.0 nats from the reference: the held-out score fell"


def guard(warnings: list[str]) -> dict:
    found = [(10, 2.0, 0.5, 0.4), (20, 4.0, 0.9, 1.0), (30, 6.0, 0.3, 1.6)]
    checks = [
        {
            "iteration": iteration,
            "kl": kl,
            "score": score,
            "train_score": train_score,
            "length": 9.5,
            "repetition": 0.125,
            "eos_fraction": 0.75,
        }
        for iteration, kl, score, train_score in found
    ]
    return {"checks": checks, "best_iteration": 20, "best_score": 0.9, "warnings": warnings}


def section(report: dict) -> str:
    page = render(report)
    (found,) = re.findall(r'<section[^>]* id="drift".*?</section>', page, flags=re.S)
    return found


@pytest.mark.parametrize("warnings", [[], [WARNING]])
def test_held_out_and_trained_score_stand_over_kl_with_what_the_guard_said(real_report: dict, warnings: list[str]):
    real_report["guards"] = {"ppo_ptx": guard(warnings)}
    shown = section(real_report)
    text = html.unescape(re.sub(r"<[^>]+>", "|", shown))
    assert "Held-out and trained score over KL" in text
    assert "PPO-ptx: the held-out score is highest, 0.90, at 4.0 nats." in text
    assert (f"PPO-ptx: {WARNING}" in text) == bool(warnings)
    row = [cell.strip() for cell in re.split(r"[|\s]*\|[|\s]*", text[text.index("20 (best)") :])[:7]]
    assert row == ["20 (best)", "4.0", "0.90", "1.00", "9.5", "12.5", "75.0"]


def test_a_report_without_a_guard_has_no_word_of_one(real_report: dict):
    assert "Held-out and trained" not in section(real_report)


def test_a_guard_whose_best_is_none_of_its_checks_is_refused(real_report: dict):
    real_report["guards"] = {"ppo_ptx": guard([]) | {"best_iteration": 15}}
    with pytest.raises(ValueError, match="best_iteration 15 is none of the checks"):
        checked(real_report)
