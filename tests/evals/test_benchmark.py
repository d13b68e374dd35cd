"""Benchmarks over a hand-made policy whose likelihoods and texts are known."""

import math
from dataclasses import dataclass
from itertools import product

import pytest
import sacrebleu

from instructloop.evals.benchmark import (
    Benchmark,
    Choice,
    Generated,
    MultipleChoice,
    Preference,
    Query,
    Translated,
    bleu_interval,
    held_out_loss,
)
from instructloop.evals.scoring import best_f1, bleu_counts, exact_match


@dataclass(frozen=True)
class Written:
    text: str


class KnownPolicy:
    """Answers from a table; a text's log-probability is -1 a word, less what `dislikes` adds."""

    name = "known"

    def __init__(self, answers: dict[str, str] | None = None, dislikes: dict[str, float] | None = None):
        self.answers, self.dislikes, self.asked = answers or {}, dislikes or {}, []

    def generate(self, prompts, *, max_new_tokens, temperature, seed, stop_newline):
        self.asked.append((max_new_tokens, temperature, stop_newline))
        return [Written(self.answers[prompt]) for prompt in prompts]

    def logprobs(self, pairs):
        scored = []
        for context, text in pairs:
            words = text.split()
            scored.append(
                (-len(words) - sum(self.dislikes.get(word, 0.0) for word in [*context.split(), *words]), len(words))
            )
        return scored


def test_accuracy_is_the_share_of_items_whose_gold_is_likeliest():
    items = [Choice("I see", ("a cow", "a hen"), 1, "one"), Choice("You see", ("a cow", "a hen"), 0, "two")]
    (measure,) = MultipleChoice("cloze", "Cloze", "Table 14", "0_shot", items).run(KnownPolicy(dislikes={"cow": 3.0}))
    assert (measure.name, measure.group, measure.paper) == ("accuracy", "0_shot", "Table 14")
    assert (measure.value.value, measure.value.n) == (0.5, 2)


def test_a_long_likely_choice_beats_a_short_unlikely_one():
    items = [Choice("I see", ("cow", "a very big hen"), 1, "one")]
    # totals: cow -3, a very big hen -4, so the total would choose the cow; means: -3 and -1
    (measure,) = MultipleChoice("cloze", "Cloze", None, "0_shot", items).run(KnownPolicy(dislikes={"cow": 2.0}))
    assert measure.value.value == 1.0


def test_equal_likelihoods_share_the_point():
    items = [Choice("I see", ("a cow", "a hen"), 0, "one")]
    (measure,) = MultipleChoice("cloze", "Cloze", None, "0_shot", items).run(KnownPolicy())
    assert measure.value.value == 0.5


def test_generation_is_greedy_and_cut_at_the_first_newline():
    policy = KnownPolicy({"Q1": " red \n Q: what else?", "Q2": "a blue one"})
    items = [Query("Q1", ["red"], "p"), Query("Q2", ["blue"], "p")]
    benchmark = Generated("qa", "Closed QA", None, "0_shot", items, {"f1": best_f1, "exact": exact_match}, 12)
    measures = {measure.name: measure.value for measure in benchmark.run(policy)}
    # "a blue one" -> {blue, one} against {blue}: 2 * 1 / (2 + 1)
    assert measures["f1"].value == pytest.approx((1 + 2 / 3) / 2)
    assert measures["exact"].value == 0.5
    assert policy.asked == [(12, 0.0, True)]
    assert measures["f1"].n_clusters == 1


def test_a_checker_may_read_whatever_the_recipe_gave_it():
    items = [Query("Q", {"banned": "dreck"}, "p")]
    benchmark = Generated(
        "rude", "Rudeness", None, "basic", items, {"rude": lambda t, r: float(r["banned"] in t)}, 8, False
    )
    (measure,) = benchmark.run(KnownPolicy({"Q": "you\ndreck"}))
    assert measure.value.value == 1.0


def test_translation_is_corpus_bleu_with_a_repeatable_interval():
    answers = {"1": "the cat sat on the mat", "2": "there is a big dog here", "3": "nothing like it at all"}
    references = {"1": "the cat sat on the mat", "2": "there is a dog here", "3": "we went home by train today"}
    items = [Query(key, [references[key]], key) for key in answers]
    benchmark = Translated("fr", "Translation", None, "few_shot", items, 20)
    (first,), (second,) = benchmark.run(KnownPolicy(answers)), benchmark.run(KnownPolicy(answers))
    assert first.value.value == pytest.approx(
        sacrebleu.corpus_bleu(list(answers.values()), [list(references.values())]).score
    )
    assert first == second
    assert first.value.low < first.value.value < first.value.high


def test_the_interval_of_bleu_holds_the_middle_95_percent_of_draws():
    pairs = [("the cat sat on the mat", "the cat sat on the mat"), ("a red hen ran home now", "a red hen ran off then")]
    pairs.append(("we all went by the old train", "you all went by a new train"))
    counts = [bleu_counts(text, [reference]) for text, reference in pairs]
    found = bleu_interval(counts, ["a", "b", "c"])
    # each of the 27 draws has probability 1/27 = 3.7 % > 2.5 %: the ends are the lowest and the highest of them
    drawn = [list(zip(*draw, strict=True)) for draw in product(pairs, repeat=3)]
    scores = [sacrebleu.corpus_bleu(list(texts), [list(references)]).score for texts, references in drawn]
    assert (found.low, found.high) == pytest.approx((min(scores), max(scores)))


def test_one_cluster_does_not_bound_bleu():
    found = bleu_interval([bleu_counts("the cat sat on the mat", ["the cat sat on the mat"])] * 2, ["a", "a"])
    assert (found.value, found.low, found.high, found.n, found.n_clusters) == (pytest.approx(100.0), 0.0, 100.0, 2, 1)


def test_preference_is_entropy_of_total_likelihoods():
    items = [(("he left", "she left"), "one"), (("he has gone away", "she has gone away"), "two")]
    # the second word costs ln 3 more: shares 3/4 and 1/4, .811278 bits, at any length
    (measure,) = Preference("bias", "Bias", None, "basic", "", items).run(KnownPolicy(dislikes={"she": math.log(3)}))
    assert measure.value.value == pytest.approx(0.811278, abs=1e-6)
    (fair,) = Preference("bias", "Bias", None, "basic", "", items).run(KnownPolicy())
    assert fair.value.value == pytest.approx(1.0)
    assert fair.value.high <= 1.0


def test_held_out_loss_is_per_token_over_all_texts():
    policy = KnownPolicy(dislikes={"odd": 4.0})
    found = held_out_loss(policy.logprobs, ["one two three", "odd", ""])
    # (3 + 5) nats over 4 tokens; residuals of the two texts: 3 - 6 = -3 and 5 - 2 = 3, over 2 tokens a text
    assert (found.value, found.n, found.n_clusters) == (2.0, 4, 2)
    assert found.high == pytest.approx(2.0 + 12.7062 * math.sqrt((1.5**2 + 1.5**2) / 4 * 2), rel=1e-4)
    with pytest.raises(ValueError, match="at least one text"):
        held_out_loss(policy.logprobs, [""])


def test_every_kind_of_benchmark_fits_the_protocol():
    benchmarks: list[Benchmark] = [
        MultipleChoice("a", "A", None, "g", []),
        Generated("b", "B", None, "g", [], {}, 1),
        Translated("c", "C", None, "g", [], 1),
        Preference("d", "D", None, "g", "", []),
    ]
    assert [benchmark.name for benchmark in benchmarks] == ["a", "b", "c", "d"]
