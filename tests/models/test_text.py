"""Prompts and completions become ids, and masks are born with them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instructloop.models.text import Text, length_sorted_batches
from tests.tiny import tiny_tokenizer

BEGIN_TWICE = "{{ bos_token }}{{ bos_token }}{{ messages[0].content }}"
CHAT = (
    "{% for m in messages %}{{ '<|begin|>' + m.role + ':' + m.content + '<|pad|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|begin|>assistant:' }}{% endif %}"
)


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_a_completion_ends_with_its_eos_and_decodes_to_itself(pad_is_eos: bool):
    text = Text(tiny_tokenizer(pad_is_eos=pad_is_eos))
    ids = text.completion_ids("The dog says  woof.\n")
    assert ids[-1] == text.eos_id == 0
    assert 0 not in ids[:-1]
    assert text.decode(ids) == text.decode([*ids, *ids]) == "The dog says  woof.\n"
    assert text.completion_ids("", close=True) == [0]
    assert text.completion_ids("a", close=False) == text.completion_ids("a")[:-1]


def test_the_text_of_eos_inside_a_completion_is_no_eos():
    text = Text(tiny_tokenizer())
    ids = text.completion_ids("say <|end|> loudly")
    assert ids.count(text.eos_id) == 1
    assert text.decode(ids) == "say <|end|> loudly"


def test_the_plain_template_is_prompt_newline_completion_eos():
    text = Text(tiny_tokenizer())
    plain = text.tokenizer.encode("What?\n", add_special_tokens=False)
    assert text.prompt_ids("What?") == plain
    assert text.bos_id is None
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "woof"}]
    rendered = text.tokenizer.apply_chat_template(turns, tokenize=False)
    assert rendered == "What?\nwoof<|end|>"  # others, who only have the saved template, format alike


def test_there_is_exactly_one_bos_where_bos_is_used():
    text = Text(tiny_tokenizer(bos=True))
    assert text.prompt_ids("What?").count(2) == 1
    assert text.prompt_ids("What?")[0] == text.document_ids("What?")[0] == 2
    assert 2 not in text.completion_ids("What?")
    template_without = Text(tiny_tokenizer(bos=True, chat_template="{{ messages[0].content }}"))
    assert template_without.prompt_ids("What?")[:2].count(2) == 1


def test_a_template_with_two_bos_is_refused():
    with pytest.raises(ValueError, match="BOS twice"):
        Text(tiny_tokenizer(bos=True, chat_template=BEGIN_TWICE))


def test_a_chat_template_is_applied_and_its_turn_end_closes_completions():
    text = Text(tiny_tokenizer(chat_template=CHAT), stop_ids=[1])
    assert text.tokenizer.decode(text.prompt_ids("Hi")) == "<|begin|>user:Hi<|pad|><|begin|>assistant:"
    assert text.stop_ids == (0, 1)
    assert text.eos_id == 1  # <|pad|> ends the turn in this template, not the tokenizer's EOS
    assert text.decode([50, 1, 51]) == text.decode([50, 0, 51]) == text.decode([50])


def test_a_tokenizer_that_splits_or_lacks_its_eos_is_refused():
    split = tiny_tokenizer()
    split.encode = lambda *_, **__: [5, 6, 7]
    with pytest.raises(ValueError, match=r"reads its eos_token '<\|end\|>' as \[5, 6, 7\]"):
        Text(split)
    none = tiny_tokenizer()
    none.eos_token = None
    with pytest.raises(ValueError, match="no eos_token"):
        Text(none)


def test_a_long_prompt_loses_whole_lines_at_its_start():
    text = Text(tiny_tokenizer())
    prompt = "first line\nsecond line\nlast"
    whole = len(text.prompt_ids(prompt))
    assert text.prompt_ids(prompt, max_tokens=whole) == text.prompt_ids(prompt)
    assert text.prompt_ids(prompt, max_tokens=whole - 1) == text.prompt_ids("second line\nlast")
    assert text.prompt_ids(prompt, max_tokens=7) == text.prompt_ids("last")


def test_a_long_line_loses_words_then_characters():
    text = Text(tiny_tokenizer())
    words = len(text.prompt_ids("two xxxxxxx"))
    assert text.prompt_ids("one two xxxxxxx", max_tokens=words) == text.prompt_ids("two xxxxxxx")
    assert text.prompt_ids("x" * 50, max_tokens=4) == text.prompt_ids("xxx")
    with pytest.raises(ValueError, match="max_tokens 0"):
        text.prompt_ids("x", max_tokens=0)


def test_padding_puts_prompts_left_and_completions_right():
    text = Text(tiny_tokenizer())
    tokens_BT, attention_BT, mask_BC = text.pad_left_right([[5], [6, 7, 8]], [[9, 0], [0]])
    assert tokens_BT.tolist() == [[1, 1, 5, 9, 0], [6, 7, 8, 0, 1]]
    assert attention_BT.int().tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert mask_BC.int().tolist() == [[1, 1], [1, 0]]


def test_masks_do_not_depend_on_the_pad_id():
    rows = [[5, 6], [7]], [[9, 0], [0]]
    apart, same = Text(tiny_tokenizer()), Text(tiny_tokenizer(pad_is_eos=True))
    for one, other in zip(apart.pad_left_right(*rows)[1:], same.pad_left_right(*rows)[1:], strict=True):
        assert one.equal(other)


def test_an_empty_prompt_is_refused_and_an_empty_completion_is_not():
    text = Text(tiny_tokenizer())
    with pytest.raises(ValueError, match="empty prompt"):
        text.pad_left_right([[]], [[5]])
    assert text.pad_left_right([[5]], [[]])[2].shape == (1, 0)


def test_tokenizers_that_differ_only_in_a_pad_token_are_alike():
    text = Text(tiny_tokenizer())
    text.require_same_ids(Text(tiny_tokenizer(pad_is_eos=True)))
    other = tiny_tokenizer()
    other.add_tokens(["zebra"])
    with pytest.raises(ValueError, match="zebra"):
        text.require_same_ids(Text(other))


def test_newline_ids_are_those_whose_text_holds_one():
    text = Text(tiny_tokenizer())
    assert set(text.completion_ids("\n", close=False)) <= set(text.newline_ids)
    assert not set(text.completion_ids("The dog barks.", close=False)) & set(text.newline_ids)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100))
def test_batches_hold_every_row_once_and_stay_in_their_budget(lengths, max_tokens):
    batches = list(length_sorted_batches(lengths, max_tokens=max_tokens))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_tokens
