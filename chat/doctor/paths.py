"""Check folders, the settings file, the history and the hub. Changes nothing; uses the network only where asked."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from stat import S_IMODE
from typing import TYPE_CHECKING

from chat.doctor.finding import Finding
from chat.errors import ChatError
from chat.system.paths import cache_folder, config_folder, data_folder
from chat.system.units import size_text

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDERS: dict[str, Callable[[], Path]] = {
    "settings folder": config_folder,
    "data folder": data_folder,
    "cache folder": cache_folder,
}
LITTLE_BYTES = 8_000_000_000  # a 7B in 4 bits, its states and some air
NETWORK_SECONDS = 5.0


def check_folders() -> list[Finding]:
    """One line for each of our folders."""
    found = []
    for name, find in FOLDERS.items():
        try:
            found.append(check_folder(name, find()))
        except ChatError as error:
            found.append(Finding(name, "problem", error.message, error.hint))
    return found


def check_folder(name: str, folder: Path) -> Finding:
    """Whether a folder can be used by us and by nobody else, and how much room it has."""
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir():
        return Finding(name, "problem", f"{folder}: {nearest} is not a folder", f"move {nearest} away")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding(name, "problem", f"{folder} cannot be written", f"check who owns {nearest}")
    free = shutil.disk_usage(nearest).free
    words = f"{folder}{'' if nearest == folder else ' (not made yet)'}, {size_text(free)} free"
    if nearest == folder and S_IMODE(folder.stat().st_mode) & 0o077:
        return Finding(name, "note", f"{words}, but others can look into it", f"`chmod 700 {folder}`")
    if name != "settings folder" and free < LITTLE_BYTES:
        return Finding(name, "note", f"{words}, which is less than a 7B model takes")
    return Finding(name, "ok", words)


def check_settings(file: Path | None) -> Finding:
    """Whether the settings file and the environment can be read as settings."""
    from chat.config.resolve import resolve_settings

    try:
        resolved = resolve_settings({}, file=file)
    except ChatError as error:
        return Finding("settings", "problem", error.message, error.hint or "`mistral-chat config edit` opens the file")
    there = f"{file}" if file is not None and file.exists() else "no settings file"
    count = len(resolved.origins)
    words = f"{count} {'setting is' if count == 1 else 'settings are'} not the default"
    return Finding("settings", "ok", f"{there}, {words if count else 'every setting has its default'}")


def check_history(path: Path) -> Finding:
    """Whether the history opens."""
    if not path.exists():
        return Finding("history", "ok", f"none yet; it will be {path}")
    from chat.history.file_check import count_sessions

    try:
        count = count_sessions(path)
    except ChatError as error:
        hint = "the next chat moves a damaged history aside and reads what can be read"
        return Finding("history", "problem", error.message, hint)
    return Finding("history", "ok", f"{path}, {count} {'session' if count == 1 else 'sessions'}")


def check_hub(*, online: bool) -> Finding:
    """The hub's cache and address; whether it answers, only if `online`."""
    from chat.hub import cached_gguf_files, hub_cache
    from chat.hub.client import endpoint

    try:
        address = endpoint()
        count = sum(1 for _ in cached_gguf_files())
    except (ChatError, OSError) as error:
        return Finding("hub", "problem", getattr(error, "message", str(error)), getattr(error, "hint", None))
    shown = address.rpartition("@")[2]
    words = f"cache {hub_cache()} with {count} GGUF {'file' if count == 1 else 'files'}, address {shown}"
    if not online:
        return Finding("hub", "ok", f"{words} (not asked; `--online` does)")
    problem = _ask(address)
    if problem:
        return Finding("hub", "problem", f"{shown} does not answer: {problem}", "check the network, and HF_ENDPOINT")
    return Finding("hub", "ok", f"{words}, which answers")


def _ask(address: str) -> str | None:
    """Why an address does not answer; None where it does, whatever it says."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(address, method="HEAD"), timeout=NETWORK_SECONDS):
            return None
    except HTTPError as error:
        return None if error.code < 500 else f"HTTP {error.code}"
    except URLError as error:
        return str(error.reason)
    except (OSError, ValueError) as error:
        return str(error)
