"""What the paper measured with its 175B models, to stand beside ours: each figure once, with its place."""

from __future__ import annotations

POLICIES = ("base", "base_prompted", "sft", "ppo", "ppo_ptx")  # GPT-3, GPT-3 prompted, SFT, PPO, PPO-ptx

DRAWN = "read off the drawing"
FIG_3 = f"Fig. 3, 175B, held-out labelers, {DRAWN}"
FIG_31 = f"Fig. 31, 175B, held-out labelers, {DRAWN}"
FIG_4 = f"Fig. 4, all sizes, {DRAWN}"
FIG_6 = f"Fig. 6, 175B, judged by people, {DRAWN}"
TABLE_14 = "Table 14, 175B"
TABLE_14_SWAPPED = "Table 14, 175B, automatic; the row printed as QA + instruct, since two row labels are swapped"

BY_POLICY: tuple[tuple[str, str, tuple[float | None, ...]], ...] = (
    ("win_rate_vs_sft", FIG_3, (0.252, 0.431, 0.500, 0.690, 0.708)),
    ("likert", FIG_31, (2.36, 3.77, 4.39, 5.50, 5.64)),
    # Fig. 4 draws "attempts correct instruction" and "appropriate for customer assistant": ours are their opposites
    ("flags.fails_instruction", FIG_4, (0.30, 0.21, 0.14, 0.08, 0.07)),
    ("flags.inappropriate_for_assistant", FIG_4, (0.19, 0.15, 0.12, 0.10, 0.10)),
    ("flags.satisfies_constraint", FIG_4, (0.22, 0.28, 0.34, 0.44, 0.43)),
    ("flags.hallucination", FIG_4, (0.45, 0.28, 0.08, 0.22, 0.16)),
    ("truthfulness.qa.true", FIG_6, (0.300, None, 0.515, 0.441, 0.436)),
    ("truthfulness.qa.true_and_informative", FIG_6, (0.239, None, 0.268, 0.314, 0.304)),
    ("truthfulness.instruction_qa.true", FIG_6, (0.567, None, 0.665, 0.782, 0.651)),
    ("truthfulness.instruction_qa.true_and_informative", FIG_6, (0.250, None, 0.284, 0.286, 0.310)),
    ("truthfulness.instruction.true", TABLE_14_SWAPPED, (0.438, None, 0.852, 0.944, 0.610)),
    ("truthfulness.instruction.true_and_informative", TABLE_14_SWAPPED, (0.242, None, 0.206, 0.588, 0.315)),
    ("rudeness.basic", f"{TABLE_14}, mean toxicity", (0.231, None, 0.211, 0.228, 0.234)),
    ("rudeness.respectful", f"{TABLE_14}, mean toxicity", (0.233, None, 0.199, 0.205, 0.196)),
    ("rudeness.biased", f"{TABLE_14}, mean toxicity", (0.285, None, 0.256, 0.427, 0.400)),
    ("bias_entropy_bits.basic", f"{TABLE_14}, Winogender", (0.735, None, 0.503, 0.618, 0.737)),
    ("bias_entropy_bits.respectful", f"{TABLE_14}, Winogender", (0.796, None, 0.479, 0.527, 0.696)),
    ("bias_entropy_bits.biased", f"{TABLE_14}, Winogender", (0.783, None, 0.540, 0.564, 0.690)),
    ("alignment_tax.hellaswag_0_shot", f"{TABLE_14}, HellaSwag", (0.781, None, 0.753, 0.743, 0.807)),
    ("alignment_tax.hellaswag_few_shot", f"{TABLE_14}, HellaSwag", (0.791, None, 0.741, 0.759, 0.820)),
    ("alignment_tax.squadv2_0_shot", f"{TABLE_14}, SQuADv2", (0.6430, None, 0.5767, 0.4368, 0.5985)),
    ("alignment_tax.squadv2_few_shot", f"{TABLE_14}, SQuADv2", (0.6975, None, 0.6590, 0.5195, 0.6993)),
    ("alignment_tax.drop_0_shot", f"{TABLE_14}, DROP", (0.2753, None, 0.1579, 0.1308, 0.1523)),
    ("alignment_tax.drop_few_shot", f"{TABLE_14}, DROP", (0.3527, None, 0.3585, 0.2778, 0.3334)),
    ("alignment_tax.quac_0_shot", f"{TABLE_14}, QuAC", (0.4255, None, 0.4522, 0.3452, 0.4160)),
    ("alignment_tax.quac_few_shot", f"{TABLE_14}, QuAC", (0.4538, None, 0.4877, 0.3600, 0.4699)),
    ("alignment_tax.fr_en_0_shot", f"{TABLE_14}, WMT15 Fr-En", (38.92, None, 36.90, 24.16, 34.28)),
    ("alignment_tax.fr_en_few_shot", f"{TABLE_14}, WMT15 Fr-En", (39.93, None, 35.07, 26.58, 36.76)),
)
"""Path in the report, source, and the values in the order of POLICIES; F1 as a share, BLEU 0..100."""

ALONE: tuple[tuple[str, str, float, float], ...] = (
    ("reward_model.accuracy_seen_labelers", "§4.1 and E.2, five folds of labelers", 0.724, 0.004),
    ("reward_model.accuracy_unseen_labelers", "§4.1 and E.2, five folds of labelers", 0.696, 0.009),
    ("agreement.train", "§3.4", 0.726, 0.015),
    ("agreement.heldout", "§3.4", 0.773, 0.013),
)
"""Path, section, value and its printed plus or minus."""

HALLUCINATION = ((0.37, 0.53), (0.21, 0.35), (0.04, 0.13), (0.14, 0.29), (0.10, 0.21))  # Fig. 4's intervals


def paper_results() -> dict[str, dict[str, float | str | None]]:
    """Return `paper` of report.json: dotted path of a field -> value, low, high, source."""
    figures: dict[str, dict[str, float | str | None]] = {}
    for path, source, values in BY_POLICY:
        for policy, value in zip(POLICIES, values, strict=True):
            if value is not None:
                figures[f"{path}.{policy}"] = {"value": value, "low": None, "high": None, "source": source}
    for policy, (low, high) in zip(POLICIES, HALLUCINATION, strict=True):
        figures[f"flags.hallucination.{policy}"] |= {"low": low, "high": high}
        figures[f"hallucination.{policy}"] = dict(figures[f"flags.hallucination.{policy}"])
    for path, section, value, reach in ALONE:
        figures[path] = {"value": value, "low": value - reach, "high": value + reach, "source": section}
    return figures
