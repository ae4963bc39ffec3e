"""Check the machine without the engine: versions, the terminal, folders, settings, the history, the hub."""

from __future__ import annotations

import codecs
import os
import platform
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from stat import S_IMODE
from typing import TYPE_CHECKING, Literal

from chat.core.document_kinds import EXTRA_READS
from chat.errors import ChatError, reason_text
from chat.system.installer import install_extra, pip_install
from chat.system.network import is_offline
from chat.system.paths import cache_folder, config_folder, data_folder
from chat.system.terminal_text import counted, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

State = Literal["ok", "note", "problem"]
ENGINE = "llama-cpp-python"
PILLOW = "pillow"
NARROW = 40
SCRIPT_BYTES = 4096
COLOURS = {"truecolor": "16 million colours", "24bit": "16 million colours"}  # of COLORTERM
FOLDERS: dict[str, Callable[[], Path]] = {
    "settings folder": config_folder,
    "data folder": data_folder,
    "cache folder": cache_folder,
}
# what each extra adds, and the modules by which it is recognized
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "documents": (EXTRA_READS, ("pypdfium2", "mammoth", "markdownify", "python_calamine", "striprtf")),
    "tools": ("MCP servers", ("mcp",)),
    "keyring": ("keys in the keyring of the system", ("keyring",)),
    **({"offline": ("a second lock for `--offline`", ("pyseccomp",))} if sys.platform == "linux" else {}),
}
LOW_BYTES = 8_000_000_000  # a 7B in 4 bits, its states and a reserve
NETWORK_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """What one check found: `words` is a sentence without full stop, `hint` the way out."""

    check: str
    state: State
    words: str
    hint: str | None = None


def check_program() -> Finding:
    """Our own version, Python's, and the system."""
    ours = installed("mistral-chat") or "of unknown version (not installed)"
    where = f"{platform.system()} {platform.machine()}"
    return Finding("program", "ok", f"mistral-chat {ours}, Python {platform.python_version()}, {where}")


def check_engine_library(found: str | None, wanted: str | None) -> Finding:
    """Whether the engine's library is the one that we are tested with."""
    if found is None:
        hint = f"`{pip_install(ENGINE + (f'=={wanted}' if wanted else ''))}`"
        return Finding("library", "problem", f"{ENGINE} is not installed", hint)
    if wanted is not None and found != wanted:
        words = f"{ENGINE} is {found}, but this program was tested with {wanted}"
        return Finding("library", "note", words, f"`{pip_install(f'{ENGINE}=={wanted}')}`")
    return Finding(
        "library", "ok", f"{ENGINE} {found}" + (", the version this program was tested with" if wanted else "")
    )


def check_extras() -> Finding:
    """Which optional parts are installed, and how to get the others."""
    missing = [extra for extra, (_, modules) in EXTRAS.items() if not all(map(_is_importable, modules))]
    here = [extra for extra in EXTRAS if extra not in missing]
    told = f"installed: {', '.join(here) or 'none'}"
    if not missing:
        return Finding("extras", "ok", told)
    what = ", ".join(f"{extra} ({EXTRAS[extra][0]})" for extra in missing)
    return Finding("extras", "ok", f"{told}; missing: {what}", f"`{install_extra(*missing)}`")


def check_embedding_model(find: Callable[[], Path | None]) -> Finding:
    """Which embedding model `--find` uses.

    Args:
        find: gives its file; None if there is none, or it is switched off.
    """
    try:
        path = find()
    except ChatError as error:
        return Finding("embedding", "problem", error.message, error.hint)
    if path is None:
        hint = "put a GGUF such as nomic-embed-text into the models folder, or name one with `--embedding-model`"
        return Finding("embedding", "ok", "no embedding model: `--find` compares words", hint)
    return Finding("embedding", "ok", f"`--find` compares sentences with {path}")


def check_command(found: str | None) -> Finding:
    """Whether the command `mistral-chat` is this program: mistral-inference has a script of that name, too.

    Args:
        found: the file that a shell would run; None if there is none.
    """
    if found is None:
        words = "`mistral-chat` is not on PATH"
        return Finding("command", "note", words, f"add {sysconfig.get_path('scripts')} to PATH, or name the file whole")
    try:
        script = Path(found).read_bytes()[:SCRIPT_BYTES]
    except OSError as error:
        return Finding("command", "note", f"{found} cannot be read: {reason_text(error)}")
    if b"mistral_inference" in script:
        words = f"`mistral-chat` is {found}, which belongs to the package mistral-inference"
        return Finding("command", "problem", words, "`mchat` is this program under its other name")
    if installed("mistral-inference"):
        words = f"`mistral-chat` is {found}, and an update of the package mistral-inference would replace it"
        return Finding("command", "note", words, "`mchat` is this program under its other name")
    return Finding("command", "ok", found)


def installed(name: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pinned(name: str = ENGINE) -> str | None:
    """The version of a library that we require, from our own metadata."""
    try:
        wanted = requires("mistral-chat") or []
    except PackageNotFoundError:
        return None
    found = (re.fullmatch(rf"{re.escape(name)}==([\w.+-]+)", each.partition(";")[0].strip()) for each in wanted)
    return next((match[1] for match in found if match), None)


@dataclass(frozen=True)
class Terminal:
    """The properties of the output."""

    is_terminal: bool
    columns: int
    encoding: str
    environment: Mapping[str, str]


def check_terminal(terminal: Terminal) -> list[Finding]:
    """Whether a session looks right here, and whether letters beyond ASCII are shown."""
    return [_check_drawing(terminal), _check_encoding(terminal.encoding)]


def _check_drawing(terminal: Terminal) -> Finding:
    kind = terminal.environment.get("TERM", "")
    if not terminal.is_terminal:
        return Finding("terminal", "ok", "none: output goes to a file or a pipe, so answers are plain text")
    if kind in ("", "dumb", "unknown"):
        words = f"TERM is {kind or 'not set'}, so the session is plain lines without colour"
        return Finding("terminal", "note", words, "`export TERM=xterm-256color` if the terminal can do more")
    words = f"{kind}, {terminal.columns} columns, {_colours(terminal.environment, kind)}"
    if terminal.columns < NARROW:
        return Finding("terminal", "note", f"{words}; tables need {NARROW} columns to be legible")
    return Finding("terminal", "ok", words)


def _colours(environment: Mapping[str, str], kind: str) -> str:
    if environment.get("NO_COLOR"):
        return "no colours, as NO_COLOR asks"
    return COLOURS.get(environment.get("COLORTERM", ""), "256 colours" if "256" in kind else "16 colours")


def _check_encoding(name: str) -> Finding:
    try:
        "é 漢 ▁".encode(name)
    except (LookupError, UnicodeEncodeError):
        words = f"{name} cannot show every letter, so some become question marks"
        return Finding("encoding", "problem", words, "`export LC_ALL=C.UTF-8`, or PYTHONUTF8=1")
    return Finding("encoding", "ok", codecs.lookup(name).name)


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
        return Finding(name, "note", f"{words}, but other users can read it", f"`chmod 700 {folder}`")
    if name != "settings folder" and free < LOW_BYTES:
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
    from chat.history.history_file import count_sessions

    try:
        count = count_sessions(path)
    except ChatError as error:
        hint = "the next chat moves a damaged history aside and reads what can be read"
        return Finding("history", "problem", error.message, hint)
    return Finding("history", "ok", f"{path}, {counted(count, 'session')}")


def check_pictures(mmproj: str | None) -> Finding:
    """Whether the model reads pictures, and whether this program can decode them.

    Args:
        mmproj: the model's picture encoder; None for none.
    """
    if mmproj is None:
        return Finding("pictures", "ok", "the model reads only text: no mmproj file belongs to it")
    missing = [name for name in ("PIL", "llama_cpp.mtmd_cpp") if not _is_importable(name)]
    if missing:
        return Finding(
            "pictures", "problem", f"`{missing[0]}` is missing", f"`{pip_install(f'--upgrade {PILLOW} {ENGINE}')}`"
        )
    return Finding("pictures", "ok", f"read by {mmproj}")


def _is_importable(name: str) -> bool:
    package, _, module = name.partition(".")
    found = find_spec(package)
    folders = found.submodule_search_locations or () if found is not None else ()
    return found is not None and (not module or any(Path(folder, f"{module}.py").exists() for folder in folders))


def check_hub(*, online: bool) -> Finding:
    """The hub's cache and address; whether it answers, only if `online`."""
    from chat.hub import cached_gguf_files, hub_cache
    from chat.hub.client import endpoint

    try:
        address = endpoint()
        count = sum(1 for _ in cached_gguf_files())
    except (ChatError, OSError) as error:
        return Finding("hub", "problem", getattr(error, "message", reason_text(error)), getattr(error, "hint", None))
    shown = address.rpartition("@")[2]
    words = f"cache {hub_cache()} with {counted(count, 'GGUF file')}, address {shown}"
    if is_offline():
        return Finding("hub", "ok", f"{words} (not asked: `offline` is set)")
    if not online:
        return Finding("hub", "ok", f"{words} (not asked; `--online` does)")
    problem = _ask(address)
    if problem:
        return Finding("hub", "problem", f"{shown} does not answer: {problem}", "check the network, and HF_ENDPOINT")
    return Finding("hub", "ok", f"{words}, which answers")


def _ask(address: str) -> str | None:
    """Why an address does not answer; None if it does, even with an error of the client's."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(address, method="HEAD"), timeout=NETWORK_SECONDS):
            return None
    except HTTPError as error:
        return None if error.code < 500 else f"HTTP {error.code}"
    except URLError as error:
        return reason_text(error.reason)
    except (OSError, ValueError) as error:
        return reason_text(error)
