"""Hostile documents, folders and pages: each is read, or refused in one sentence, in a few seconds.

Any number of them: `python -m tests.chat.documents.try_hostile_documents COUNT [--seed N] [--first PLACE]`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from chat.documents import extraction, web_page
from chat.documents.document import texts_of
from chat.documents.kinds import Kind
from chat.documents.open_document import EXTRACT, open_document, text_of_stdin
from chat.errors import ChatError, EngineError
from chat.worker import task
from chat.worker.protocol import from_line, pack_error, to_line, unpack_error
from tests import hostile_commands
from tests.chat.documents import document_makers as makers
from tests.chat.hub import try_hostile_hub as hub
from tests.convert.hostile_json import hostile_json
from tests.hostile_commands import Trial
from tests.hub_server import HubServer, hub_server

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from chat.worker.task import Message

CAN_FORK = sys.platform == "linux"
STARTED_EACH = 20  # of the documents, one is read by a process that is started, the others by forks of this one
ESCAPES = "\x1b[2J\x9b31m\u202e\r\n\x08"
NAMES = (
    *("a\nb.txt", "\x1b[2J.md", "\udc80bad.txt", "x" * 250, "`a`.py", "\u202e.txt", "-rf", ".hidden", "con.txt", "a b"),
    *("caf\u00e9.c", "[/red].txt", "README.md", "x.png", "a.zip", "\U0001f600"),
)
PATTERNS = (
    *(
        "*",
        "!*",
        "**",
        "/",
        "!",
        "[",
        "[z-a]",
        "\\",
        "a\\ ",
        "[[:alpha:]]",
        "***/x",
        "*a" * 25 + "b",
        "**/" * 200 + "x",
    ),
    *("?" * 300, "[!a]*" * 40, "{a,b}", "#", "\x00", "\ud7ff", "*.txt", "!*.md", "/**/", "a/**/**/**/**/b", "+(a)"),
    "*" * 3000,
)
XML = "<?xml version='1.0'?>"
LAUGHS = "".join(f"<!ENTITY l{n} '" + f"&l{n - 1};" * 10 + "'>" for n in range(1, 12))
ATTRIBUTES = " ".join(f"a{n}='x'" for n in range(50_000))
XML_BOMBS = (
    f'{XML}<!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]><x>&l11;</x>',
    f"{XML}<!DOCTYPE x SYSTEM 'file:///dev/zero'><x/>",
    f"{XML}<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>",
    f"{XML}{'<a>' * 100_000}",
    f"{XML}<x {ATTRIBUTES}/>",
)
TAGS = (
    "div",
    "table",
    "tr",
    "td",
    "ul",
    "li",
    "b",
    "a",
    "pre",
    "blockquote",
    "h1",
    "script",
    "template",
    "main",
    "svg",
)
PDF_WORDS = (
    *(b"/Kids", b"/Count", b"/Length", b"/Parent", b"/Contents", b"/Type", b"obj", b"endobj", b"stream", b"xref"),
    *(b"2 0 R", b"4 0 R", b"1 0 R", b"9999999999", b"-1", b"[" * 3000, b"<<" * 2000, b"/FlateDecode", b"trailer"),
    *(b"/Prev 0", b"/Encrypt 1 0 R", b"/ObjStm", b"startxref\n0", b"1e400", b"\0", b"(" * 3000),
)


def _pdf(random: Random) -> bytes:
    raw = bytearray(makers.pdf(["one\ntwo", "three"]))
    for _ in range(random.choice((1, 2, 6))):
        word = random.choice(PDF_WORDS)
        at = raw.find(word) if word in raw and random.random() < 0.6 else random.randrange(len(raw))
        raw[at : at + random.choice((0, len(word), 3))] = random.choice(PDF_WORDS)
    return bytes(raw)


def _archive(random: Random, whole: bytes) -> bytes:
    """A zip file with other parts."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(random.choice((1, 1, 2))):
        name, change = random.choice(list(parts)), random.randrange(6)
        if change == 0:
            parts[name] = random.choice(XML_BOMBS).encode()
        elif change == 1:
            del parts[name]
        elif change == 2:
            parts[random.choice(("../../x", "/etc/x", "word/document.xml", "\x1b[2J", name))] = parts[name]
        elif change == 3:
            parts[name] = _text_mutant(random, parts[name])
        elif change == 4:
            parts[name] = bytes(random.choice((1 << 20, 1 << 26)))
        else:
            parts[name] = parts[name].replace(b"</", b"<x>" * random.choice((1, 3000)) + b"</")
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return target.getvalue()


def _docx(random: Random) -> bytes:
    return _archive(random, _zipped(lambda path: makers.docx(path, [("Heading1", "Title"), ("", "words")])))


def _epub(random: Random) -> bytes:
    return _archive(random, _zipped(lambda path: makers.epub(path, ["<p>one</p>", "<h1>two</h1>"])))


def _zipped(write: Callable[[io.BytesIO], object]) -> bytes:
    target = io.BytesIO()
    write(target)
    return target.getvalue()


def _html(random: Random) -> bytes:
    kind = random.randrange(6)
    if kind == 0:
        return (f"<{random.choice(TAGS)}>" * random.choice((200, 2000, 50_000)) + "words").encode()
    if kind == 1:
        number = random.choice(("1000000000", "-1", "nan", "\u0663", "x" * 5000))
        return (
            f"<table><tr><td colspan={number} rowspan={number}>words</td></tr></table><ol start={number}><li>x".encode()
        )
    if kind == 2:
        return f"<title>{ESCAPES}</title><main>{ESCAPES * 500}</main><a href='javascript:{ESCAPES}'>x</a>".encode()
    if kind == 3:
        return b"<!--" * 20_000 + b"<" * 20_000 + b"&" * 20_000
    parts = [f"<{random.choice(TAGS)} {random.choice(('', 'class=x', 'href=y', '<'))}>w" for _ in range(300)]
    return "".join(parts).encode() + random.choice((b"", b"\xff\xfe", b"</div>" * 3000, b"&#x1b;[2J&#0;&#xd800;"))


def _mail(random: Random) -> bytes:
    kind = random.randrange(5)
    if kind == 0:
        depth = random.choice((50, 900, 5000))
        parts = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(depth))
        return f"Subject: x\n{parts}\nwords\n".encode()
    if kind == 1:
        words = "=?utf-8?q?a?= " * random.choice((100, 20_000))
        return f"Subject: {words}\nFrom: {'a,' * 5000}b@c\nTo: {'(' * 3000}\n\nwords".encode()
    if kind == 2:
        charset = random.choice(("unicode_escape", "rot13", "hex", "zlib", "idna", "x", "\u00e9", "utf-7", "undefined"))
        coding = random.choice(("base64", "quoted-printable", "x-uuencode", "7bit", "\u00e9"))
        head = f"Subject: x\nContent-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {coding}"
        return f"{head}\n\na=\nb".encode()
    return _text_mutant(random, makers.mail("words\n", random.choice((None, "<p>words</p>"))))


def _notebook(random: Random) -> bytes:
    return hostile_json(json.loads(makers.notebook()), random)


def _csv(random: Random) -> bytes:
    rows = random.choice((b"a,b\n1,2\n", b'"' * 100_000, b"," * 100_000, "é,ü\n".encode("latin-1"), b"a;b\r\n" * 1000))
    return rows + random.choice((b"", b"\0", b"\xff", ESCAPES.encode(), "\ud7ff".encode("utf-16")))


def _text_mutant(random: Random, whole: bytes) -> bytes:
    raw = bytearray(whole)
    for _ in range(random.choice((1, 3, 20))):
        at = random.randrange(len(raw) + 1)
        raw[at : at + random.choice((0, 1, 30))] = random.choice((b"", b"\xff", b"\0", b"<", b"--", raw[:200], b"\n"))
    return bytes(raw)


FILES: dict[str, Callable[[Random], bytes]] = {
    "a.pdf": _pdf, "a.docx": _docx, "a.epub": _epub, "a.html": _html, "a.eml": _mail, "a.ipynb": _notebook,
    "a.csv": _csv,
}  # fmt: skip


def _file(home: Path, random: Random, _hub: HubServer) -> str:
    suffix = random.choice(list(FILES))
    raw = FILES[suffix](random)
    if random.random() < 0.2:
        raw = raw[: random.randrange(len(raw) + 1)]
    path = home / "tree" / random.choice((suffix, suffix, f"\x1b[2J{suffix}"))
    path.write_bytes(raw)
    if random.random() < 0.05:
        path.unlink()
        random.choice((lambda: os.mkfifo(path), path.mkdir, lambda: path.symlink_to(path)))()
        if path.is_fifo():
            path.unlink()
    return str(path)


def _folder(home: Path, random: Random, _hub: HubServer) -> str:
    root = home / "tree"
    (root / ".git").mkdir()
    folders = [root]
    for _ in range(random.choice((1, 5, 25))):
        folder, name = random.choice(folders), random.choice(NAMES)
        with suppress(OSError, ValueError, UnicodeError):
            _entry(folder / name, folders, root, random)
    for folder in random.sample(folders, min(2, len(folders))):
        lines = random.choices(PATTERNS, k=random.choice((1, 3, 30)))
        with suppress(OSError):
            (folder / ".gitignore").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    (root / ("a" * 200)).write_text("words")
    return str(random.choice(folders))


def _entry(path: Path, folders: list[Path], root: Path, random: Random) -> None:
    if os.path.lexists(path):
        return
    kind = random.randrange(8)
    if kind == 0:
        path.symlink_to(random.choice((root, path, "/dev/zero", "/etc", "/nowhere")))
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == 3:
        path.mkdir()
        folders.append(path)
    elif kind == 4:
        deep = path
        for _ in range(random.choice((20, 400, 900))):
            deep /= "d"
        deep.mkdir(parents=True)
        (deep / "x").write_text("words")
    else:
        path.write_bytes(random.choice((b"words", b"\0", ESCAPES.encode(), b"\xff" * 10, b"", b"x" * 2_000_000)))
        path.chmod(random.choice((0o644, 0o000)))


def _page(_home: Path, random: Random, server: HubServer) -> str:
    server.repositories.clear()
    server.faults.clear()
    body = random.choice((makers.pdf(["x"]), b"<p>words</p>", b"words", ESCAPES.encode(), FILES["a.html"](random)))
    server.add(hub.NAME, {"README.md": body})
    server.faults["README.md"] = [hub._fault(random) for _ in range(random.choice((0, 1, 9)))]
    tail = random.choice(("", "?x=\x1b", "#y", "%00", "/../..", "\u00e9", " z", "\n"))
    return f"{server.url}/{hub.NAME}/resolve/main/README.md{tail}"


def _import_readers(home: Path) -> None:
    """Read a whole document of each kind, so that no fork has to import what does that."""
    path = home / "whole"
    for kind, raw in {
        Kind.PDF: makers.pdf(["words"]),
        Kind.ZIP: _zipped(lambda path: makers.docx(path, [("", "words")])),
        Kind.HTML: b"<p>words</p>",
        Kind.MAIL: makers.mail("words\n", "<p>words</p>"),
        Kind.NOTEBOOK: makers.notebook(),
    }.items():
        path.write_bytes(raw)
        extraction._read(path, "whole", kind)


def _forked(module: str, question: Message) -> Generator[Message, None, None]:
    """`run_isolated_task` in a fork of this process, which need not import the readers first."""
    assert module == EXTRACT
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # it reports each fault
        sent: Message = {}
        try:
            extraction.answer(question, sent.update)
        except ChatError as error:
            sent["error"] = pack_error(error)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(to_line(sent))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        line = pipe.read()
    if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise EngineError(f"exit {status}")
    found = from_line(line)
    if "error" in found:
        raise unpack_error(found["error"])
    yield found


WAYS = {"file": _file, "folder": _folder, "page": _page}


def try_documents(home: Path, count: int, seed: int, first: int = 0) -> Trial:
    """Meet hostile documents, `count` times from the `first` of a seed on."""
    trial = Trial()
    with pytest.MonkeyPatch.context() as patch, hub_server() as server:
        patch.setattr(web_page, "SILENCE_SECONDS", 0.5)
        starts = task.run_isolated_task
        _import_readers(home)
        for place in range(first, first + count):
            random = Random(f"{seed}/{place}")
            way = random.choice(("file", *WAYS))
            shutil.rmtree(home / "tree", ignore_errors=True)
            (home / "tree").mkdir()
            name = WAYS[way](home, random, server)
            patch.setattr(task, "run_isolated_task", starts if place % STARTED_EACH == 0 or not CAN_FORK else _forked)
            label = f"{way}/{place} {Path(name).name!r}"
            found = trial.call(label, lambda name=name: open_document(name))
            if found is not None:
                trial.call(label, lambda found=found: "".join(each.fenced() for each in texts_of([found])).encode())
            if way == "file" and Path(name).is_file() and random.random() < 0.2:
                trial.call(label, lambda name=name: text_of_stdin(Path(name).read_bytes()))
    return trial


if __name__ == "__main__":
    sys.exit(hostile_commands.main(__doc__, try_documents))
