"""Fold long pasted texts to a short mark in the input line, and unfold them when it is sent."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_LINES = 8  # longer texts are folded
LINE_CHARACTERS = 250  # that count as a line, because a file may be one line
PREVIEW_CHARACTERS = 24


@dataclass
class Pastes:
    """The texts that were folded since the program started.

    Attributes:
        texts: the texts by their marks.
    """

    texts: dict[str, str] = field(default_factory=dict)

    def fold(self, text: str, max_lines: int = MAX_LINES) -> str:
        """`text`, or a mark for it if it is longer than `max_lines`; the same text always gets the same mark."""
        lines = text.rstrip("\n").count("\n") + 1
        if lines <= max_lines and len(text) <= max_lines * LINE_CHARACTERS:
            return text
        for mark, known in self.texts.items():
            if known == text:
                return mark
        first = next((line.strip() for line in text.splitlines() if line.strip()), "")
        first = "".join(character for character in first if character.isprintable() and character not in "[]")
        preview = first if len(first) <= PREVIEW_CHARACTERS else first[:PREVIEW_CHARACTERS].rstrip() + "…"
        size = f"{lines:,} lines" if lines > max_lines else f"{len(text):,} characters"
        mark = f"[paste {len(self.texts) + 1}: {size}, {preview}]"
        self.texts[mark] = text
        return mark

    def unfold(self, text: str) -> str:
        """`text` with each mark replaced by its text; marks inside of pasted texts stay."""
        parts: list[str] = []
        while text:
            found = [(text.find(mark), mark) for mark in self.texts if mark in text]
            if not found:
                break
            start, mark = min(found)
            parts += [text[:start], self.texts[mark]]
            text = text[start + len(mark) :]
        return "".join([*parts, text])

    def mark_before(self, text: str) -> str | None:
        """The mark that `text` ends with."""
        return next((mark for mark in self.texts if text.endswith(mark)), None)

    def mark_after(self, text: str) -> str | None:
        """The mark that `text` begins with."""
        return next((mark for mark in self.texts if text.startswith(mark)), None)

    def mark_around(self, text: str, position: int) -> tuple[int, int] | None:
        """Begin and end of the mark that a position in `text` is inside of."""
        for mark in self.texts:
            start = text.find(mark, max(0, position - len(mark) + 1))
            if 0 <= start < position:
                return start, start + len(mark)
        return None
