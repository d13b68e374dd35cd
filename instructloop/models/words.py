"""A word tokenizer for a closed world's text: each word of the corpus one id, other words letter by letter."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from instructloop.models.text import Text

SPECIAL = ("<unk>", "<bos>", "<eos>", "<pad>")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;?!'\"-@+()/"
_NEWLINE = "\u23ce"


def word_tokenizer(documents: Iterable[str], *, vocabulary: int) -> Text:
    """Return the Text of a tokenizer with at most `vocabulary` ids; it lowers case and uses BOS; pad differs from EOS.

    The most frequent words of `documents` are one id each, with the space before them; a line break is one id.
    Decoding gives lower-cased text back exactly, single spaces assumed.
    """
    letters = [*_LETTERS, "\u2581", *(f"\u2581{letter}" for letter in _LETTERS), f"\u2581{_NEWLINE}"]
    counts = Counter(word for document in documents for word in re.findall(r"[a-z]{2,}", document.lower()))
    room = vocabulary - len(SPECIAL) - len(letters)
    if room < 1:
        raise ValueError(f"vocabulary {vocabulary} must be over {len(SPECIAL) + len(letters)}: every letter is in it")
    words = sorted(counts, key=lambda word: (-counts[word], word))[:room]
    total = sum(counts.values())
    pieces = [(SPECIAL[0], 0.0)] + [(letter, -20.0) for letter in letters]
    pieces += [(f"\u2581{word}", math.log(counts[word] / total)) for word in words]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex(r"\n"), _NEWLINE)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_NEWLINE, "isolated"), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.Fuse(),
            decoders.Replace(Regex(f" ?{_NEWLINE} ?"), "\n"),
            decoders.Strip(" ", 1, 0),
        ]
    )
    unk, bos, eos, pad = SPECIAL
    # Not pieces of the model: their text, when somebody writes it, is letters like any other.
    tokenizer.add_special_tokens(list(SPECIAL))
    template = [(bos, tokenizer.token_to_id(bos))]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=template)
    return Text(
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unk, bos_token=bos, eos_token=eos, pad_token=pad)
    )
