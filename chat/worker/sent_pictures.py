"""Send the bytes of a picture to the child once, though each request of a conversation has all its pictures.

Parent and child note the pictures of each call in the same order and forget the same ones, so both know what the child
still has.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chat.core.conversation import Message, Picture
    from chat.core.request import Request

KEPT_BYTES = 256 << 20  # of pictures that the last call does not have


class _Recent:
    """The pictures of the last calls by their hashes, within a budget."""

    def __init__(self) -> None:
        self.data: OrderedDict[str, str] = OrderedDict()  # base64 in the child, empty in the parent
        self._sizes: dict[str, int] = {}

    def note(self, sha256: str, size: int, data: str = "") -> None:
        """Note that a call has a picture, whose bytes are sent if they are not known yet."""
        if sha256 not in self._sizes:
            self._sizes[sha256], self.data[sha256] = size, data
        self.data.move_to_end(sha256)

    def forget(self, current: set[str]) -> None:
        """Forget the oldest pictures beyond the budget, but none of the current call; nothing if that has none."""
        for sha256 in list(self.data):
            if not current or sha256 in current or sum(self._sizes.values()) <= KEPT_BYTES:
                return
            del self.data[sha256], self._sizes[sha256]


class SentPictures:
    """The parent's side."""

    def __init__(self) -> None:
        self._recent = _Recent()

    def shortened_request(self, request: Request) -> Request:
        """A request without the bytes that the child has."""
        if not request.prompt.pictures:
            return request
        messages = self.shortened(request.prompt.messages or ())
        return replace(request, prompt=replace(request.prompt, messages=messages))

    def shortened(self, messages: Iterable[Message]) -> tuple[Message, ...]:
        """Messages without the bytes that the child has."""
        current: set[str] = set()
        result = tuple(
            replace(message, pictures=tuple(self._shortened(picture, current) for picture in message.pictures))
            if message.pictures
            else message
            for message in messages
        )
        self._recent.forget(current)
        return result

    def _shortened(self, picture: Picture, current: set[str]) -> Picture:
        is_known = picture.sha256 in self._recent.data
        if is_known or picture.data:
            self._recent.note(picture.sha256, len(picture.data))
            current.add(picture.sha256)
        return replace(picture, data=b"") if is_known else picture


class ReceivedPictures:
    """The child's side."""

    def __init__(self) -> None:
        self._recent = _Recent()

    def complete(self, messages: Iterable[dict[str, Any]]) -> None:
        """Add the bytes of pictures that came with an earlier call.

        Args:
            messages: of one call, as JSON has them.
        """
        current: set[str] = set()
        for picture in (picture for message in messages for picture in message["pictures"]):
            sha256, data = picture["sha256"], picture["data"]
            if data or sha256 in self._recent.data:
                self._recent.note(sha256, len(data) * 3 // 4 - data[-2:].count("="), data)
                picture["data"] = self._recent.data[sha256]
                current.add(sha256)
        self._recent.forget(current)
