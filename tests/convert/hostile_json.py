"""Seeded broken JSON files: odd values in odd places, and damaged bytes."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 7, 512, 513, 32768, 1 << 24, (1 << 24) + 1, 1 << 31, 1 << 63, 1 << 64, 10**30),
    *(0.0, -0.5, 0.5, 1e-300, 1e30, 1e308, float("inf"), float("-inf"), float("nan")),
    *("", "1", "x" * 5000, "../x", "/etc/hostname", "a\0b", "a\nb", "\ud800", "sliding_attention", "yarn", "F8_E4M3"),
    *([], [[]], [None], [0], [1, 2], ["a"] * 3, [{}] * 2, list(range(600)), {}, {"": {}}, {"a": [1]}),
)
BYTES = (
    *(b"-", b"9" * 5000, b"null", b"true", b'"', b"[", b"]", b"{", b"}", b","),
    *(b"1e999", b"\\ud800", b"\xff", b"\0", b"NaN"),
)


def places_of(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a value, with every key or number in it."""
    if isinstance(value, dict):
        own = [(value, key) for key in value]
        return own + [place for each in value.values() for place in places_of(each)]
    if isinstance(value, list):
        own = [(value, number) for number in range(len(value))]
        return own + [place for each in value for place in places_of(each)]
    return []


def hostile_json(values: Any, random: Random) -> bytes:
    """One to four changes of a good file."""
    if random.random() < 0.25:
        return broken_bytes(json.dumps(values).encode(), random)
    made = copy.deepcopy(values)
    for _ in range(random.randint(1, 4)):
        change(made, random)
    text = json.dumps(made).encode("utf-8", "surrogatepass")
    return broken_bytes(text, random) if random.random() < 0.05 else text


def change(made: Any, random: Random) -> None:
    """Another value in a place, another's, a little more or less, or none; or a key more."""
    places = places_of(made)
    if not places:
        return
    container, key = random.choice(places)
    kind = random.randrange(6)
    if kind == 0:
        del container[key]
    elif kind == 1:
        other, place = random.choice(places)
        container[key] = copy.deepcopy(other[place])
    elif kind == 2 and type(container[key]) is int:
        container[key] += random.choice((-1, 1, 256, 1 << 20, -container[key]))
    elif kind == 3 and isinstance(container, dict):
        container[random.choice(("", "x", f"{key}_", *container))] = copy.deepcopy(random.choice(ODD_VALUES))
    else:
        container[key] = copy.deepcopy(random.choice(ODD_VALUES))


def broken_bytes(text: bytes, random: Random) -> bytes:
    """A few bytes changed, removed, inserted or repeated."""
    raw = bytearray(text)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(raw) + 1)
        kind = random.randrange(4)
        if kind == 0:
            del raw[at : at + random.randint(1, 40)]
        elif kind == 1:
            raw[at:at] = random.choice(BYTES)
        elif kind == 2:
            raw[at:at] = raw[at : at + random.randint(1, 200)]
        else:
            raw[at : at + 1] = random.randbytes(1)
    return bytes(raw) if random.random() < 0.98 else b"[" * 200_000
