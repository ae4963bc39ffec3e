"""The command that writes the conversation to a file. Knows names of files, not formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.ground.errors import UsageError

if TYPE_CHECKING:
    from chat.terminal.desk import Desk


def export(desk: Desk, argument: str) -> None:
    """`/export FILE`"""
    raise UsageError("not yet")
