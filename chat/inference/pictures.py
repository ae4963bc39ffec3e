"""The pictures of prompts for one model: what stands for them among token ids, and the rows that the model reads there.

A picture takes as many places as the model reads rows for it. Each place has a negative id, which belongs to this
picture and this place alone: so the cache, snapshots, saved states and truncation compare and count pictures as they do
text. The ids follow from the hash of the picture's file, and are the same in every run.
"""

from __future__ import annotations

import hashlib
import time
import weakref
from array import array
from bisect import bisect_right, insort
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from chat.core.events import Notice, PictureProgress
from chat.errors import EngineError
from chat.inference.picture_decoding import decode_picture
from chat.system.terminal_text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.core.conversation import Picture
    from chat.gguf.validate_pictures import PictureSizes
    from chat.llama.picture_encoder import PictureEncoder

PIXEL_BYTES = 128 << 20  # of scaled pictures that are kept
ROW_BYTES = 256 << 20  # of encoded pictures that are kept
PROGRESS_SECONDS = 0.5  # between two reports of a picture that is encoded
LONG_SECONDS = 90.0  # for one picture, from which on a user is told how to make it shorter
LEAST_FRACTION = 0.04  # of a picture, from which its time is estimated: a layer of the largest encoder
ID_COUNT = 1 << 31  # negative numbers of 32 bits


@dataclass(frozen=True, order=True)
class _Known:
    """A picture that was in a prompt; its place `i` has the id `-1 - first - i`."""

    first: int
    sha256: str
    name: str
    columns: int
    lines: int

    @property
    def places(self) -> int:
        """Its tokens, and one [IMG_BREAK] between two lines of them."""
        return self.lines * (self.columns + 1) - 1

    @property
    def ids(self) -> array[int]:
        """The id of each place."""
        return array("i", range(-1 - self.first, -1 - self.first - self.places, -1))


class _Recent:
    """Arrays by the hash of their picture, the most recent ones within a budget; the newest one always stays."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._kept: OrderedDict[str, NDArray[Any]] = OrderedDict()

    def get(self, sha256: str) -> NDArray[Any] | None:
        """The array of a picture, if it is still kept."""
        if sha256 in self._kept:
            self._kept.move_to_end(sha256)
        return self._kept.get(sha256)

    def put(self, sha256: str, value: NDArray[Any]) -> None:
        """Keep an array."""
        self._kept[sha256] = value
        while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > self._budget:
            self._kept.popitem(last=False)


class Pictures:
    """The pictures that one model was given; the tokenizer asks it for ids, contexts for rows."""

    def __init__(
        self, sizes: PictureSizes, pieces: tuple[int, int], open_encoder: Callable[[Callable[[], bool]], PictureEncoder]
    ) -> None:
        """Know no picture yet.

        Args:
            sizes: of the picture encoder.
            pieces: the ids of [IMG] and [IMG_BREAK], which prompts show in the places of pictures.
            open_encoder: loads the encoder when the first picture is read, from what tells whether it shall stop.
        """
        self._sizes = sizes
        self._pieces = pieces
        self._open_encoder = open_encoder
        self._encoder: PictureEncoder | None = None
        self._is_aborted = False
        self._is_wait_told = False
        self._known: dict[str, _Known] = {}
        self._ordered: list[_Known] = []  # by their first ids, without overlap
        self._holders: dict[str, list[weakref.ref[Picture]]] = {}  # requests hold the bytes
        self._pixels, self._rows = _Recent(PIXEL_BYTES), _Recent(ROW_BYTES)

    def ids(self, picture: Picture) -> Sequence[int]:
        """The ids of a picture's places.

        Raises:
            DataError: it is damaged, or larger than the limits.
        """
        alive = [each for each in self._holders.get(picture.sha256, ()) if each() is not None]
        self._holders[picture.sha256] = [*alive, weakref.ref(picture)]
        known = self._known.get(picture.sha256)
        return (known or self._add(picture)).ids

    def shown(self, ids: Iterable[int]) -> Iterator[int]:
        """Ids with those of [IMG] and [IMG_BREAK] in the places of pictures."""
        for token in ids:
            if token >= 0:
                yield token
            else:
                known = self._at(token)
                column = (-1 - token - known.first) % (known.columns + 1)
                yield self._pieces[column == known.columns]

    def encode(self, ids: Sequence[int]) -> Iterator[PictureProgress | Notice]:
        """See `PictureRows`; a picture that takes long is a notice, once in a process."""
        for known in dict.fromkeys(self._at(token) for token in ids if token < 0):
            if self._rows.get(known.sha256) is None:
                yield from self._encode_aside(known)

    def _encode_aside(self, known: _Known) -> Iterator[PictureProgress | Notice]:
        started = time.perf_counter()
        with ThreadPoolExecutor(1) as thread:
            rows = thread.submit(self._rows_of, known)
            while not rows.done():
                seconds = time.perf_counter() - started
                fraction = self._encoder.fraction if self._encoder else 0.0
                yield PictureProgress(known.name, fraction, seconds)
                if not self._is_wait_told and fraction >= LEAST_FRACTION and seconds >= fraction * LONG_SECONDS:
                    self._is_wait_told = True
                    yield Notice(self._long_wait(known, seconds / fraction))
                wait((rows,), PROGRESS_SECONDS)
            rows.result()

    def _long_wait(self, known: _Known, seconds: float) -> str:
        cell = self._sizes.cell
        width, height = known.columns * cell, known.lines * cell
        return (
            f"the model sees {known.name} with {width:,} x {height:,} pixels, which takes about "
            f"{counted(round(seconds / 60), 'minute')} here; `--picture-size {max(width, height) // 2}` takes a "
            "quarter of that and shows it less detail"
        )

    def rows(self, places: Sequence[int]) -> NDArray[np.float32] | None:
        """See `PictureRows`; the rows of a picture are computed once, and again where they are no longer kept."""
        import numpy as np

        parts: list[NDArray[np.float32]] = []
        done = 0
        while done < len(places):
            known = self._at(places[done])
            start = -1 - places[done] - known.first
            stop = min(known.places, start + len(places) - done)
            rows = self._rows_of(known)
            if rows is None:
                return None
            parts.append(rows[start:stop])
            done += stop - start
        return np.ascontiguousarray(np.concatenate(parts))

    def abort(self, flag: bool) -> None:
        """See `PictureRows`."""
        self._is_aborted = flag

    def close(self) -> None:
        """See `PictureRows`."""
        if self._encoder is not None:
            self._encoder.close()

    def _add(self, picture: Picture) -> _Known:
        pixels = self._decoded(picture.sha256, picture.name, picture.data)
        cell = self._sizes.cell
        columns, lines = pixels.shape[1] // cell, pixels.shape[0] // cell
        for salt in count():  # nearly always the first one: two pictures must not share an id
            digest = hashlib.sha256(f"{picture.sha256} {columns}x{lines} {salt}".encode()).digest()
            known = _Known(0, picture.sha256, picture.name, columns, lines)
            first = int.from_bytes(digest[:4], "little") % (ID_COUNT - known.places)
            known = _Known(first, picture.sha256, picture.name, columns, lines)
            index = bisect_right(self._ordered, known)
            before, after = self._ordered[:index][-1:], self._ordered[index : index + 1]
            if all(each.first + each.places <= first for each in before) and all(
                first + known.places <= each.first for each in after
            ):
                break
        insort(self._ordered, known)
        self._known[picture.sha256] = known
        return known

    def _at(self, token: int) -> _Known:
        """The picture with a place of this id.

        Raises:
            EngineError: there is none.
        """
        position = -1 - token
        index = bisect_right(self._ordered, position, key=lambda each: each.first) - 1
        if index < 0 or position >= self._ordered[index].first + self._ordered[index].places:
            raise EngineError("a prompt has the place of a picture that is not known")
        return self._ordered[index]

    def _decoded(self, sha256: str, name: str, data: bytes) -> NDArray[np.uint8]:
        """The pixels in the size in which the encoder gets them."""
        pixels = self._pixels.get(sha256)
        if pixels is None:
            cell = self._sizes.cell

            def size_of(width: int, height: int) -> tuple[int, int]:
                columns, lines = self._sizes.grid(width, height)
                return columns * cell, lines * cell

            pixels = decode_picture(data, name, size_of)
            self._pixels.put(sha256, pixels)
        return pixels

    def _rows_of(self, known: _Known) -> NDArray[np.float32] | None:
        rows = self._rows.get(known.sha256)
        if rows is not None:
            return rows
        if self._encoder is None:
            self._encoder = self._open_encoder(lambda: self._is_aborted)
        held = (each() for each in self._holders[known.sha256])
        data = next((each.data for each in held if each is not None and each.data), b"")
        rows = self._encoder.encode(self._decoded(known.sha256, known.name, data))
        if rows is not None:
            self._rows.put(known.sha256, rows)
        return rows
