"""`mcp.json` files of Claude and VS Code, and the table `[tools]` of the settings file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chat.config.allowed_rules import store_allowed, text_with_allowed
from chat.config.options import Settings
from chat.config.resolve import resolve_settings
from chat.config.tool_table import ToolServer
from chat.errors import ChatError, UsageError
from chat.tools.mcp_config import read_mcp_config
from chat.tools.sources import toolbox_of

CLAUDE = """{
  "mcpServers": {
    "files": {"command": "npx", "args": ["-y", "@x/server", "${HOME_OF_IT}"], "env": {"TOKEN": "${TOKEN:-no}", "N": 3}},
    "web": {"type": "http", "url": "https://example.org/mcp", "headers": {"Authorization": "Bearer ${env:TOKEN}"}},
    "off": {"command": "x", "disabled": true}
  }
}"""
CODE = """{
  // as VS Code writes it: https://example.org
  "inputs": [{"type": "promptString", "id": "key"}],
  "servers": {
    "time": {"type": "stdio", "command": "uvx", "args": ["mcp-server-time",], "cwd": "${workspaceFolder}/x", "dev": {}},
    "hub": {"type": "http", "url": "https://hub.example.org/mcp"}, /* the last */
  }
}"""


def servers_of(folder: Path, text: str, **variables: str) -> tuple[tuple[ToolServer, ...], list[str]]:
    file = folder / "mcp.json"
    file.write_text(text)
    return read_mcp_config(file, variables)


def test_the_file_of_claude(tmp_path: Path) -> None:
    (files, web), notices = servers_of(tmp_path, CLAUDE, HOME_OF_IT="/home/x", TOKEN="abc")
    assert (files.command, files.args, files.env) == (
        "npx",
        ("-y", "@x/server", "/home/x"),
        (("TOKEN", "abc"), ("N", "3")),
    )
    assert (web.url, web.headers) == ("https://example.org/mcp", (("Authorization", "Bearer abc"),))
    assert notices == []
    assert "abc" not in repr(files) + repr(web)


def test_how_long_a_start_may_take(tmp_path: Path) -> None:
    own = '{"mcpServers": {"a": {"command": "x", "startup_timeout_sec": 120}, "b": {"command": "x"}}}'
    assert [server.startup_timeout_sec for server in servers_of(tmp_path, own)[0]] == [120, 60]
    with pytest.raises(
        ChatError, match=r"`a`: `startup_timeout_sec` must be a whole number of seconds, from 1 to 3600"
    ):
        servers_of(tmp_path, own.replace("120", "true"))
    file = tmp_path / "config.toml"
    file.write_text('[tools.a]\ncommand = "x"\nstartup-timeout-sec = 120\n')
    table = resolve_settings({}, {}, file=file).settings.tool_table
    assert table is not None and table.servers[0].public_values() == {"command": "x", "startup_timeout_sec": 120}
    file.write_text('[tools.a]\ncommand = "x"\nstartup_timeout_sec = 0\n')
    with pytest.raises(UsageError, match=r"line 3: `startup_timeout_sec` must be a whole number of seconds"):
        resolve_settings({}, {}, file=file)


def test_the_file_of_vs_code_has_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (time, hub), _ = servers_of(tmp_path, CODE)
    assert (time.command, time.args, time.cwd) == ("uvx", ("mcp-server-time",), f"{tmp_path}/x")
    assert (hub.command, hub.url) == (None, "https://hub.example.org/mcp")


def server(**table: Any) -> str:
    return json.dumps({"mcpServers": {"x": table}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "mcp.json: has no `mcpServers` and no `servers`"),
        ("{", "mcp.json: is not JSON: "),
        ("[" * 100_000, "mcp.json: is not JSON: it is nested too deeply"),
        (server(), "`x`: needs a `url`"),
        (server(type="stdio"), "`x`: needs a `command`"),
        (server(type="sse", url="https://x/sse"), "`x`: the transport SSE was replaced by streamable HTTP"),
        (server(type="ws", url="x"), "`x`: unknown type 'ws'"),
        (server(command="x", args="y"), "`x`: `args` must be a list"),
        (server(command="x", args=[{}]), "`x`: `args` must be a text"),
        (server(command="x", env=[]), None),
        (
            server(command="x", env={"A": "${input:key}"}),
            "`x`: `${input:key}` asks for a value, which only VS Code does",
        ),
        (server(command="x", env={"A": "${env:NOT_SET}"}), "`x`: $NOT_SET is not set"),
        (server(command="x", env={"A": "${MISTRAL_CHAT_REMOTE_KEY}"}), "`x`: $MISTRAL_CHAT_REMOTE_KEY is not set"),
        ('{"servers": {"x": 3}}', "`x` is not an object"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_server(tmp_path: Path, text: str, message: str | None) -> None:
    if message is None:
        assert servers_of(tmp_path, text)[0][0].env == ()
        return
    with pytest.raises(ChatError, match=re.escape(message)):
        servers_of(tmp_path, text, MISTRAL_CHAT_REMOTE_KEY="secret")


def test_an_unknown_key_is_told(tmp_path: Path) -> None:
    _, notices = servers_of(tmp_path, server(command="x", autoApprove=["*"], envFile=".env"))
    assert notices == [f"{tmp_path}/mcp.json: `x`: `envFile` is not used"]


TABLE = """model = "x.gguf"
[tools]  # of the model
allow = ["calculate"]
deny = ["git_push"]
[tools.time]
command = "uvx"
args = ["mcp-server-time"]
env = { TZ = "UTC" }
[tools.mine]
file = "~/functions.py"
[tools.old]
url = "https://x"
enabled = false
"""


def test_the_settings_file_has_rules_and_sources(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(TABLE)
    table = resolve_settings({}, {}, file).settings.tool_table
    assert table is not None
    assert (table.allow, table.deny) == (("calculate",), ("git_push",))
    time, mine = table.servers
    assert (time.name, time.command, time.args, time.env) == ("time", "uvx", ("mcp-server-time",), (("TZ", "UTC"),))
    assert (mine.name, mine.file, mine.place) == ("mine", "~/functions.py", f"{file}, line 9")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tools]\nalow = []", "line 2: unknown key `alow` of [tools]"),
        ("[tools]\nallow = 'x'", "line 2: `allow` must be a list of rules"),
        ("[tools.x]\nco-mand = 'y'\nco_mand = 'y'", "line 2: unknown key `co-mand` of a server"),
        ("[tools.x]\ncomand = 'y'", "line 2: unknown key `comand` of a server"),
        ("[tools.x]\ncommand = ['y']", "line 2: `command` must be the program that is the server"),
        ("[tools.x]\ncommand = 'y'\nen-abled = true", "line 3: unknown key `en-abled` of a server"),
        ("[remote.x]\nurl = 'y'\nkey_header = 'a'\nkey-header = 'b'", "line 4: `key-header` is set twice"),
        ("[tools.x]\ncommand = 'y'\nargs = [1]", "line 3: `args` must be a list of texts"),
        ("[tools.x]\ncommand = 'y'\nurl = 'z'", "line 1: [tools.x] needs one of `command`, `url` and `file`"),
        ("[tools.x]\nenabled = true", "line 1: [tools.x] needs one of `command`, `url` and `file`"),
        ("[tools.'a b']\ncommand = 'y'", "line 1: a server's name has only letters, digits, `-`, `_` and `.`"),
        ("tools = 'x.json'", "`tools` can only be given on the command line"),
    ],
)
def test_a_fault_in_the_table_has_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=re.escape(message)):
        resolve_settings({}, {}, file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '[tools]\nallow = [\n  "a(x=\\"y\\")",\n]\n'),
        ("model = 'x'", 'model = \'x\'\n\n[tools]\nallow = [\n  "a(x=\\"y\\")",\n]\n'),
        ("[tools]\ndeny = []\n", '[tools]\nallow = [\n  "a(x=\\"y\\")",\n]\ndeny = []\n'),
        ("[tools]", '[tools]\nallow = [\n  "a(x=\\"y\\")",\n]\n'),
        ("[tools]\nallow = ['q'] # why\n# stays\n", '[tools]\nallow = [\n  "a(x=\\"y\\")",\n]\n# stays\n'),
        ("[tools]\nallow = [\n 'q', # ]\n 'r']\n[x]\n", '[tools]\nallow = [\n  "a(x=\\"y\\")",\n]\n[x]\n'),
        ("[tools.t]\ncommand='x'\n", '[tools.t]\ncommand=\'x\'\n\n[tools]\nallow = [\n  "a(x=\\"y\\")",\n]\n'),
    ],
)
def test_rules_are_written_where_they_belong_and_nothing_else_changes(text: str, expected: str) -> None:
    assert text_with_allowed(text, ('a(x="y")',)) == expected


def test_rules_are_stored_and_removed(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "config.toml"
    store_allowed(file, ("calculate", "read_file(path=src/*)"))
    table = resolve_settings({}, {}, file).settings.tool_table
    assert table is not None and table.allow == ("calculate", "read_file(path=src/*)")
    store_allowed(file, ())
    assert file.read_text() == "[tools]\nallow = []\n"


def test_a_table_that_only_a_person_can_change_stays(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("tools = { allow = ['x'] }\n")
    with pytest.raises(UsageError, match="line 1: `allow` of \\[tools\\] cannot be changed here"):
        store_allowed(file, ("y",))
    assert file.read_text() == "tools = { allow = ['x'] }\n"


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text("")
    files = tuple(str(tmp_path / name / "mine.py") for name in ("a", "b"))
    with pytest.raises(UsageError, match="there is another source of functions named `mine`"):
        toolbox_of(Settings(tools=files), runs=True)


def test_offline_a_server_at_an_address_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat.tools.sources.is_offline", lambda: True)
    (tmp_path / "mcp.json").write_text(server(url="https://example.org/mcp"))
    toolbox = toolbox_of(Settings(mcp_config=(str(tmp_path / "mcp.json"),)), runs=True)
    assert toolbox.take_notices() == ["`x` is a server at an address, which is not asked offline"]
    assert len(toolbox.tools()) == 5


@pytest.mark.parametrize(
    ("url", "headers", "message"),
    [
        ("ftp://x", {}, "the address must be like https://example.org/mcp"),
        ("http://[x", {}, "the address must be like https://example.org/mcp"),
        ("http://example.org/mcp", {"A": "b"}, "its headers would be sent over plain http, where others can read them"),
        ("https://example.org/mcp", {"A": "b\nc"}, "the header A has characters that a header cannot have"),
    ],
)
def test_an_address_that_cannot_be_used(tmp_path: Path, url: str, headers: dict[str, str], message: str) -> None:
    (tmp_path / "mcp.json").write_text(server(url=url, headers=headers))
    with pytest.raises(UsageError, match=f"`x`: {message}"):
        toolbox_of(Settings(mcp_config=(str(tmp_path / "mcp.json"),)), runs=True)
