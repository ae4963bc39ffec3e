"""`mistral-chat sessions ...` on a terminal and in a pipe."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chat.cli.main import run
from chat.core.answer_details import AnswerDetails
from chat.core.conversation import Conversation, Message, Node
from chat.core.events import TokenCounts
from chat.history.session_json import from_json, iso_time
from chat.history.store import Store, open_history
from tests.environments import pipes, terminal
from tests.folders import ROOT
from tests.program import Popen


def sessions(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Run the command with pipes; (exit code, stdout, stderr)."""
    environment = pipes(stdin.encode())
    code = run(["sessions", *arguments], environment)
    return code, environment.out, environment.err


def on_terminal(*arguments: str, columns: int = 80, typed: str = "") -> str:
    """Run the command on a terminal; returns what it prints."""
    environment = terminal(typed, columns=columns)
    run(["sessions", *arguments], environment)
    return environment.out + environment.err


@pytest.fixture
def store(own_home: Path) -> Store:
    """Three sessions in the home folder of the programs that the tests run."""
    store = open_history()
    conversation = Conversation("Be brief.").add(Message("user", "What is a rolling buffer?"), "q")
    conversation = conversation.add(Message("assistant", "W cells.\x1b[31m\n", (1, 2), "stop"), "a")
    store.create(name="buffer", model="7b", conversation=conversation)
    store.create(title="\x1b]0;evil\x07tab\there", conversation=Conversation().add(Message("user", "x")))
    store.create(name="日本語の話", conversation=Conversation().add(Message("user", "日本語が好きですか")))
    return store


def test_a_list_in_a_pipe_has_a_line_with_tabs_for_each_session(store: Store) -> None:
    code, out, err = sessions("list")
    rows = [line.split("\t") for line in out.splitlines()]
    assert (code, err, [row[1:5] for row in rows]) == (
        0,
        "",
        [
            ["日本語の話", "日本語が好きですか", "1", ""],
            ["", "␛]0;evil␇tab here", "1", ""],
            ["buffer", "What is a rolling buffer?", "2", "7b"],
        ],
    )
    assert [row[0] for row in rows] == [record.id for record in store.list()]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row[5]) for row in rows)
    assert sessions("list", "-n", "1")[1].count("\n") == 1


def test_a_list_as_json_is_one_array(store: Store) -> None:
    _, out, _ = sessions("list", "--json")
    record = store.get("buffer")
    listed = json.loads(out)
    assert len(listed) == 3
    assert {**listed[2], "created": "", "updated": ""} == {
        "id": record.id, "name": "buffer", "title": "What is a rolling buffer?", "model": "7b", "messages": 2,
        "created": "", "updated": "",
    }  # fmt: skip


@pytest.mark.parametrize("columns", [80, 40, 20])
def test_a_list_on_a_terminal_fits_and_has_no_control_characters(store: Store, columns: int) -> None:
    from rich.cells import cell_len

    output = re.sub(r"\x1b\[[0-9;]*m", "", on_terminal("list", columns=columns))
    lines = output.splitlines()
    assert len(lines) == 4
    assert all(cell_len(line) <= columns for line in lines)
    assert not {"\x1b", "\x07"} & set(output)
    if columns == 80:
        assert re.fullmatch(r"SESSION +TITLE +MESSAGES  USED", lines[0])
        assert re.fullmatch(r"buffer +What is a rolling buffer\? +2  \d{4}-\d\d-\d\d \d\d:\d\d", lines[3])
        assert re.fullmatch(r"日本語の話 +日本語が好きですか +1  \d{4}-\d\d-\d\d \d\d:\d\d", lines[1])


def test_an_empty_history_is_no_error_and_makes_no_file(own_home: Path) -> None:
    assert sessions("list") == (0, "", "")
    assert sessions("list", "--json") == (0, "[]\n", "")
    assert sessions("search", "x") == (0, "", "")
    assert sessions("show") == (2, "", "error: no sessions are stored yet\n")
    assert on_terminal("list") == "no sessions are stored yet\n"
    assert not (own_home / "mistral-chat").exists()


def test_show_is_unchanged_in_a_pipe_and_escaped_on_a_terminal(store: Store) -> None:
    code, out, err = sessions("show", "buffer")
    assert (code, err) == (0, "")
    assert out.endswith("## You\n\nWhat is a rolling buffer?\n\n## Assistant\n\nW cells.\x1b[31m\n\n")
    assert on_terminal("show", "buffer").endswith("W cells.␛[31m\n\n")
    assert sessions("show")[1].startswith("# 日本語の話\n")
    assert from_json(sessions("show", "buffer", "--json")[1])[1] == store.load(store.get("buffer").id)[1]


def test_search_prints_snippets(store: Store) -> None:
    record = store.get("buffer")
    assert sessions("search", "rolling") == (
        0, f"{record.id}\tbuffer\tq\tuser\tWhat is a rolling buffer?\n", "",
    )  # fmt: skip
    assert sessions("search", "a rolling")[1] == sessions("search", "rolling")[1]
    assert sessions("search", "rolling a")[1] == ""
    assert sessions("search", '"a rolling" what')[1] == sessions("search", "rolling")[1]
    (hit,) = json.loads(sessions("search", "--json", "rolling")[1])
    assert (hit["session"], hit["node"], hit["marks"]) == (record.id, "q", [[10, 17]])
    output = on_terminal("search", "rolling")
    assert "\x1b[1mrolling\x1b[0m" in output and "\x1b[1mbuffer\x1b[0m" in output
    assert on_terminal("search", "absent") == "nothing found\n"
    assert "\x1b]" not in on_terminal("search", "evil")


def test_export_writes_the_format_of_the_suffix(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "chat.html"
    assert sessions("export", "buffer", "-o", str(path)) == (0, "", f"wrote {path}\n")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    code, out, err = sessions("export", "buffer", "-o", str(path))
    assert (code, out, err.splitlines()[0]) == (2, "", f"error: {path} exists")
    assert sessions("export", "buffer", "-o", str(path), "--overwrite", "--format", "json")[0] == 0
    assert from_json(path.read_text())[1] == store.load(store.get("buffer").id)[1]
    assert sessions("export", "buffer") == sessions("show", "buffer")
    assert sessions("export") == sessions("show")
    lines = sessions("export", "--all", "--format", "sharegpt")[1].splitlines()
    assert [json.loads(line)["id"] for line in lines] == [record.id for record in store.list()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("export", "--all", "--format", "html"),
            "error: 3 sessions do not fit in one html file\nhint: use `--format jsonl`, or name one session\n",
        ),
        (
            ("rm", "nothing like it", "-y"),
            "error: there is no session `nothing like it`\nhint: `mistral-chat sessions list` shows them\n",
        ),
        (("export", "buffer", "-o", "x.pdf"), "error: there is no export format for `.pdf`\nhint: use one of "),
        (("show", "bufer"), "error: there is no session `bufer`\nhint: did you mean `buffer`?\n"),
        (("show", "x" * 999), f"error: there is no session `{'x' * 100}…`\nhint: `mistral-chat sessions list` "),
        (("rename", "bufer", "x"), "error: there is no session `bufer`\nhint: did you mean `buffer`?\n"),
        (
            ("rename", "buffer", "日本語の話"),
            "error: there is already a session called `日本語の話`\nhint: choose another name\n",
        ),
        (("rm", "buffer", "bufer", "--yes"), "error: there is no session `bufer`\nhint: did you mean `buffer`?\n"),
        (("rm", "buffer"), "error: there is no terminal to ask on\nhint: `--yes` deletes without asking\n"),
    ],
)
def test_an_error_is_printed_and_nothing_changes(store: Store, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = sessions(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert {"buffer", "日本語の話"} < {record.label for record in store.list()}


def test_rename_changes_the_name_and_rm_deletes(store: Store) -> None:
    assert sessions("rename", "buffer", "cache") == (0, "", "")
    assert store.get("cache").title == "What is a rolling buffer?"
    assert sessions("rename", "cache", "") == (0, "", "")
    assert store.find("cache") is None
    assert sessions("rm", "日本語の話", store.list()[-1].id[:8], "--yes") == (0, "", "")
    assert [record.title for record in store.list()] == ["\x1b]0;evil\x07tab\there"]


def test_rm_names_damaged_files_that_may_still_have_the_session(store: Store) -> None:
    assert store.path
    aside = store.path.with_name(store.path.name + ".corrupt-20260102T030405")
    aside.write_bytes(b"rolling buffer")
    assert sessions("rm", "buffer", "--yes") == (0, "", f"what was deleted may still be in {aside}\n")


def test_rm_asks_on_a_terminal(store: Store) -> None:
    assert "delete `buffer` (What is a rolling buffer?)? [y/N]" in on_terminal("rm", "buffer", typed="n\n")
    assert store.find("buffer")
    on_terminal("rm", "buffer", typed="y\n")
    assert store.find("buffer") is None


def test_a_newer_history_is_an_error_and_not_changed(store: Store) -> None:
    assert store.path
    store._connection.write(lambda connection: connection.execute("PRAGMA user_version = 7"))
    newer = "its version, 7, is newer than 4, which this program knows"
    for command in (["list"], ["show", "buffer"], ["search", "rolling"], ["export"]):
        assert sessions(*command) == (7, "", f"error: the history cannot be read: {newer}\n")
    for command in (["rm", "buffer", "--yes"], ["rename", "buffer", "b"]):
        assert sessions(*command) == (
            7, "", f"error: the history cannot be written: {newer}\nhint: nothing was changed\n"
        )  # fmt: skip


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(store: Store) -> None:
    conversation = Conversation()
    for number in range(300):  # more than the buffer of a pipe
        conversation = conversation.add(Message("user", f"line {number} " * 2000))
    store.create(name="long", conversation=conversation)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "chat", "sessions", "show", "long"]
    with Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as shown:
        assert shown.stdout and shown.stderr
        assert shown.stdout.readline() == b"# long\n"
        shown.stdout.close()
        assert (shown.wait(60), shown.stderr.read()) == (141, b"")


def test_an_imported_session_is_equal_to_the_exported_one(store: Store, tmp_path: Path) -> None:
    record = store.get("buffer")
    store.set_settings(record.id, {"temperature": 0.2, "remote": "http://elsewhere.example"})
    file = tmp_path / "buffer.json"
    file.write_text(sessions("show", "buffer", "--json")[1])
    code, out, err = sessions("import", str(file))
    assert (code, err) == (0, "there is already a session called `buffer`, so this one has no name\n")
    imported, conversation = store.load(out.strip())
    assert conversation == store.load(record.id)[1]
    assert (imported.name, imported.title, imported.model) == (None, record.title, record.model)
    assert imported.settings == {"temperature": 0.2}  # not the server that the file names
    store.rename(record.id, None)
    assert sessions("import", str(file))[2] == ""
    assert store.get("buffer").title == record.title
    piped = sessions("import", "-", stdin=file.read_text())
    assert store.load(piped[1].strip())[1] == conversation


def test_one_file_has_all_sessions_and_reads_back_equal(store: Store, tmp_path: Path) -> None:
    details = AnswerDetails("small", "api.example.org", "", {"seed": 3}, TokenCounts(5, 1, 2), finished=4.0)
    record = store.get("buffer")
    store.append(record.id, Node("b", "a", Message("assistant", "more\u2028", (), "stop"), details))
    store.set_settings(record.id, {"temperature": 0.2})
    file = tmp_path / "all.jsonl"
    assert sessions("export", "--all", "-o", str(file)) == (0, "", f"wrote {file}\n")
    assert sessions("export", "--all") == (0, file.read_text(encoding="utf-8"), "")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 3
    assert store.path
    store.close()
    store.path.unlink()
    code, out, err = sessions("import", str(file))
    assert (code, len(out.splitlines()), err) == (0, 3, "")

    def without_ids(text: str) -> list[dict[str, object]]:
        return sorted(({**json.loads(line), "id": ""} for line in text.splitlines()), key=str)

    assert without_ids(sessions("export", "--all")[1]) == without_ids(file.read_text(encoding="utf-8"))
    assert sessions("show", "buffer")[1].count("## Assistant (small on api.example.org)") == 1


def test_what_cannot_be_imported_is_named_and_the_rest_is_taken_in(store: Store, tmp_path: Path) -> None:
    lines = sessions("export", "--all")[1].splitlines()
    odd = json.dumps({**json.loads(lines[0]), "name": "two\nlines"})
    many = tmp_path / "many.jsonl"
    many.write_text("\n".join([lines[1], "{broken", "", odd, '{"format": "other"}']))
    missing, one = tmp_path / "n\x1b]0;x.json", tmp_path / "one.json"
    one.write_text(sessions("show", "buffer", "--json")[1])
    code, out, err = sessions("import", str(many), str(missing), str(one))
    assert (code, len(out.splitlines())) == (6, 3)  # the code of the first error
    first, *rest = err.splitlines()
    assert first.startswith(f"error: {many}, line 2: this is not JSON: ")
    assert rest == [
        "`two lines` cannot be a session's name, so this one has no name",
        f"error: {many}, line 5: this is JSON, but not an exported session",
        "hint: `mistral-chat sessions export SESSION -o FILE.json` writes one",
        f"error: {tmp_path}/n␛]0;x.json: cannot be read: No such file or directory",
        "there is already a session called `buffer`, so this one has no name",
        "imported 3 sessions; 3 could not be read",
    ]
    assert sessions("import", str(missing), str(many))[0] == 7


def test_times_come_back_and_none_is_in_the_future(store: Store, tmp_path: Path) -> None:
    plain = json.loads(sessions("show", "buffer", "--json")[1])
    times = [("2020-01-02T03:04:05Z", "2021-01-02T03:04:05Z"), ("9999-01-01T00:00:00Z", "x"), (None, 7)]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({**plain, "created": old, "updated": new}) + "\n" for old, new in times))
    records = [store.get(session_id) for session_id in sessions("import", str(file))[1].split()]
    assert (iso_time(records[0].created), iso_time(records[0].updated)) == times[0]
    now = time.time()
    assert all(0 <= now - at < 600 for record in records[1:] for at in (record.created, record.updated))


def test_paths_are_listed_only_if_asked(store: Store) -> None:
    store.create(name="local", model="/models/7B.gguf", model_path="/models/7B.gguf")
    assert sessions("list", "-n", "1")[1].split("\t")[4] == "7B.gguf"
    assert sessions("list", "-n", "1", "--paths")[1].split("\t")[4] == "/models/7B.gguf"
    assert json.loads(sessions("list", "--json")[1])[0]["model"] == "7B.gguf"
    assert "/models" not in sessions("show", "local")[1] + sessions("show", "local", "--json")[1]
    assert '"model_path": "/models/7B.gguf"' in sessions("export", "local", "--format", "json", "--paths")[1]


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("{", 6, "nowhere.json: this is not JSON: "),
        ("[]", 6, "nowhere.json: this is JSON, but not an exported session"),
        (None, 7, "nowhere.json: cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_not_an_exported_session_is_refused(
    store: Store, tmp_path: Path, text: str | None, code: int, message: str
) -> None:
    file = tmp_path / "nowhere.json"
    if text is not None:
        file.write_text(text)
    before = store.list()
    done = sessions("import", str(file))
    assert done[0] == code and message in done[2]
    assert store.list() == before
