"""The word tokenizer: text comes back exactly, a word of the corpus is one id, anything can be written."""

import pytest
from transformers import AutoTokenizer

from instructloop.models.text import Text
from instructloop.models.words import word_tokenizer

DOCUMENTS = ["the fox lives in the forest.", "where does anna live?\nanna lives in lenton.", "no, the cup is red!"]
TEXT = word_tokenizer(DOCUMENTS, vocabulary=300)


@pytest.mark.parametrize(
    "written",
    [*DOCUMENTS, "mail anna@mail.com or +1 202 555 0123.", "q: a zebra?\na: no.", "anna: anna.\nfox:", "a\nb\nc", ""],
)
def test_text_comes_back_exactly(written: str):
    assert TEXT.decode(TEXT.completion_ids(written)) == written


def test_a_word_of_the_corpus_is_one_id_and_another_goes_letter_by_letter():
    assert len(TEXT.completion_ids("the fox lives", close=False)) == 3
    assert len(TEXT.completion_ids("zebra", close=False)) == 5


def test_a_line_break_is_one_id_and_hides_nothing_of_the_next_word():
    ids = TEXT.completion_ids("fox\nfox", close=False)
    assert len(ids) == 3
    assert ids[0] == ids[2]


def test_upper_case_is_read_as_lower():
    assert TEXT.completion_ids("Anna") == TEXT.completion_ids("anna")


def test_a_prompt_begins_with_bos_and_goes_on_as_one_document_would():
    prompt, completion = TEXT.prompt_ids("where does anna live?"), TEXT.completion_ids("anna lives in lenton.")
    assert prompt[0] == TEXT.bos_id
    assert prompt + completion == TEXT.document_ids("where does anna live?\nanna lives in lenton.")


def test_pad_and_end_differ():
    assert TEXT.pad_id != TEXT.eos_id
    assert TEXT.tokenizer.unk_token_id not in TEXT.completion_ids("zebra, 42!")


def test_a_saved_tokenizer_reads_alike(tmp_path):
    TEXT.tokenizer.save_pretrained(str(tmp_path))
    again = Text(AutoTokenizer.from_pretrained(str(tmp_path)))
    assert again.document_ids(DOCUMENTS[1]) == TEXT.document_ids(DOCUMENTS[1])
    assert again.prompt_ids("the fox?") == TEXT.prompt_ids("the fox?")


def test_the_vocabulary_is_bounded():
    # 4 special ids, 50 characters with and without a space before them, the space and the line break
    letters = 4 + 2 * 50 + 2
    small = word_tokenizer(["fox fox fox bear bear cow"], vocabulary=letters + 2)
    assert len(small.tokenizer) == letters + 2
    assert [len(small.completion_ids(word, close=False)) for word in ("fox", "bear", "cow")] == [1, 1, 3]
    with pytest.raises(ValueError, match="every letter is in it"):
        word_tokenizer(["fox"], vocabulary=letters)


def test_the_text_of_a_special_token_stays_text():
    assert TEXT.completion_ids("<eos>").count(TEXT.eos_id) == 1
