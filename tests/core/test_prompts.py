"""Cleaning: nothing is lost uncounted, users stay together and never move, personal data leaves the training split."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instructloop.core.pii import contains_pii
from instructloop.core.prompts import (
    Kept,
    cap_per_user,
    clean,
    deduplicate,
    drop_pii,
    normalise,
    normalise_prompts,
    split_by_user,
    split_of,
)
from instructloop.core.records import Prompt

THIRDS = {"train": 0.6, "valid": 0.2, "test": 0.2}


def prompt(text: str, user: str = "u1", source: str = "customer") -> Prompt:
    return Prompt.make(text, source=source, user=user)


def texts(kept: Kept) -> list[str]:
    return [each.text for each in kept.prompts]


def organisation(each: Prompt) -> str:
    return each.user.split("/")[0]


def share_prefix(first: str, second: str, length: int) -> bool:
    """Say whether two texts are equal or begin alike, whatever their case and blanks: the rule, pair by pair."""
    one, other = (" ".join(text.split()).casefold() for text in (first, second))
    return one == other or (min(len(one), len(other)) >= length and one[:length] == other[:length])


WRITTEN = st.lists(
    st.builds(
        prompt,
        st.one_of(
            st.text(max_size=30),
            st.sampled_from(["Write a poem", "write  a\tpoem ", "Mail ann@example.org", "  ", "Name ten cats, please"]),
        ),
        user=st.sampled_from(["u1", "u2", "u3"]),
    ),
    max_size=25,
)


# --- normalise ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "clean_text"),
    [
        ("  Hello \r\nthere\r \n", "Hello\nthere"),
        ("old\rMac", "old\nMac"),
        ("e\u0301t\u00e9", "\u00e9t\u00e9"),  # NFC composes
        ("a\x00b\x07c", "abc"),
        ("if x:\n\treturn  y", "if x:\n\treturn  y"),  # code keeps its indentation
        ("x\u00b2 \ufb01n", "x\u00b2 \ufb01n"),  # NFKC would make it x2 fin
        ("\ud800ok", "ok"),
        (" \x0b\u2003\n", ""),
    ],
)
def test_normalise_by_hand(raw: str, clean_text: str):
    assert normalise(raw) == clean_text


@settings(deadline=None)
@given(st.text())
def test_normalising_twice_is_normalising_once(text: str):
    once = normalise(text)
    assert normalise(once) == once
    assert once == once.strip()
    once.encode()  # can be written to a file


def test_the_id_follows_the_text_and_the_rest_stays():
    raw = replace(Prompt.make(" Hi ", source="labeler", user="u", kind="few_shot", category="chat"), split="valid")
    [kept] = normalise_prompts([raw]).prompts
    assert kept == Prompt.make("Hi", source="labeler", user="u", split="valid", kind="few_shot", category="chat")
    untouched = replace(kept, id="prompt-imported")
    assert normalise_prompts([untouched]).prompts == [untouched]


# --- duplicates ---------------------------------------------------------------------------------------------------


def test_prompts_that_share_a_long_prefix_are_one_and_the_first_stays():
    kept = deduplicate(
        [prompt("Translate to French: cat"), prompt("Translate to French: dog"), prompt("Translate to Greek: cat")],
        prefix_characters=16,
    )
    assert texts(kept) == ["Translate to French: cat", "Translate to Greek: cat"]
    assert kept.dropped == {"duplicate": 1}


def test_the_shared_prefix_must_be_as_long_as_asked():
    pair = [prompt("abcdefgh-1"), prompt("abcdefgh-2")]
    assert len(deduplicate(pair, prefix_characters=9).prompts) == 1
    assert len(deduplicate(pair, prefix_characters=10).prompts) == 2


def test_a_short_prompt_is_a_duplicate_of_an_equal_one_only():
    kept = deduplicate([prompt("Write"), prompt("Write a poem"), prompt("write ", user="u2")], prefix_characters=10)
    assert texts(kept) == ["Write", "Write a poem"]


def test_letter_case_and_blanks_do_not_make_a_prompt_new():
    kept = deduplicate([prompt("Name  three\nrivers"), prompt("name three RIVERS")], prefix_characters=100)
    assert texts(kept) == ["Name  three\nrivers"]


@settings(deadline=None)
@given(WRITTEN, st.integers(1, 12))
def test_after_deduplication_no_two_prompts_share_the_prefix(prompts: list[Prompt], length: int):
    kept = deduplicate(prompts, prefix_characters=length)
    assert not any(share_prefix(*pair, length) for pair in combinations(texts(kept), 2))
    assert deduplicate(kept.prompts, prefix_characters=length) == Kept(kept.prompts)


# --- cap ----------------------------------------------------------------------------------------------------------


def test_the_cap_keeps_the_first_of_each_user():
    prompts = [prompt(f"{user} {i}", user=user) for i in range(4) for user in ("ann", "bob")]
    kept = cap_per_user([*prompts, prompt("one", user="cid")], limit=3)
    assert Counter(each.user for each in kept.prompts) == {"ann": 3, "bob": 3, "cid": 1}
    assert texts(kept)[:2] == ["ann 0", "bob 0"]
    assert kept.dropped == {"over_cap": 2}


def test_two_hundred_a_user_are_kept_and_the_next_is_not():
    kept = cap_per_user([prompt(str(i)) for i in range(201)], limit=200)
    assert len(kept.prompts) == 200
    assert "200" not in texts(kept)


def test_the_cap_may_count_by_organisation():
    prompts = [prompt(str(i), user=f"acme/{i}") for i in range(5)]
    assert len(cap_per_user(prompts, limit=2).prompts) == 5
    assert len(cap_per_user(prompts, limit=2, key=organisation).prompts) == 2


@pytest.mark.parametrize(("step", "name"), [(cap_per_user, "limit"), (deduplicate, "prefix_characters")])
def test_a_limit_of_nothing_is_refused(step, name: str):
    with pytest.raises(ValueError, match=f"{name} 0"):
        step([prompt("x")], **{name: 0})


# --- split --------------------------------------------------------------------------------------------------------


def test_all_prompts_of_a_user_are_in_one_split():
    prompts = [prompt(str(i), user=f"u{i % 30}") for i in range(600)]
    splits = {(each.user, each.split) for each in split_by_user(prompts, fractions=THIRDS, seed=1)}
    assert len(splits) == 30
    assert {split for _, split in splits} == {"train", "valid", "test"}


@settings(deadline=None)
@given(WRITTEN, WRITTEN)
def test_adding_prompts_never_moves_a_user(before: list[Prompt], added: list[Prompt]):
    alone = split_by_user(before, fractions=THIRDS, seed=3)
    together = split_by_user([*added, *before], fractions=THIRDS, seed=3)
    assert together[len(added) :] == alone


def test_a_split_by_organisation_keeps_its_users_together():
    prompts = [prompt("x", user=f"org{i % 20}/user{i}") for i in range(200)]
    split = split_by_user(prompts, fractions=THIRDS, seed=1, key=organisation)
    assert len({(organisation(each), each.split) for each in split}) == 20
    assert len({each.split for each in split}) == 3


def test_the_split_is_the_same_in_every_process():
    code = "from instructloop.core.prompts import split_of\nf = {'train': .6, 'valid': .2, 'test': .2}\n"
    code += "print([split_of(str(i), fractions=f, seed=5) for i in range(40)])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert other.stdout.strip() == str([split_of(str(i), fractions=THIRDS, seed=5) for i in range(40)])


def test_the_shares_of_users_are_those_asked_for():
    counts = Counter(split_of(f"user-{i}", fractions=THIRDS, seed=0) for i in range(10_000))
    # Binomial standard deviations are at most 49 users; four of them.
    assert counts["train"] == pytest.approx(6000, abs=200)
    assert counts["valid"] == pytest.approx(2000, abs=160)
    assert counts["test"] == pytest.approx(2000, abs=160)


def test_another_seed_is_another_split():
    first, second = ([split_of(str(i), fractions=THIRDS, seed=seed) for i in range(200)] for seed in (1, 2))
    agreeing = sum(a == b for a, b in zip(first, second, strict=True))
    assert 60 < agreeing < 116  # independent draws agree on .6^2 + 2 * .2^2 = 44 % of users, 88 of 200, sd 7


SHARES = st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any)


@settings(deadline=None)
@given(SHARES, st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.integers())
def test_any_user_has_a_split_with_a_share_and_always_the_same(shares: list[int], user: str, seed: int):
    fractions = {split: share / sum(shares) for split, share in zip(THIRDS, shares, strict=True)}
    split = split_of(user, fractions=fractions, seed=seed)
    assert fractions[split] > 0.0
    assert split_of(user, fractions=dict(reversed(fractions.items())), seed=seed) == split
    mine, strangers = prompt("mine", user=user), [prompt(f"not mine {i}", user=f"{user} {i}") for i in range(3)]
    for others in ([], strangers):
        found = split_by_user([*others, mine, mine], fractions=fractions, seed=seed)
        assert [each.split for each in found[-2:]] == [split, split]


def test_a_split_without_a_share_gets_nobody():
    fractions = {"train": 0.0, "valid": 0.0, "test": 1.0}
    assert {split_of(str(i), fractions=fractions, seed=1) for i in range(100)} == {"test"}
    assert {split_of(str(i), fractions={"train": 1.0}, seed=1) for i in range(100)} == {"train"}


def test_a_larger_training_share_only_adds_users_to_it():
    small, large = {"train": 0.5, "test": 0.5}, {"train": 0.7, "test": 0.3}
    for i in range(500):
        if split_of(str(i), fractions=small, seed=1) == "train":
            assert split_of(str(i), fractions=large, seed=1) == "train"


@pytest.mark.parametrize(
    "fractions",
    [{}, {"train": 0.5}, {"train": 1.5, "test": -0.5}, {"train": 0.5, "dev": 0.5}, {"train": 0.6, "test": 0.6}],
)
def test_fractions_that_are_none_are_refused(fractions):
    with pytest.raises(ValueError, match="fractions"):
        split_of("u", fractions=fractions, seed=1)


# --- personal data ------------------------------------------------------------------------------------------------


def test_personal_data_leaves_the_training_split_only():
    prompts = [
        replace(prompt(f"{split}: {text}"), split=split)
        for split in ("train", "valid", "test")
        for text in ("mail ann@example.org", "a poem")
    ]
    kept = drop_pii(prompts)
    assert [each.text for each in prompts if each not in kept.prompts] == ["train: mail ann@example.org"]
    assert kept.dropped == {"pii": 1}


def test_before_the_split_personal_data_cannot_be_dropped():
    with pytest.raises(ValueError, match="no split yet"):
        drop_pii([prompt("a poem")])


def test_another_detector_can_be_passed_in():
    prompts = [replace(prompt("about Ann"), split="train"), replace(prompt("about cats"), split="train")]
    assert texts(drop_pii(prompts, detector=lambda text: "Ann" in text)) == ["about cats"]


# --- the whole ----------------------------------------------------------------------------------------------------

WHOLE = {"prefix_characters": 12, "max_per_user": 3, "fractions": THIRDS, "seed": 2}


def test_each_prompt_is_dropped_for_its_first_reason_and_counted_once():
    user = next(f"u{i}" for i in range(100) if split_of(f"u{i}", fractions=THIRDS, seed=2) == "train")
    raw = ["Name ten cats", " name TEN cats\n", "\x00 ", "mail ann@example.org", "third prompt", "one over the cap"]
    kept = clean([prompt(text, user=user) for text in raw], **WHOLE)
    assert texts(kept) == ["Name ten cats", "third prompt"]
    assert kept.dropped == {"empty": 1, "duplicate": 1, "over_cap": 1, "pii": 1}
    assert {each.split for each in kept.prompts} == {"train"}


@settings(deadline=None)
@given(WRITTEN)
def test_kept_and_dropped_are_all_and_cleaning_twice_is_cleaning_once(prompts: list[Prompt]):
    kept = clean(prompts, **WHOLE)
    assert len(kept.prompts) + sum(kept.dropped.values()) == len(prompts)
    assert all(kept.dropped.values())
    assert clean(kept.prompts, **WHOLE) == Kept(kept.prompts)


@settings(deadline=None)
@given(WRITTEN, st.integers(1, 12), st.integers(1, 3), st.integers(0, 5))
def test_what_is_kept_obeys_every_rule_and_stands_in_the_order_given(
    prompts: list[Prompt], length: int, limit: int, seed: int
):
    numbered = [prompt(each.text, user=each.user, source=str(i)) for i, each in enumerate(prompts)]
    rules = {"prefix_characters": length, "max_per_user": limit, "fractions": THIRDS, "seed": seed}
    kept = clean(numbered, **rules).prompts
    positions = [int(each.source) for each in kept]
    assert positions == sorted(set(positions))
    assert max(Counter(each.user for each in kept).values(), default=0) <= limit
    assert not any(share_prefix(one.text, other.text, length) for one, other in combinations(kept, 2))
    assert len({(each.user, each.split) for each in kept}) == len({each.user for each in kept})
    assert not any(contains_pii(each.text) for each in kept if each.split == "train")
    assert all(each.text == normalise(numbered[place].text) for each, place in zip(kept, positions, strict=True))
    assert [each.id for each in kept] == [prompt(each.text, each.user, each.source).id for each in kept]


@settings(deadline=None)
@given(WRITTEN, WRITTEN)
def test_later_prompts_never_push_out_earlier_ones(before: list[Prompt], after: list[Prompt]):
    first = clean(before, **WHOLE).prompts
    assert clean([*before, *after], **WHOLE).prompts[: len(first)] == first


def test_cleaning_by_organisation_caps_and_splits_by_it_and_takes_another_detector():
    prompts = [prompt(f"{i} of {org}", user=f"{org}/{i}") for org in "abcdefghijklmnopqrst" for i in range(5)]
    kept = clean(prompts, **WHOLE, key=organisation, detector=lambda text: text.startswith("1 "))
    in_training = {organisation(each) for each in kept.prompts if each.split == "train"}
    assert len({(organisation(each), each.split) for each in kept.prompts}) == 20
    assert kept.dropped == {"over_cap": 40, "pii": len(in_training)}
