"""Results belong to the pending calls in their order; a question is refused while a call has none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chat.app.answer_output import AnswerOutput
from chat.config.options import Settings
from chat.core.backend import ModelInfo
from chat.core.conversation import Conversation, Message, ToolCall
from chat.core.events import Completion, Seconds, TextDelta, TokenCounts
from chat.core.tool_results import check_no_pending_calls, result_messages
from chat.errors import UsageError
from chat.history.store import open_history
from chat.system.environment import Environment
from tests.program import run

CALLS = (ToolCall("weather", '{"city": "Paris"}', "abcdefghi"), ToolCall("now", "{}", "123456789"))
ASKED = Conversation().add(Message("user", "Weather?"))
CALLED = ASKED.add(Message("assistant", "", tool_calls=CALLS))
FIRST = Message("tool", "20", tool_call_id="abcdefghi", name="weather")
SECOND = Message("tool", "noon", tool_call_id="123456789", name="now")


def test_a_call_is_pending_until_it_has_its_result() -> None:
    assert [conversation.pending_calls() for conversation in (Conversation(), ASKED, CALLED)] == [(), (), CALLS]
    assert CALLED.add(SECOND).pending_calls() == CALLS[:1]
    assert CALLED.add(SECOND).add(FIRST).pending_calls() == ()
    assert CALLED.add(FIRST).add(SECOND).add(Message("assistant", "20 degrees")).pending_calls() == ()


def test_results_answer_the_calls_in_their_order() -> None:
    assert result_messages(CALLED, ["20", "noon"]) == (FIRST, SECOND)
    assert result_messages(CALLED, ["20"]) == (FIRST,)
    assert result_messages(CALLED.add(FIRST), ["noon"]) == (SECOND,)
    with pytest.raises(UsageError, match=r"^no function call is waiting for a result$"):
        result_messages(ASKED, ["20"])


def test_a_pending_call_is_refused() -> None:
    check_no_pending_calls(ASKED, "x")
    words = re.escape('no result yet for weather({"city": "Paris"}) and 1 more')
    with pytest.raises(UsageError, match=f"^{words}$") as caught:
        check_no_pending_calls(CALLED, "/result TEXT")
    assert caught.value.hint == "give it with `/result TEXT`"


@pytest.mark.parametrize(("text", "shown"), [("", ""), ("Let me look.", "Let me look.\n")])
def test_without_json_each_call_is_a_line_after_the_answer(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    done = Completion(text, "stop", (1,), "", TokenCounts(1), Seconds(), tool_calls=CALLS)
    output = AnswerOutput(Settings(), Environment())
    assert output.stream(iter((*([TextDelta(text)] if text else []), done)), lambda _: None) is done
    output.finish(done, ModelInfo("", 0, "", "", None, 0, 0, "v7"))
    lines = capsys.readouterr().out.removeprefix(shown).splitlines()
    assert [ToolCall(**json.loads(line)) for line in lines] == list(CALLS)


@pytest.mark.slow
def test_a_one_shot_gives_results_to_a_stored_session(tiny_v3_model: Path) -> None:
    with open_history(enabled=True) as store:
        store.create(name="s", model=str(tiny_v3_model), model_path=str(tiny_v3_model), conversation=CALLED)
    session = ("-m", tiny_v3_model, "--session", "s", "-n", 4)
    for arguments, words in (
        ((*session, "and?"), 'no result yet for weather({"city": "Paris"}) and 1 more'),
        ((*session, "--tool-result", "20"), "no result yet for now({})"),
        ((*session, "--tool-result", "20", "and?"), "a prompt cannot be used together with `--tool-result`"),
        ((*session, *("--tool-result", "20") * 3), "there are 3 results, but only 2 function calls are waiting"),
        (("-m", tiny_v3_model, "--tool-result", "20"), "--tool-result needs --continue or --session"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode().startswith(f"error: {words}\nhint: " if "3 results" not in words else "error: ")
    results = ("--tool-result", "20", "--tool-result", "noon")
    shown = json.loads(run(*session, *results, "--dry-run").stdout)["text"]
    assert shown.endswith(
        '[TOOL_RESULTS] {"content": 20, "call_id": "abcdefghi"}[/TOOL_RESULTS]'
        '[TOOL_RESULTS] {"content": "noon", "call_id": "123456789"}[/TOOL_RESULTS]'
    )
    assert run(*session, *results).returncode == 0
    with open_history(enabled=True) as store:
        _, conversation = store.load(store.find("s").id)  # type: ignore[union-attr]
    roles = [message.role for message in conversation.messages()]
    assert roles == ["user", "assistant", "tool", "tool", "assistant"]
