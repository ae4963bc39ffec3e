"""The child gets the bytes of each picture once, and parent and child agree on which it still has."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from chat.core.conversation import Message, Picture
from chat.core.request import Prompt, Request
from chat.worker import sent_pictures
from chat.worker.protocol import build, from_line, to_line
from chat.worker.sent_pictures import ReceivedPictures, SentPictures


def crossed(sent: SentPictures, received: ReceivedPictures, request: Request) -> tuple[Request, int]:
    """What arrives of a request, and how many bytes its line has."""
    line = to_line({"request": sent.shortened_request(request)})
    plain: dict[str, Any] = from_line(line)["request"]
    received.complete(plain["prompt"]["messages"])
    return build(Request, plain), len(line)


def picture(number: int, size: int = 1000) -> Picture:
    return Picture(f"{number:064}", "image/png", f"{number}.png", data=random.Random(number).randbytes(size))


def request(*pictures: Picture) -> Request:
    return Request(Prompt((Message("user", "a", pictures=pictures), Message("user", "b", pictures=pictures[:1]))))


def test_requests_arrive_whole_whatever_was_sent_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_pictures, "KEPT_BYTES", 5000)
    sent, received = SentPictures(), ReceivedPictures()
    dice = random.Random(2)
    pictures = [picture(number, dice.randrange(1, 3000)) for number in range(12)]
    for _ in range(400):
        asked = request(*dice.sample(pictures, dice.randrange(0, 6)))
        arrived, _ = crossed(sent, received, asked)
        assert arrived == asked
        bytes_of = [[each.data for each in one.prompt.pictures] for one in (arrived, asked)]
        assert bytes_of[0] == bytes_of[1]


def test_the_second_line_has_no_bytes() -> None:
    sent, received = SentPictures(), ReceivedPictures()
    asked = request(picture(1, 30_000), picture(2, 30_000))
    lengths = [crossed(sent, received, asked)[1] for _ in range(2)]
    assert lengths[0] > 80_000
    assert lengths[1] < 3000


def test_a_picture_without_bytes_stays_without() -> None:
    sent, received = SentPictures(), ReceivedPictures()
    lost = Picture("0" * 64, "image/png")
    assert crossed(sent, received, request(lost))[0].prompt.pictures[0].data == b""
    whole = Picture("0" * 64, "image/png", data=b"x")
    assert crossed(sent, received, request(whole))[0].prompt.pictures[0].data == b"x"
    assert crossed(sent, received, request(lost))[0].prompt.pictures[0].data == b"x"


def test_bytes_cross_as_base64() -> None:
    line = to_line({"picture": Picture("0" * 64, "image/png", data=b"\0\xff")})
    assert json.loads(line)["picture"]["data"] == "AP8="
    assert build(Picture, from_line(line)["picture"]).data == b"\0\xff"
