"""Hostile files where the program looks by itself: models, caches of others, settings, templates, and imports.

Each command ends with its result or one sentence, without control characters on a terminal, and removes nothing outside
the folder it was asked for. Any number of them: `python -m tests.chat.cli.try_hostile_files COUNT [--seed N] [--first
PLACE]`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from chat.models import inventory
from chat.models.stores import local_files
from chat.system import network, paths
from tests import hostile_commands
from tests.chat.gguf import gguf_samples
from tests.chat.gguf.gguf_mutants import mutants
from tests.chat.gguf.gguf_sketch import STRING, sketch
from tests.convert.hostile_json import hostile_json
from tests.hostile_commands import Trial

if TYPE_CHECKING:
    from collections.abc import Callable

ESCAPES = "\x1b[2J\x1b]52;c;eA==\x07\x9b31m\u202e\u2066\r\n\x08"
NAMES = (
    *("a\x1b[2J", "\u202etxt", "\x9b31m", "-rf", "~", "x" * 240, "[/red]", "[bold]b", "a b", "a\nb", "..", "\u00fc"),
    *("tiny-Q4_K_M", "\U0001f600", "con", "a-00001-of-00002", "a-99999-of-99999", "\udc80bad"),
)
TEXTS = ("ok", ESCAPES, "x" * 100_000, "", "\0", "[red]", "{% x %}", "[INST]", ESCAPES * 50, "a\nb")
KEYS = (
    *("general.name", "general.architecture", "tokenizer.chat_template", "mistral_chat.source", "x\x1b[2J\x9b31m"),
    *("mistral_chat.source_sha256", "mistral_chat.prompt_format", "general.license", "general.tags"),
    *("general.file_type", "tokenizer.ggml.pre"),
)
PIECES = (
    *(b"a", b"temperature", b"system", b"preset", b"remote", b"model", b"context", b"[", b"]", b"[[", b"=", b"'", b'"'),
    *(b'"""', b"1e400", b"inf", b"nan", b"0x", b"1979-05-27T07:32:00", b"{", b"}", b",", b"\n", b"#", b"\x1b[2J"),
    *(b"9" * 5000, b"\xe2\x80\xae", b"[" * 2000, b"{a=" * 500, b"true", b"-1", b"url", b"key_variable", b"\xff"),
    *(b"$input", b"$x", b"prompt", b"defaults", b"stop", b"seed", b"\xed\xa0\x80", b"$", b"\0"),
)
SETTINGS = b'temperature = 0.2\n[preset.code]\nsystem = "x"\n[remote.lab]\nurl = "https://lab/v1"\n'
TEMPLATE = b'prompt = "Hi $input"\ntemperature = 0.1\n[defaults]\na = "1"\n'
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
IMPORTS = (
    TALK,
    {"title": "t", "messages": TALK},
    [{"title": "t", "mapping": {}}],
    {"mapping": {"a": {"message": {"author": {"role": "user"}, "content": {"parts": ["x"]}}, "parent": None}}},
)
MANIFEST = {"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + "c" * 64}]}


class Places:
    """The folders of one input, and what must stay outside them."""

    def __init__(self, home: Path, samples: dict[str, bytes]) -> None:
        self.home, self.samples = home, samples
        self.outside = home / "outside"

    def clear(self) -> None:
        """Make them anew."""
        for folder in self.home.iterdir():
            shutil.rmtree(folder) if folder.is_dir() and not folder.is_symlink() else folder.unlink()
        self.outside.mkdir()
        (self.outside / "precious.gguf").write_bytes(self.samples["llama"])
        (self.outside / "other").write_bytes(b"x")
        inventory._described.cache_clear()

    def are_whole(self) -> bool:
        """Whether nothing outside was removed."""
        return (self.outside / "precious.gguf").exists() and (self.outside / "other").exists()


def _models(places: Places, random: Random) -> list[str]:
    """The user's models: links, pipes, mutants, and hostile metadata."""
    folder, names = paths.models_folder(), random.sample(NAMES, random.choice((1, 2)))
    folder.mkdir(parents=True)
    for name in names:
        path = folder / f"{name}.gguf"
        kind = random.randrange(6)
        if kind == 0:
            path.symlink_to(places.outside / "precious.gguf")
        elif kind == 1:
            os.mkfifo(path)
        elif kind == 2:
            path.symlink_to(random.choice(("/dev/zero", str(path), "/nowhere", "/etc/passwd")))
        elif kind == 3:
            path.write_bytes(next(iter(mutants(places.samples, 1, random.randrange(1 << 40))))[1])
        else:
            made = sketch(places.samples[random.choice(sorted(places.samples))])
            for _ in range(random.choice((1, 3))):
                with contextlib.suppress(KeyError, ValueError):
                    made.set(random.choice(KEYS), STRING, random.choice(TEXTS))
            path.write_bytes(made.pack())
    name = random.choice(names)
    away = random.choice(("../x", "/etc/passwd", str(places.outside / "precious.gguf"), "..", "."))
    rest = [["--", name], ["--metadata", "--", name], ["--json", "--", name]]
    removed = [["-y", "--", name], ["-y", "--", name], ["-y", "--", away]]
    lists = [["models", "list"], ["models", "list", "--json"]]
    shows = [["models", "show", *each] for each in rest]
    return random.choice([*lists, *shows, *(["models", "rm", *each] for each in removed)])


def _hub(places: Places, random: Random) -> list[str]:
    """The cache of the hub, whose snapshots link to blobs, and to where they should not."""
    owner = random.choice(("models--o--r", "models--\x1b[2J--r", "models--..--..", "models--o--[bold]"))
    repository = Path(os.environ["HF_HOME"]) / "hub" / owner
    snapshot = repository / "snapshots" / ("a" * 40)
    for folder in ("blobs", "refs", "snapshots"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_bytes(random.choice((b"a" * 40, b"../../x", b"\xff", b"../" * 9, b"b" * 40)))
    name = random.choice(("tiny-Q4_K_M", "x", "a\x1b[2J", "precious"))
    if random.random() < 0.15:
        snapshot.symlink_to(places.outside)
    else:
        snapshot.mkdir()
        (repository / "blobs" / ("c" * 64)).write_bytes(places.samples["llama"])
        inside = f"../../blobs/{'c' * 64}"
        away = ("../../../../../outside/precious.gguf", "../../blobs/../../../../outside/precious.gguf")
        targets = (str(places.outside / "precious.gguf"), inside, *away, f"{name}.gguf", "/dev/zero", "../../blobs")
        (snapshot / f"{name}.gguf").symlink_to(random.choice(targets))
    found = [file.name for file in local_files()] or ["hf:o/r"]
    removed = ["models", "rm", "-y", random.choice(found)]
    return random.choice((["models", "list"], removed, removed, ["models", "show", random.choice(found)]))


def _ollama(places: Places, random: Random) -> list[str]:
    """The store of Ollama, with a damaged manifest."""
    store = Path(os.environ["OLLAMA_MODELS"])
    owner, model = random.choice(("library", "\x1b[2J")), random.choice(("m", "..x", "a\nb"))
    folder = store / "manifests" / "registry.ollama.ai" / owner / model
    folder.mkdir(parents=True)
    manifest = hostile_json(MANIFEST, random) if random.random() < 0.7 else json.dumps(MANIFEST).encode()
    (folder / random.choice(("latest", "\x1b]0;x\x07"))).write_bytes(manifest)
    (store / "blobs").mkdir()
    (store / "blobs" / ("sha256-" + "c" * 64)).write_bytes(places.samples["llama"])
    return random.choice((["list"], ["show", "ollama:m"], ["rm", "-y", "ollama:m:latest"]))


def _toml(path: Path, good: bytes, random: Random) -> None:
    """A damaged file in TOML, or none."""
    kind = random.randrange(12)
    if kind == 0:
        path.symlink_to(random.choice(("/dev/zero", path.name, "/nowhere")))
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.mkdir()
    elif random.random() < 0.5:
        raw = bytearray(good)
        for _ in range(random.choice((1, 2, 4))):
            at = random.randrange(len(raw) + 1)
            raw[at : at + random.choice((0, 0, 1, 8))] = random.choice(PIECES)
        path.write_bytes(raw)
    else:
        pieces = random.choices(PIECES, k=random.randrange(12))
        path.write_bytes(b"".join(piece + random.choice((b"", b" ", b"\n", b" = ")) for piece in pieces))


def _settings(places: Places, random: Random) -> list[str]:
    folder = paths.config_folder()
    folder.mkdir(parents=True)
    _toml(folder / "config.toml", SETTINGS, random)
    return random.choice((["config", "show"], ["config", "get", "temperature"], ["config", "path"], ["models", "list"]))


def _templates(places: Places, random: Random) -> list[str]:
    folder = paths.config_folder() / "templates"
    folder.mkdir(parents=True)
    _toml(folder / "t.toml", TEMPLATE, random)
    return random.choice((["templates", "list"], ["templates", "show", "t"], ["templates", "rm", "t"]))


def _imported(places: Places, random: Random) -> list[str]:
    """Conversations of this and of other programs."""
    path = places.home / f"f{random.choice(('.json', '.jsonl', ''))}"
    raw = hostile_json(random.choice(IMPORTS), random)
    if random.random() < 0.2:
        raw = raw.replace(b"hi", ESCAPES.encode("unicode_escape").replace(b"\\x", b"\\u00"))
    path.write_bytes(raw)
    if random.random() < 0.1:
        path.unlink()
        path.symlink_to("/dev/zero")
    return ["sessions", "import", str(path)]


KINDS: dict[str, Callable[[Places, Random], list[str]]] = {
    "models": _models, "hub": _hub, "ollama": lambda places, random: ["models", *_ollama(places, random)],
    "settings": _settings, "templates": _templates, "imports": _imported,
}  # fmt: skip


def try_files(home: Path, count: int, seed: int, first: int = 0) -> Trial:
    """Meet hostile files, `count` times from the `first` of a seed on; everything in `home` is removed."""
    with contextlib.redirect_stderr(io.StringIO()):  # the library that writes them speaks of what it replaces
        samples = {name: write(home / "sample.gguf").read_bytes() for name, write in gguf_samples.SAMPLES.items()}
    trial = Trial()
    with pytest.MonkeyPatch.context() as patch:  # settings that cannot be read count as offline, without a way back
        patch.setattr(network, "go_offline", lambda _: None)
        for place in range(first, first + count):
            _try_one(Places(home, samples), place, Random(f"{seed}/{place}"), trial)
    return trial


def _try_one(places: Places, place: int, random: Random, trial: Trial) -> None:
    kind = random.choice(("models", *KINDS))
    label = f"{kind}/{place}"
    places.clear()
    try:
        arguments = KINDS[kind](places, random)
    except (OSError, UnicodeError):  # a name that this file system does not take
        return
    at_terminal = random.random() < 0.7
    code = trial.command(label, arguments, at_terminal=at_terminal)
    if kind == "imports" and code == 0:
        trial.command(label, ["sessions", "list"], at_terminal=at_terminal)
    if not places.are_whole():
        trial.faults.append(f"{label}: {arguments}: removed what is outside")


if __name__ == "__main__":
    sys.exit(hostile_commands.main(__doc__, try_files))
