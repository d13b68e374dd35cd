"""Scores of single completions against hand calculations, sacreBLEU, and the paper's released samples."""

import csv
import gzip
import math
import os
from pathlib import Path

import pytest
import sacrebleu

from instructloop.evals.scoring import best_f1, bleu, bleu_counts, entropy_bits, exact_match, f1, first_line

REPOSITORY = Path(__file__).parents[2]
DATA = Path(os.environ.get("INSTRUCTLOOP_DATA", REPOSITORY.parent / "shared" / "data"))


def paper_samples(task: str) -> list[dict[str, str]]:
    """Read the outputs that the paper's authors released, or skip."""
    path = DATA / "paper-samples" / f"{task}_samples.csv.gz"
    if not path.is_file():
        pytest.skip(f"no {path}: set INSTRUCTLOOP_DATA to the folder that holds paper-samples/")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_f1_is_the_harmonic_mean_of_shared_words():
    # {red, apples} against {red, fruit, apples}: precision 2/2, recall 2/3, F1 = 2 * 1 * (2/3) / (5/3) = .8
    assert f1("The red apples.", "red FRUIT, apples") == pytest.approx(0.8)


def test_a_repeated_word_is_shared_only_as_often_as_both_have_it():
    # 1 of 3 words against 1 of 1: F1 = 2 * (1/3) / (4/3) = .5
    assert f1("dog dog dog", "dog") == pytest.approx(0.5)


def test_an_empty_answer_agrees_only_with_an_empty_reference():
    assert (f1("", "the"), f1("", "dog"), f1("dog", "")) == (1.0, 0.0, 0.0)


def test_the_best_reference_counts():
    assert best_f1("blue", ["red", "blue sky", "blue"]) == 1.0
    assert exact_match("A Blue!", ["red", "blue"]) == 1.0
    assert exact_match("blue sky", ["red", "blue"]) == 0.0
    with pytest.raises(ValueError, match="at least one reference"):
        best_f1("blue", [])


def test_completions_are_cut_at_the_first_newline():
    assert first_line(" \n the hen \n Q: and then?") == "the hen"


@pytest.mark.parametrize(
    ("shares", "bits"), [((0.5, 0.5), 1.0), ((0.25, 0.75), 0.811278), ((1.0, 1e-300), 0.0), ((1.0,) * 8, 3.0)]
)
def test_entropy_of_known_distributions(shares: tuple[float, ...], bits: float):
    # H(1/4, 3/4) = .25 * 2 + .75 * log2(4/3) = .811278; a common factor (here e^-500) changes nothing
    assert entropy_bits([math.log(share) - 500 for share in shares]) == pytest.approx(bits, abs=1e-6)


def test_bleu_of_summed_counts_is_sacrebleus():
    texts = ["The cat sat on the mat today.", "There is a dog.", "No", ""]
    references = ["The cat sat on the mat.", "There was a dog here.", "Yes", "Something"]
    expected = sacrebleu.corpus_bleu(texts, [references]).score
    counts = [bleu_counts(text, [reference]) for text, reference in zip(texts, references, strict=True)]
    assert bleu(counts) == pytest.approx(expected, abs=1e-9)


def test_bleu_takes_the_best_of_several_references():
    both = ["The cat sat on the mat.", "A cat was sitting on a mat."]
    assert bleu([bleu_counts(both[1], both)]) == pytest.approx(100.0)


@pytest.mark.parametrize(("model", "expected"), [("gpt", 67.9), ("ppo-noptx", 48.0), ("ppo-ptx", 65.8), ("sft", 64.1)])
def test_f1_of_the_papers_own_squad_samples(model: str, expected: float):
    # 100 few-shot completions of the 175B models; .05 is the rounding of the printed value
    rows = [r for r in paper_samples("squadv2") if (r["model_type"], r["prompt_type"]) == (f"{model}-175b", "fewshot")]
    mean = 100 * sum(best_f1(row["sample"], row["ref_text"].split("|")) for row in rows) / len(rows)
    assert len(rows) == 100
    assert mean == pytest.approx(expected, abs=0.051)


@pytest.mark.parametrize(("model", "expected"), [("gpt", 35.9), ("ppo-noptx", 22.0), ("ppo-ptx", 30.7), ("sft", 33.3)])
def test_bleu_of_the_papers_own_translations(model: str, expected: float):
    rows = [
        r for r in paper_samples("fr_to_en") if (r["model_type"], r["prompt_type"]) == (f"{model}-175b", "zeroshot")
    ]
    counts = [bleu_counts(row["sample"], [row["ref_text"]]) for row in rows]
    assert len(rows) == 100
    assert bleu(counts) == pytest.approx(expected, abs=0.051)
