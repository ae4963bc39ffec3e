"""Check the sources of functions that the settings name: each is started, and asked for its functions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chat.doctor.machine_checks import Finding
from chat.errors import ChatError
from chat.system.terminal_text import counted, escape_line
from chat.tools.sources import rules_of, servers_of, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.config.options import Settings
    from chat.config.tool_table import ToolServer

CHECK = "functions"
MOST_NAMES = 8


def check_tools(settings: Settings, *, online: bool) -> Iterator[Finding]:
    """A finding for each source of functions, and one for a rule that is none; nothing where none are named.

    Args:
        settings: what the settings file and the variables say.
        online: ask servers that are not on this machine, too.
    """
    servers: list[ToolServer] = []
    try:
        rules_of(settings)
        servers, notices = servers_of(settings)
        yield from (Finding(CHECK, "note", notice) for notice in notices)
    except ChatError as error:
        yield Finding(CHECK, "problem", error.message, error.hint)
    for server in servers:
        yield _check(server, online=online)


def _check(server: ToolServer, *, online: bool) -> Finding:
    if server.url is not None and not online:
        return Finding(CHECK, "note", f"{server.name}: a server at an address was not asked", "`--online` asks it")
    try:
        source = source_of(server, None)
        began = time.monotonic()
        try:
            names = [tool.name for tool in source.tools()]
        finally:
            source.close()
    except ChatError as error:
        return Finding(CHECK, "problem", error.message, error.hint or f"{server.place} names it")
    shown = ", ".join(escape_line(name) for name in names[:MOST_NAMES])
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    seconds = time.monotonic() - began
    words = f"{server.name}: {counted(len(names), 'function')} after {seconds:.1f} s: {shown}{more}"
    return Finding(CHECK, "note" if source.notices else "ok", "; ".join([words, *source.notices]))
