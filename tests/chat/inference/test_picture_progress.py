"""While a picture is encoded, events say how far that is, and once how long it takes and what makes it faster."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from chat.core.events import Notice, PictureProgress
from chat.errors import EngineError
from chat.gguf.validate_pictures import PictureSizes
from chat.inference import pictures
from chat.inference.pictures import Pictures
from tests.chat.seeing import noise


class SlowEncoder:
    """An encoder that a test lets go on; it fails where the test says so."""

    def __init__(self) -> None:
        self.fraction = 0.05
        self.go_on = threading.Event()
        self.fault: Exception | None = None
        self.count = 0

    def encode(self, pixels: Any) -> Any:
        self.count += 1
        self.go_on.wait(60)
        if self.fault is not None:
            raise self.fault
        return np.ones(((pixels.shape[0] // 28) * (pixels.shape[1] // 28 + 1) - 1, 8), np.float32)

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> SlowEncoder:
    monkeypatch.setattr(pictures, "PROGRESS_SECONDS", 0.01)
    return SlowEncoder()


def known(encoder: SlowEncoder) -> Pictures:
    return Pictures(PictureSizes(28, 1540, 8), (10, 12), lambda _: encoder)  # type: ignore[arg-type,return-value]


def test_progress_comes_until_the_rows_are_there_and_they_are_kept(
    encoder: SlowEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "LONG_SECONDS", 0.0)
    shown = known(encoder)
    photo = noise(112, 84, 1)
    ids = [7, *shown.ids(photo), 8]
    events = []
    for event in shown.encode(ids):
        events.append(event)
        if isinstance(event, Notice):
            encoder.go_on.set()
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert notices == [
        "the model sees 1.png with 112 x 84 pixels, which takes about 0 minutes here; "
        "`--picture-size 56` takes a quarter of that and shows it less detail"
    ]
    progress = [event for event in events if isinstance(event, PictureProgress)]
    assert {event.name for event in progress} == {"1.png"}
    assert progress[-1].fraction == 0.05
    assert list(shown.encode(ids)) == []
    rows = shown.rows(ids[1:-1])
    assert rows is not None
    assert (rows.shape, encoder.count) == ((14, 8), 1)


def test_a_fault_of_the_encoder_is_raised(encoder: SlowEncoder) -> None:
    shown = known(encoder)
    photo = noise(56, 56, 2)
    encoder.fault = EngineError("no")
    encoder.go_on.set()
    with pytest.raises(EngineError, match=r"^no$"):
        list(shown.encode(shown.ids(photo)))
