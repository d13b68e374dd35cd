"""A completion's text while it is being sampled: what each further token adds, whole characters only."""

from __future__ import annotations

from instructloop.models.text import Text

_UNFINISHED = "\ufffd"  # what the bytes of half a character decode to


class Stream:
    """The text of one completion, token by token; the pieces that `add` and `rest` return make up `text`."""

    def __init__(self, text: Text, *, stop_newline: bool = False):
        self._text = text
        self._stop_newline = stop_newline
        self.ids: list[int] = []
        self._told = ""

    @property
    def text(self) -> str:
        """The completion so far, as `Policy.generate` returns it."""
        decoded = self._text.decode(self.ids)
        return decoded.split("\n")[0] if self._stop_newline else decoded

    def add(self, token: int) -> str:
        """Return what the token adds to what was told; "" while a character is half there."""
        self.ids.append(token)
        whole = self.text
        if whole.endswith(_UNFINISHED) or not whole.startswith(self._told):
            return ""
        return self._tell(whole)

    def rest(self) -> str:
        """Return what was held back; to be asked when the last token has come."""
        return self._tell(self.text)

    def _tell(self, whole: str) -> str:
        pairs = zip(whole, self._told, strict=False)
        num_same = next((i for i, (now, told) in enumerate(pairs) if now != told), min(len(whole), len(self._told)))
        self._told = whole
        return whole[num_same:]
