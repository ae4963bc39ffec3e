"""Random Markdown as models write it, the same for the same seed."""

from __future__ import annotations

import random

WORDS = [
    *("window", "attention", "cache", "token", "layer", "ring", "key", "value", "`code_span`", "**bold**", "*slant*"),
    *("[link](https://example.org/x)", "滑动窗口注意力", "キャッシュ", "🎉", "naïve", "1,024", "<b>html</b>", "a|b"),
    *("~~gone~~", "supercalifragilisticexpialidocious"),
]


def sentence(seed: random.Random, most: int = 14) -> str:
    """A few words."""
    return " ".join(seed.choice(WORDS) for _ in range(seed.randint(1, most)))


def block(seed: random.Random) -> str:
    """One block of one kind."""
    kinds = [
        lambda: sentence(seed),
        lambda: sentence(seed) + "\n" + sentence(seed),
        lambda: "#" * seed.randint(1, 4) + " " + sentence(seed, 5),
        lambda: "\n".join(f"- {sentence(seed)}" for _ in range(seed.randint(1, 4))),
        lambda: "\n".join(f"{n}. {sentence(seed)}\n   - {sentence(seed, 4)}" for n in range(1, seed.randint(2, 4))),
        lambda: "\n\n".join(f"{n}. {sentence(seed)}" for n in range(1, 4)),
        lambda: "```python\ndef f(x):\n    \"\"\"Doc\n    more\"\"\"\n\n    return x  # " + sentence(seed, 3) + "\n```",
        lambda: "~~~\n" + sentence(seed).replace("~", "-") + "\n~~~",
        lambda: "\n".join(["| a | b |\n|---|--:|", *(f"| {seed.choice(WORDS[:7])} | {seed.randint(0, 99)} |",) * 3]),
        lambda: "> " + sentence(seed) + "\n> " + sentence(seed),
        lambda: "---",
        lambda: "Title\n=====",
    ]  # fmt: skip
    return seed.choice(kinds)()


def document(number: int) -> str:
    """The document with this number."""
    seed = random.Random(number)
    blocks = [block(seed) for _ in range(seed.randint(1, 7))]
    text = blocks[0]
    for following in blocks[1:]:
        text += seed.choice(["\n\n", "\n\n", "\n\n\n", "\n"]) + following
    return text + seed.choice(["", "\n"])


def chunks(text: str, seed: random.Random) -> list[str]:
    """The text in pieces of random sizes."""
    parts = []
    while text:
        size = seed.choice([1, 1, 2, 3, 7, 20])
        parts.append(text[:size])
        text = text[size:]
    return parts
