"""A traced text behaves like the plain string, and each character keeps its origin."""

from __future__ import annotations

import random
from typing import Any

import pytest

from chat.prompts.traced_text import DATA, TEMPLATE, TracedText, concat, origins_of

METHODS: list[tuple[str, bool, tuple[object, ...]]] = [  # name, whether it takes a text first, further arguments
    *((name, False, ()) for name in ("strip", "lstrip", "rstrip", "split", "rsplit", "splitlines")),
    *((name, False, ()) for name in ("lower", "upper", "title", "capitalize")),
    ("split", False, (None, 1)),
    ("rsplit", False, (None, 1)),
    ("splitlines", False, (True,)),
    *((name, True, ()) for name in ("strip", "lstrip", "rstrip", "removeprefix", "removesuffix", "split", "rsplit")),
    *((name, True, (1,)) for name in ("split", "rsplit")),
    *((name, True, ()) for name in ("partition", "rpartition")),
    ("replace", True, ("XY",)),
    ("replace", True, ("", 1)),
]


def some(dice: random.Random, most: int) -> str:
    return "".join(dice.choice("ab <>\n\t|é") for _ in range(dice.randrange(1, most)))


def marked(text: str) -> TracedText:
    """A text in which the origin of each character tells its place."""
    return TracedText(text, "".join(chr(10 + place) for place in range(len(text))))


def check(result: Any, plain: Any, text: str) -> None:
    assert result == plain
    if isinstance(plain, list | tuple):
        assert type(result) is type(plain)
        for part, plain_part in zip(result, plain, strict=True):
            check(part, plain_part, text)
        return
    assert len(origins_of(result)) == len(result)
    for character, origin in zip(str(result), origins_of(result), strict=True):
        assert origin < chr(10) or text[ord(origin) - 10].lower() == character.lower()


@pytest.mark.parametrize(("name", "takes_text", "more"), METHODS)
def test_a_method_gives_what_it_gives_for_a_plain_string(name: str, takes_text: bool, more: tuple[object, ...]) -> None:
    dice = random.Random(name)
    for _ in range(300):
        text, other = some(dice, 14), some(dice, 3)
        arguments = (other, *more) if takes_text else more
        check(getattr(marked(text), name)(*arguments), getattr(text, name)(*arguments), text)


def test_operators_keep_origins_on_both_sides() -> None:
    data, own = marked("user"), TracedText("<|end|>", TEMPLATE * 7)
    assert origins_of(own + "plain" + data) == TEMPLATE * 7 + DATA * 5 + data._origins
    assert origins_of("plain" + own) == DATA * 5 + TEMPLATE * 7
    assert origins_of(data[1:3]) == data._origins[1:3]
    assert origins_of(2 * own) == TEMPLATE * 14
    assert origins_of("".join(own)) == DATA * 7  # an operation that is not traced makes data
    assert origins_of(own.join(["a", data])) == DATA + TEMPLATE * 7 + data._origins
    assert [origins_of(character) for character in data] == list(data._origins)
    assert origins_of(concat(["a", own])) == DATA + TEMPLATE * 7


@pytest.mark.parametrize(("form", "values", "origins"), [
    ("<%s>", "user", TEMPLATE + DATA * 4 + TEMPLATE),
    ("%s:%s", ("a", "bc"), DATA + TEMPLATE + DATA * 2),
    ("%d%%", (5,), DATA * 2),
])  # fmt: skip
def test_a_format_string_stays_the_templates_and_its_values_do_not(form: str, values: object, origins: str) -> None:
    written = TracedText(form, TEMPLATE * len(form)) % values
    assert (written, origins_of(written)) == (form % values, origins)
