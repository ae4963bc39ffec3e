"""A hub with hostile lists, names, sizes and headers: each command ends in one sentence, and leaves no half file.

Any number of them: `python -m tests.chat.hub.try_hostile_hub COUNT [--seed N] [--first PLACE]`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from chat.hub import client
from tests import hostile_commands
from tests.hostile_commands import Trial
from tests.hub_server import LARGE, Fault, HubServer, Repository, etag, git_sha1, hub_server

NAME = "o/Tiny"
WEIGHTS = hashlib.shake_256(b"weights").digest(30_000)
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "README.md": b"x", "a-Q4_K_M.gguf": WEIGHTS[:2000]}
NAMES = (
    *("../x", "/etc/x", "a\x1b[2J.gguf", "a\x9b31m.gguf", "\u202e.gguf", "[/red].gguf", "[bold]x.gguf", "con.gguf"),
    *("x" * 300 + ".gguf", "a/" * 200 + "x.gguf", ".gguf", "-.gguf", "~/.gguf", "a b.gguf", "%2e%2e%2fx.gguf"),
    *("a?b.gguf", "a#b.gguf", "..gguf", "a\nb.gguf", "model.safetensors/x.gguf", "\ud800.gguf", "a-Q4_K_M.gguf"),
)
SIZES = (
    *(0, -1, 1, 2**31, 2**63, 2**64, 10**400, 10**4000, 1.5, True, None, "5", [], float("nan"), float("inf"), 30_000),
)
HEADERS = (
    *("Retry-After", "ratelimit", "Content-Length", "Content-Range", "Location", "Content-Type", "Content-Encoding"),
    *("Transfer-Encoding", "ETag", "X-Error-Code", "X-Error-Message", "Set-Cookie", "X-Repo-Commit", "\x01bad"),
)
HEADER_VALUES = (
    *("nan", "inf", "-1", "0", "1e9", "999999", "9" * 4000, "Wed, 21 Oct 2015 07:28:00 GMT", "", "\u00b2", "-", "0x10"),
    *(" 5 ", "5;", '"api";r=0;t=99999999999', "bytes 0-5/6", "bytes -", "bytes 99999999999999999999-/x", "/loop"),
    *("http://[::1", "file:///etc/passwd", "http://127.0.0.1:1/", "\x1b[2J", "text/html", "gzip", "br", "chunked"),
    *("RepoNotFound", "GatedRepo", "EntryNotFound"),
)
STATUSES = (None, None, 200, 206, 204, 301, 302, 307, 308, 400, 401, 403, 404, 408, 416, 418, 429, 429, 500, 503, 999)
BODIES = (
    *(None, b"", b"<html>", b"{}", b"[]", b"\x1f\x8b" + b"\0" * 50, b"x" * 100_000, b"5\r\nhello\r\n0\r\n\r\n"),
    b"FFFFFFFFFFFFFFFF\r\n",
)
ASKED = ("x.gguf", "x", "-.gguf", "[bold]x.gguf", "\u00fc.gguf", "Q4_K_M")


def try_hub(home: Path, count: int, seed: int, first: int = 0) -> Trial:
    """Ask a hostile hub for files, `count` times from the `first` of a seed on."""
    from huggingface_hub import constants

    trial, out = Trial(), home / "out"
    with pytest.MonkeyPatch.context() as patch, hub_server() as server:
        patch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
        patch.setattr(client, "pause", lambda _: None)
        patch.setenv("HF_ENDPOINT", server.url)
        for place in range(first, first + count):
            random = Random(f"{seed}/{place}")
            for folder in (Path(os.environ["HF_HOME"]), Path(os.environ["MISTRAL_CHAT_HOME"]), out):
                shutil.rmtree(folder, ignore_errors=True)
            out.mkdir()
            arguments = _arguments(random, out / "m.gguf")
            _spoil(server, random)
            trial.command(f"hub/{place}", arguments)
            if left := [path.name for path in out.iterdir()]:
                trial.faults.append(f"hub/{place}: {arguments}: {left} left")
    return trial


def _arguments(random: Random, output: Path) -> list[str]:
    """A command line; no conversion can succeed."""
    if random.random() < 0.2:
        return ["models", "pull", f"hf:{NAME}:{random.choice(ASKED)}"]
    convert = ["convert", NAME, "-o", str(output)]
    return random.choice(
        (
            ["models", "pull", f"hf:{NAME}:Q4_K_M"],
            convert,
            [*convert, "--dry-run"],
            ["models", "show", f"hf:{NAME}:Q4_K_M"],
        )
    )


def _spoil(server: HubServer, random: Random) -> None:
    server.repositories.clear()
    server.faults.clear()
    server.seen.clear()
    repository = server.add(NAME, FILES)
    if random.random() < 0.4:
        repository.listed = _listed(repository, random)
        return
    keys = ("list", "config.json", "model.safetensors", "a-Q4_K_M.gguf")
    for key in random.choice((keys[:1], keys[1:], keys)):
        server.faults[key] = [_fault(random) for _ in range(random.choice((1, 2, 9)))]


def _listed(repository: Repository, random: Random) -> dict[str, Any]:
    """A list with odd names, sizes and kinds of values."""
    siblings: list[dict[str, Any]] = []
    for name, data in FILES.items():
        listed: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
        if len(data) >= LARGE:
            listed |= {"blobId": "a" * 40, "lfs": {"sha256": etag(data), "size": len(data)}}
        siblings.append(listed)
    for _ in range(random.choice((1, 1, 2, 5))):
        changed = dict(random.choice(siblings))
        change = random.randrange(4)
        if change == 0:
            changed["rfilename"] = random.choice(NAMES)
        elif change == 1:
            changed["size"] = random.choice(SIZES)
            if isinstance(changed.get("lfs"), dict):
                changed["lfs"] = {**changed["lfs"], "size": changed["size"]}
        elif change == 2:
            changed[random.choice(list(changed))] = random.choice((None, [], {}, 1, "x", NAMES[2]))
        if random.random() < 0.5:
            siblings.append(changed)
        else:
            siblings[random.randrange(len(siblings))] = changed
    plain: dict[str, Any] = {"id": NAME, "sha": repository.commit, "siblings": siblings}
    if random.random() < 0.1:
        plain[random.choice(("sha", "siblings"))] = random.choice((None, [], "", "../x", {"a": 1}))
    return plain


def _fault(random: Random) -> Fault:
    """An answer that goes wrong."""
    return Fault(
        status=random.choice(STATUSES),
        headers={random.choice(HEADERS): random.choice(HEADER_VALUES) for _ in range(random.choice((0, 1, 1, 2)))},
        body=random.choice(BODIES),
        cut_after=random.choice((None, None, 0, 10, 5000)),
        ignores_range=random.random() < 0.2,
        wrong_range=random.random() < 0.2,
    )


if __name__ == "__main__":
    sys.exit(hostile_commands.main(__doc__, try_hub))
