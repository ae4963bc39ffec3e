"""Fold long pasted texts to a short mark in the input line and unfold them when it is sent. Knows text only."""

from __future__ import annotations

from dataclasses import dataclass, field

FOLD_LINES = 8  # more lines than these are folded
LINE_CHARACTERS = 250  # that count as a line at least: a file may be one line
PREVIEW_CHARACTERS = 24


@dataclass
class Pastes:
    """Marks and the texts they stand for, as long as the program runs."""

    texts: dict[str, str] = field(default_factory=dict)

    def fold(self, text: str, most_lines: int = FOLD_LINES) -> str:
        """`text`, or a mark for it if it is long; the same text keeps its mark."""
        lines = text.rstrip("\n").count("\n") + 1
        if lines <= most_lines and len(text) <= most_lines * LINE_CHARACTERS:
            return text
        for mark, known in self.texts.items():
            if known == text:
                return mark
        first = next((line.strip() for line in text.splitlines() if line.strip()), "")
        first = "".join(c for c in first if c.isprintable() and c not in "[]")
        preview = first if len(first) <= PREVIEW_CHARACTERS else first[:PREVIEW_CHARACTERS].rstrip() + "…"
        size = f"{lines:,} lines" if lines > most_lines else f"{len(text):,} characters"
        mark = f"[paste {len(self.texts) + 1}: {size}, {preview}]"
        self.texts[mark] = text
        return mark

    def unfold(self, text: str) -> str:
        """`text` with every mark replaced by what it stands for; marks inside of pasted text stay as they are."""
        parts: list[str] = []
        while text:
            found = [(text.find(mark), mark) for mark in self.texts if mark in text]
            if not found:
                break
            at, mark = min(found)
            parts += [text[:at], self.texts[mark]]
            text = text[at + len(mark) :]
        return "".join([*parts, text])

    def mark_before(self, text: str) -> str | None:
        """The mark that `text` ends with, which goes as a whole."""
        return next((mark for mark in self.texts if text.endswith(mark)), None)

    def mark_after(self, text: str) -> str | None:
        """The mark that `text` begins with."""
        return next((mark for mark in self.texts if text.startswith(mark)), None)

    def ends_around(self, text: str, at: int) -> tuple[int, int] | None:
        """Where the mark begins and ends that the place `at` is inside of."""
        for mark in self.texts:
            start = text.find(mark, max(0, at - len(mark) + 1))
            if 0 <= start < at:
                return start, start + len(mark)
        return None
