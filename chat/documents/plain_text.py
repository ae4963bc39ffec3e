"""Text from bytes that are UTF-8 or UTF-16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.documents.kinds import UTF_16_MARKS

if TYPE_CHECKING:
    from chat.core.conversation import Picture


@dataclass(frozen=True)
class InputText:
    """A text, warnings about how it was read, and the pictures that come with it."""

    text: str
    warnings: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()


def decode(data: bytes, name: str) -> InputText:
    """The text of UTF-8 or, with a byte order mark, UTF-16 data, without its mark.

    Bytes that are no UTF-8 become U+FFFD, with one warning. NUL characters stay.
    """
    if data.startswith(UTF_16_MARKS):
        try:
            return InputText(data.decode("utf-16"), (f"{name} was read as UTF-16",))
        except UnicodeDecodeError:
            pass
    text = data.decode("utf-8-sig", errors="replace")
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return InputText(text, (f"{name} is not UTF-8 from byte {error.start} on; unreadable bytes became U+FFFD",))
    return InputText(text)
