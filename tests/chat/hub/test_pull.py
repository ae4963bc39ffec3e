"""Files come from the hub whole, checked and resumed, or one sentence says why not."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat import hub
from chat.errors import ChatError, ExitCode
from chat.hub import client, download, pull
from chat.hub.listing import read_listing
from tests.chat.hub.try_hostile_hub import try_hub
from tests.folders import ROOT
from tests.grids import FULL
from tests.hub_server import GOOD_TOKEN, Fault, HubServer, etag, hub_server
from tests.program import Popen

NAME = "mistralai/Tiny"
WEIGHTS = hashlib.shake_256(b"weights").digest(300_000)
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "README.md": b"read me"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that HF_ENDPOINT points to, with one repository."""
    from huggingface_hub import constants

    with hub_server() as running:
        running.add(NAME, FILES)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 20)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(Path(os.environ["HF_HOME"]) / "token"))
        yield running


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made."""
    made: list[float] = []
    monkeypatch.setattr(client, "pause", made.append)
    return made


@pytest.fixture
def notices() -> list[str]:
    """The notices of a download; pass `notices.append` as `say`."""
    return []


def weights(_names: object) -> tuple[str, ...]:
    return ("model.safetensors",)


def refusal(attempt: Callable[[], object]) -> tuple[int, str, str | None]:
    """Exit code, sentence and hint of the error that an attempt raises."""
    with pytest.raises(ChatError) as caught:
        attempt()
    return int(caught.value.exit_code), caught.value.message, caught.value.hint


def partials() -> list[str]:
    return [path.name for path in hub.hub_cache().rglob("*.incomplete")]


def test_one_list_and_one_request_for_each_file_that_is_wanted(server: HubServer, notices: list[str]) -> None:
    paths = hub.pull_files(NAME, hub.needed_for_conversion, say=notices.append)
    assert {path.name: path.read_bytes() for path in paths} == {
        "config.json": FILES["config.json"],
        "model.safetensors": WEIGHTS,
    }
    commit = server.repositories[NAME].commit
    assert server.paths() == [
        f"hub /api/models/{NAME}?blobs=true",
        f"hub /{NAME}/resolve/{commit}/config.json",
        f"hub /{NAME}/resolve/{commit}/model.safetensors",
        f"cdn /{NAME}/model.safetensors?Signature=secret",
    ]
    assert notices == [f"downloading 2 files of {NAME}, 300 kB"]
    assert partials() == []


def test_what_is_here_is_not_fetched_again(server: HubServer, notices: list[str]) -> None:
    first = hub.pull_files(NAME, weights, say=notices.append)
    server.seen.clear()
    notices.clear()
    assert hub.pull_files(NAME, weights, say=notices.append) == first
    assert (server.paths(), notices) == ([f"hub /api/models/{NAME}?blobs=true"], [])


def test_the_hub_library_finds_what_we_fetched(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import hf_hub_download, scan_cache_dir

    [path] = hub.pull_files(NAME, weights)
    found = hf_hub_download(NAME, "model.safetensors", cache_dir=hub.hub_cache(), local_files_only=True)
    assert Path(found) == path
    report = scan_cache_dir(hub.hub_cache())
    assert (report.warnings, report.size_on_disk) == ([], len(WEIGHTS))


def test_what_the_hub_library_fetched_is_found_by_us(server: HubServer) -> None:
    from huggingface_hub import hf_hub_download

    arguments: dict[str, Any] = {"cache_dir": hub.hub_cache(), "endpoint": server.url}
    theirs = hf_hub_download(NAME, "model.safetensors", **arguments)
    server.seen.clear()
    assert hub.pull_files(NAME, weights) == (Path(theirs),)
    assert server.paths() == [f"hub /api/models/{NAME}?blobs=true"]


@pytest.mark.parametrize("cut", [0, 1, 100_000, len(WEIGHTS) - 1])
def test_a_cut_connection_is_resumed_where_it_broke(server: HubServer, waits: list[float], cut: int) -> None:
    server.faults["model.safetensors"] = [Fault(cut_after=cut)]
    [path] = hub.pull_files(NAME, weights)
    assert path.read_bytes() == WEIGHTS
    assert server.ranges() == [None, f"bytes={cut}-" if cut else None]
    assert waits == [1]


def test_patience_begins_anew_with_every_byte_that_comes(server: HubServer, waits: list[float]) -> None:
    server.faults["model.safetensors"] = [Fault(cut_after=10) for _ in range(12)]
    [path] = hub.pull_files(NAME, weights)
    assert path.read_bytes() == WEIGHTS
    assert waits == [1] * 12


def test_after_five_tries_without_a_byte_one_sentence_tells_and_what_came_is_kept(
    server: HubServer, waits: list[float], notices: list[str]
) -> None:
    server.faults["model.safetensors"] = [Fault(cut_after=1000), *[Fault(cut_after=0) for _ in range(9)]]
    code, message, hint = refusal(lambda: hub.pull_files(NAME, weights, say=notices.append))
    host = server.url.removeprefix("http://")
    assert message.startswith(f"no connection to {host} for model.safetensors: ")
    assert (code, hint) == (
        ExitCode.FILE,
        "check the network and try again; `mistral-chat models list` shows what is already here",
    )
    assert waits == [1, 2, 4, 8]
    assert [sentence.rpartition(": ")[2] for sentence in notices[1:]] == [
        f"trying again in {seconds} s" for seconds in (2, 4, 8)
    ]
    assert partials() == [f"{etag(WEIGHTS)}.incomplete"]
    server.faults.clear()
    server.seen.clear()
    [path] = hub.pull_files(NAME, weights)
    assert path.read_bytes() == WEIGHTS
    assert server.ranges() == ["bytes=1000-"]


def test_a_server_that_ignores_the_range_is_read_from_the_start(server: HubServer, waits: list[float]) -> None:
    server.faults["model.safetensors"] = [Fault(cut_after=1000), Fault(ignores_range=True)]
    [path] = hub.pull_files(NAME, weights)
    assert path.read_bytes() == WEIGHTS


def test_a_range_that_begins_elsewhere_is_not_appended(server: HubServer, waits: list[float]) -> None:
    server.faults["model.safetensors"] = [Fault(cut_after=1000), Fault(wrong_range=True)]
    [path] = hub.pull_files(NAME, weights)
    assert path.read_bytes() == WEIGHTS
    assert server.ranges() == [None, "bytes=1000-", None]


def test_wrong_bytes_are_deleted_and_named(server: HubServer) -> None:
    wrong = bytes(len(WEIGHTS))
    server.faults["model.safetensors"] = [Fault(body=wrong)]
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.DATA,
        "model.safetensors: what arrived is not what the hub promised, and was deleted",
        f"its checksum is {hashlib.sha256(wrong).hexdigest()}, not {etag(WEIGHTS)}; try again, or another network",
    )
    assert [path for path in hub.hub_cache().rglob("*") if path.is_file() and path.suffix != ".lock"] == []


def test_small_files_are_checked_too(server: HubServer) -> None:
    server.faults["config.json"] = [Fault(body=b"[]")]
    code, message, _ = refusal(lambda: hub.pull_files(NAME, lambda _: ["config.json"]))
    assert (code, message) == (
        ExitCode.DATA,
        "config.json: what arrived is not what the hub promised, and was deleted",
    )


def test_more_bytes_than_promised_are_refused_before_they_fill_the_disk(server: HubServer) -> None:
    server.faults["model.safetensors"] = [Fault(body=WEIGHTS + b"!" * 5_000_000)]
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.DATA,
        "model.safetensors: the hub promised 300 kB and sends more: it was deleted",
        "try again, or another network",
    )
    assert partials() == []


def test_a_damaged_part_of_an_earlier_download_is_fetched_anew(server: HubServer, notices: list[str]) -> None:
    partial = hub.CachedRepository(NAME).partial(etag(WEIGHTS))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(1000))
    [path] = hub.pull_files(NAME, weights, say=notices.append)
    assert path.read_bytes() == WEIGHTS
    assert server.ranges() == ["bytes=1000-", None]
    assert notices == [
        f"downloading 1 file of {NAME}, 300 kB, of which 1 kB are here",
        "the partial file of model.safetensors is damaged: it is downloaded again",
    ]


@pytest.mark.parametrize("length", [len(WEIGHTS), len(WEIGHTS) + 7])
def test_a_part_as_long_as_the_file_or_longer_is_not_believed(server: HubServer, length: int) -> None:
    partial = hub.CachedRepository(NAME).partial(etag(WEIGHTS))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(length))
    [path] = hub.pull_files(NAME, weights)
    assert path.read_bytes() == WEIGHTS


def test_a_web_page_instead_of_weights_is_called_one(server: HubServer) -> None:
    page = Fault(body=b"<html>log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    server.faults["model.safetensors"] = [page]
    host = server.url.removeprefix("http://")
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.FILE,
        f"{host} sent a web page instead of model.safetensors",
        "a proxy or a login page of the network answers instead: open the address in a browser",
    )


def test_a_web_page_instead_of_the_list_is_called_one(server: HubServer) -> None:
    server.faults["list"] = [Fault(body=b"<!doctype html><html>hotel</html>")]
    host = server.url.removeprefix("http://")
    assert refusal(lambda: hub.pull_files(NAME, weights))[:2] == (
        ExitCode.FILE,
        f"{host} sent a web page instead of the list of {NAME}",
    )


@pytest.mark.parametrize(
    "listed",
    [
        b"[]",
        b"not json",
        b'{"sha": "main", "siblings": []}',
        b'{"sha": "' + b"a" * 40 + b'", "siblings": [{"rfilename": "a", "size": 1}]}',
        b'{"sha": "' + b"a" * 40 + b'", "siblings": [{"rfilename": "a", "size": -1, "blobId": "' + b"a" * 40 + b'"}]}',
        b'{"sha": "' + b"a" * 40 + b'", "siblings": [{"rfilename": "a", "size": 1, "blobId": "../../x"}]}',
        b'{"sha": "'
        + b"a" * 40
        + b'", "siblings": [{"rfilename": "a", "size": 1%s, "blobId": "%s"}]}' % (b"0" * 400, b"a" * 40),
        b"[" * 100_000,
    ],
)
def test_a_list_that_makes_no_sense_is_refused(server: HubServer, listed: bytes) -> None:
    server.faults["list"] = [Fault(body=listed)]
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.DATA,
        f"the hub's list of {NAME} is not valid",
        f"is {server.url} a hub that gives sizes and checksums? HF_ENDPOINT says which hub is asked",
    )


@pytest.mark.parametrize(
    "name",
    ["../../../evil", "/etc/evil", "a/../../evil", "a//b", "a\\..\\b", "C:evil", "a\0b", "\ud800", "\x1b[2J", ""],
)
def test_a_listed_name_never_leaves_its_folder(server: HubServer, name: str) -> None:
    sibling = {"rfilename": name, "size": 4, "blobId": "a" * 40}
    server.repositories[NAME].listed = {"sha": "b" * 40, "siblings": [sibling]}
    assert refusal(lambda: hub.pull_files(NAME, lambda names: names))[:2] == (
        ExitCode.DATA,
        f"the hub lists a file {name!r}, which is not a plain name inside a folder",
    )


def mutant(plain: bytes, chance: random.Random) -> bytes:
    """A list with one value replaced, or some bytes."""
    if chance.random() < 0.4:
        data = bytearray(plain)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data[: chance.randint(0, len(data))] if chance.random() < 0.3 else data)
    tree = json.loads(plain)
    odd: list[object] = [
        None,
        True,
        -1,
        2**70,
        1.5,
        "",
        "../x",
        "a\x1bb",
        "\ud800",
        [],
        {},
        [[]],
        {"sha256": 1},
        "a" * 64,
        "b" * 40,
    ]
    sibling = chance.choice(tree["siblings"])
    place = chance.choice([tree, sibling, sibling.get("lfs", tree)])
    place[chance.choice(list(place))] = chance.choice(odd)
    return json.dumps(tree).encode()


def test_no_list_whatever_it_holds_breaks_the_program_or_names_a_file_outside() -> None:
    siblings: list[dict[str, object]] = [
        {"rfilename": name, "size": 1, "blobId": "a" * 40} for name in ("config.json", "deep/er.txt")
    ]
    siblings.append({**siblings[0], "rfilename": "w.safetensors", "lfs": {"sha256": "c" * 64, "size": 9}})
    plain = json.dumps({"sha": "b" * 40, "siblings": siblings}).encode()
    chance = random.Random(7)
    root = Path("/somewhere/snapshot")
    outcomes = {"taken": 0, "refused": 0}
    for _ in range(10_000 if FULL else 1000):
        try:
            listing = read_listing(mutant(plain, chance), NAME)
        except ChatError:
            outcomes["refused"] += 1
            continue
        outcomes["taken"] += 1
        assert len(listing.commit) == 40
        for file in listing.files:
            assert Path(os.path.normpath(root / file.name)).is_relative_to(root)
            assert file.name.isprintable()
            assert type(file.size) is int
            assert file.size >= 0
            assert len(file.digest) in (40, 64)
    assert min(outcomes.values()) > 50, outcomes


def test_a_request_limit_is_waited_for_as_long_as_the_hub_asks(
    server: HubServer, waits: list[float], notices: list[str]
) -> None:
    server.faults["list"] = [Fault(status=429, headers={"Retry-After": "7"})]
    server.faults["model.safetensors"] = [
        Fault(status=429, headers={"RateLimit": '"resolvers";r=0;t=3'}),
        Fault(status=503),
    ]
    [path] = hub.pull_files(NAME, weights, say=notices.append)
    assert path.read_bytes() == WEIGHTS
    assert waits == [7, 3, 2]
    assert notices == [
        f"the hub has had too many requests from here: waiting 7 s for the list of {NAME}",
        f"downloading 1 file of {NAME}, 300 kB",
        "the hub has had too many requests from here: waiting 3 s for model.safetensors",
        "the hub is not working (status 503): waiting 2 s for model.safetensors",
    ]


@pytest.mark.parametrize(("seconds", "tries"), [("4", 3), ("3600", 1)])
def test_a_request_limit_that_does_not_end_is_told(
    server: HubServer, waits: list[float], seconds: str, tries: int
) -> None:
    server.faults["list"] = [Fault(status=429, headers={"Retry-After": seconds}) for _ in range(9)]
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.FILE,
        "the hub has had too many requests from here",
        f"try again in {seconds} s: what was downloaded is kept; with a token the limit is higher: `hf auth login`",
    )
    assert len(server.seen) == tries


def test_a_cookie_that_cannot_be_sent_back_spoils_nothing(server: HubServer, waits: list[float]) -> None:
    """One answer with a cookie outside of ASCII made every later request of the program fail."""
    server.faults["list"] = [Fault(status=503, headers={"Set-Cookie": "a=\u00b2"})]
    [path] = hub.pull_files(NAME, weights)
    assert path.read_bytes() == WEIGHTS
    again = {"Set-Cookie": "a=\u00b2", "Location": f"/api/models/{NAME}"}
    server.faults["list"] = [Fault(status=302, headers=again) for _ in range(9)]
    code, message, _ = refusal(lambda: hub.pull_files(NAME, weights))
    assert (code, message.rpartition(": ")[2]) == (ExitCode.FILE, "its answer makes no sense")


def test_a_missing_repository_is_one_sentence(server: HubServer) -> None:
    assert refusal(lambda: hub.pull_files("mistralai/Mistrall", weights)) == (
        ExitCode.MODEL,
        "the hub has no repository mistralai/Mistrall, or hides it",
        f"look at {server.url}/mistralai/Mistrall; if it is private: `hf auth login`",
    )


def test_a_missing_revision_is_one_sentence(server: HubServer) -> None:
    assert refusal(lambda: hub.pull_files(NAME, weights, revision="v9")) == (
        ExitCode.MODEL,
        f"{NAME} has no revision v9",
        "leave out `@` and what follows for the newest",
    )


@pytest.mark.parametrize(
    ("token", "way_out"),
    [(None, "log in: `hf auth login`"), (GOOD_TOKEN, "use the token of the account that did")],
)
def test_a_gated_repository_says_where_its_terms_are(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, token: str | None, way_out: str
) -> None:
    server.repositories[NAME].gated = True
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.MODEL,
        f"{NAME} is gated: its authors want their terms accepted first",
        f"accept them at {server.url}/{NAME}, then {way_out}",
    )


def test_a_refused_token_is_said_and_not_shown(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.MODEL,
        "the hub does not accept the token",
        "`hf auth login` stores a new one; HF_TOKEN takes precedence",
    )


def test_a_forbidden_repository_is_one_sentence(server: HubServer) -> None:
    server.faults["list"] = [Fault(status=403)]
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.MODEL,
        f"the hub forbids reading {NAME}",
        "check the permissions of the token",
    )


@pytest.mark.parametrize(
    ("status", "message"),
    [(418, f"the hub answers {NAME} with status 418"), (302, f"the hub redirects requests for {NAME} in a loop")],
)
def test_a_server_that_is_no_hub_is_doubted(server: HubServer, status: int, message: str) -> None:
    head = {"Location": f"{server.url}/api/models/{NAME}"} if status == 302 else {}
    server.faults["list"] = [Fault(status=status, headers=head) for _ in range(50)]
    host = server.url.removeprefix("http://")
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.FILE,
        message,
        f"is {host} a hub? HF_ENDPOINT names the hub",
    )


def test_no_network_is_one_sentence(server: HubServer, monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://someone:secret@127.0.0.1:1")
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.FILE,
        f"no connection to 127.0.0.1:1 for the list of {NAME}: Connection refused",
        "check the network and try again; `mistral-chat models list` shows what is already here",
    )


@pytest.mark.parametrize("address", ["nonsense", "ftp://hub.example", "http://[", "http://a b"])
def test_an_endpoint_that_is_no_address_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.USAGE,
        f"HF_ENDPOINT is not a web address: {address}",
        "such as https://huggingface.co",
    )


def test_offline_mode_is_obeyed(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.FILE,
        f"HF_HUB_OFFLINE forbids asking the hub for {NAME}",
        "`unset HF_HUB_OFFLINE` allows it",
    )
    assert server.seen == []


def test_a_silent_server_is_not_waited_for_forever(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    server.faults["model.safetensors"] = [Fault(hold_after=0) for _ in range(9)]
    host = server.url.removeprefix("http://")
    code, message, _ = refusal(lambda: hub.pull_files(NAME, weights))
    assert (code, message) == (
        ExitCode.FILE,
        f"no connection to {host} for model.safetensors: it does not answer",
    )


def test_the_token_goes_to_the_hub_alone(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    hub.pull_files(NAME, weights)
    tokens = {each.server: each.headers.get("authorization") for each in server.seen}
    assert tokens == {"hub": f"Bearer {GOOD_TOKEN}", "cdn": None}


@pytest.mark.parametrize("token", ["hf_se\x01cret", "hf_secrét", "hf_\u201csecret"])
def test_a_token_that_cannot_be_sent_is_refused_without_quoting_it(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """The network library's own message for such a header holds the header."""
    monkeypatch.setenv("HF_TOKEN", token)
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.USAGE,
        "the hub token contains invalid characters",
        "`hf auth login` stores a new one; HF_TOKEN takes precedence",
    )


def test_a_full_disk_is_said_before_anything_is_fetched(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1_000_000))
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.FILE,
        f"{NAME} needs 300 kB more on the disk, but {hub.hub_cache()} has 1 MB free",
        "make room, or name a folder on a larger disk: `export HF_HOME=FOLDER`",
    )
    assert server.ranges() == []


def test_a_disk_that_fills_midway_loses_only_the_file_at_hand(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.pull_files(NAME, lambda _: ["config.json"])

    def full(self: Any, piece: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download._Transfer, "_write", full)
    assert refusal(lambda: hub.pull_files(NAME, hub.needed_for_conversion)) == (
        ExitCode.FILE,
        "the disk is full, so model.safetensors was not finished",
        "what was downloaded before is kept; make room and try again, or set HF_HOME to a larger disk",
    )
    assert partials() == []
    cache = hub.CachedRepository(NAME)
    assert cache.files(server.repositories[NAME].commit) == ("config.json",)


def test_a_read_only_cache_is_one_sentence(server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("HF_HUB_CACHE", str(blocked))
    code, message, _ = refusal(lambda: hub.pull_files(NAME, weights))
    assert code == ExitCode.FILE
    assert message == f"{blocked}/.locks/models--mistralai--Tiny: cannot be written: Not a directory"


def test_a_file_too_large_for_the_hub_is_refused_with_the_way_to_it(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "LARGEST_FILE", 200_000)
    assert refusal(lambda: hub.pull_files(NAME, weights)) == (
        ExitCode.MODEL,
        "model.safetensors has 300 kB, but the hub serves no file over 200 kB",
        f"fetch it with `hf download {NAME}`: it is found in the hub's cache then",
    )


def pulling_program(server: HubServer) -> subprocess.Popen[str]:
    code = f"from chat import hub; hub.pull_files({NAME!r}, lambda names: ['model.safetensors'])"
    environment = {**os.environ, "HF_ENDPOINT": server.url, "PYTHONPATH": str(ROOT)}
    return Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=environment)


def test_two_programs_at_once_fetch_a_file_once(server: HubServer, notices: list[str]) -> None:
    server.faults["model.safetensors"] = [Fault(hold_after=1000)]
    program = pulling_program(server)
    assert server.held.wait(60)

    def release_when_waiting(sentence: str) -> None:
        notices.append(sentence)
        if "another program" in sentence:
            server.release.set()

    [path] = hub.pull_files(NAME, weights, say=release_when_waiting)
    program.communicate(timeout=60)
    assert program.returncode == 0
    assert notices[-1] == "another program is downloading model.safetensors: waiting for it"
    assert path.read_bytes() == WEIGHTS
    assert server.ranges() == [None]
    asked = {each.split("?")[0].rpartition("/")[2] for each in server.paths()}
    assert asked == {"Tiny", "model.safetensors"}, "a fresh process asks for nothing else: no telemetry"


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 9])
def test_a_killed_download_goes_on_where_it_stopped(server: HubServer, number: int) -> None:
    server.faults["model.safetensors"] = [Fault(hold_after=200_000)]
    program = pulling_program(server)
    assert server.held.wait(60)
    partial = hub.CachedRepository(NAME).partial(etag(WEIGHTS))
    deadline = time.monotonic() + 60
    while not partial.exists() or partial.stat().st_size < 200_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    program.send_signal(number)
    _, errors = program.communicate(timeout=60)
    if number == 2:
        assert "stopped; what was downloaded is kept: the same command resumes it\n" in errors
    server.release.set()
    server.seen.clear()
    [path] = hub.pull_files(NAME, weights)
    assert path.read_bytes() == WEIGHTS
    assert server.ranges() == ["bytes=200000-"]


def test_the_revision_is_pinned_while_the_repository_moves(server: HubServer) -> None:
    """A push between the list and the files must not mix two commits."""
    old = server.repositories[NAME].commit

    def choose(names: object) -> list[str]:
        moved = server.add(NAME, FILES | {"model.safetensors": bytes(300_000)})
        moved.branches = ("main", old)
        return ["config.json"]

    [path] = hub.pull_files(NAME, choose)
    assert path.parent.name == old
    assert server.paths()[-1] == f"hub /{NAME}/resolve/{old}/config.json"


def test_a_checkpoint_is_a_folder_with_one_layout(server: HubServer, notices: list[str]) -> None:
    index = json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    )
    server.add(
        "mistralai/Both",
        {
            "config.json": b"{}",
            "params.json": b"{}",
            "model.safetensors.index.json": index.encode(),
            "model-00001-of-00002.safetensors": b"a" * 2000,
            "model-00002-of-00002.safetensors": b"b" * 2000,
            "consolidated.safetensors": b"c" * 4000,
            "tokenizer.model.v3": b"t",
        },
    )
    folder = hub.checkpoint_files("hf:mistralai/Both@main", say=notices.append)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "params.json",
        "tokenizer.model.v3",
    ]


def test_an_index_that_names_what_the_repository_lacks_is_refused(server: HubServer) -> None:
    index = json.dumps({"weight_map": {"a": "../../etc/passwd"}}).encode()
    files = {"config.json": b"{}", "model.safetensors.index.json": index}
    server.add("a/b", files | {"model-00001-of-00001.safetensors": b"a" * 2000})
    assert refusal(lambda: hub.checkpoint_files("a/b"))[:2] == (
        ExitCode.DATA,
        "model.safetensors.index.json names ../../etc/passwd, which the repository lacks",
    )


def test_without_a_network_the_checkpoint_that_is_here_serves(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, waits: list[float], notices: list[str]
) -> None:
    folder = hub.checkpoint_files(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert hub.checkpoint_files(NAME, say=notices.append) == folder
    sentence = f"no connection to 127.0.0.1:1 for the list of {NAME}: Connection refused"
    assert notices == [
        f"no connection for the list of {NAME} (Connection refused): trying again in 2 s",
        f"{sentence}; using the copy that is here, commit {folder.name[:8]}",
    ]


def test_without_a_network_the_size_is_that_of_the_copy(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    assert hub.checkpoint_size(NAME) == (300_002, 300_002)
    hub.checkpoint_files(NAME)
    assert hub.checkpoint_size(NAME) == (300_002, 0)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert hub.checkpoint_size(NAME) == (300_002, 0)


def test_without_a_network_half_a_checkpoint_does_not_serve(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    hub.pull_files(NAME, lambda _: ["config.json"])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert refusal(lambda: hub.checkpoint_files(NAME))[0] == ExitCode.FILE


def test_nothing_of_the_library_is_loaded_before_the_hub_is_asked() -> None:
    code = (
        "import sys; from chat import hub; hub.gguf_here(hub.read_hub_name('a/b'));"
        "list(hub.cached_gguf_files());"
        "print([name for name in ('huggingface_hub', 'httpx2', 'httpx', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


def test_a_hub_may_answer_anything(own_home: Path) -> None:
    """`python -m tests.chat.hub.try_hostile_hub` tries more of it."""
    trial = try_hub(own_home, 1000 if FULL else 40, seed=1)
    assert trial.faults == []
    assert trial.codes.total() > trial.codes["hub 0"] > 0


def test_a_hub_that_breaks_off_after_each_byte_is_not_asked_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "pause", lambda seconds: None)
    asked = []

    def attempt() -> None:
        asked.append(1)
        raise client.BrokenOffError("it ended", progressed=True)

    with pytest.raises(ChatError, match="for a file: it ended"):
        client.with_retries(attempt, "a file", print)
    assert len(asked) == 500
