"""Folders for tests to break: a mapping of names to a file's bytes, a link's target (a `str`), or None for a FIFO."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.convert.hostile_json import hostile_json
from tests.convert.samples import Sizes

Folder = dict[str, bytes | str | None]

TINY = Sizes(layers=1, width=64, heads=2, kv_heads=1, head_dim=32, hidden=64)
CANARY = "canary"  # a file beside the folder, which hostile pickles would write
NAMES = (
    *(
        "../x",
        "../../etc/passwd",
        "/etc/passwd",
        "/dev/zero",
        "/proc/self/mem",
        ".",
        "..",
        "",
        "a/b",
        "a\\b",
        "x" * 300,
    ),
    *("a\0b", "\x1b]0;x\x07.safetensors", "\u202egpj.safetensors", "\ud800", "model.safetensors.index.json"),
    *("nowhere.safetensors", "loop.safetensors", "fifo.safetensors", "out.safetensors", "config.json", "folder"),
)
STRINGS = (
    *("\x1b[2J\x1b]52;c;eA==\x07", "\u202e", "٣", "x" * 100_000, "\n\r\0", "(a+)+$", "(?:a|a)*" * 20, "{% for %}"),
    *("{{ range(10**9) }}", "{% for a in range(10**9) %}{% endfor %}", "{{ ''.__class__.__mro__ }}", "[INST]" * 5000),
    *("{{ cycler.__init__.__globals__.os.popen('touch canary') }}", "{%" * 3000, "{{" + "(" * 3000, "\ufeff"),
)


@dataclass(frozen=True)
class Kind:
    """One kind of hostile input.

    Attributes:
        make: writes a good source into an empty folder, and gives the name in it that `convert` is called with.
        spoil: changes what the folder holds.
        arguments: after the source; `{folder}` is the folder.
        types: those that are written.
    """

    make: Callable[[Path], str]
    spoil: Callable[[Folder, Random], None]
    arguments: tuple[str, ...] = ()
    types: tuple[str, ...] = ("F32", "F16", "Q8_0", "Q4_0", "BF16")


def read_folder(folder: Path) -> Folder:
    """What a folder of files holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_folder(folder: Path, files: Folder) -> None:
    """Make a folder anew; names that no file can have are left out."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if content is None:
            os.mkfifo(path)
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def spoil_json(name: str) -> Callable[[Folder, Random], None]:
    """Spoil a file of JSON."""

    def spoil(files: Folder, random: Random) -> None:
        files[name] = hostile_json(json.loads(content(files, name)), random)

    return spoil


def content(files: Folder, name: str) -> bytes:
    content = files[name]
    assert isinstance(content, bytes)
    return content
