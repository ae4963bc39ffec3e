"""Where the traceback of an error that nobody expected goes, when the session or the batch goes on after it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from chat.errors import ChatError, UnexpectedError
from chat.system.text_files import open_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.config.options import Settings


def record_traceback(error: ChatError, settings: Settings, show: Callable[[str], None]) -> None:
    """Write the traceback of an unexpected error to the log file, or show it if the settings want that.

    Args:
        show: called with the text for `-v`.
    """
    if not isinstance(error, UnexpectedError):
        return None
    text = "".join(traceback.format_exception(error.__cause__))
    if settings.log_file is None:
        return show(text) if settings.verbose else None
    try:
        with open_log(settings.log_file) as log:
            log.write(text.encode("utf-8", "replace"))
    except ChatError as fault:
        show(f"{fault.message}\n{text}")
