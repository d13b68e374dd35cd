"""Text of a model on a terminal: nothing that it says moves the cursor, changes colours or hides other text."""

from __future__ import annotations

import sys
import unicodedata

_JOINERS = "\u200c\u200d"  # emoji and several scripts need them
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, format (bidi and tags among it), surrogates, separators of lines


def visible(text: str) -> str:
    """Return a text whose control and format characters are signs (\u241b, <U+202E>); newline and tab are kept.

    Characters are replaced one by one, so that pieces of a text may be made visible as they come.
    """
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _UNSEEN:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's pictures of them
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"


def say(text: str, end: str = "\n") -> None:
    """Write text to standard output at once, made visible; what its encoding lacks is written as \\uXXXX."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(visible(text).encode(encoding, "backslashreplace").decode(encoding) + end)
    sys.stdout.flush()
