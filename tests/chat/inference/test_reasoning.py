"""Reasoning is a part of its own: apart from the answer, before its constraint and its stop strings, and sent back."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chat.core.conversation import Message
from chat.core.events import Completion, ReasoningDelta, TextDelta
from chat.core.request import Constraint, EngineOptions, Prompt, Request, Sampling
from chat.errors import UsageError
from chat.inference.loaded_model import LoadedModel, load_model
from chat.inference.reasoning import ReasoningLimit
from chat.inference.response import ResponseBuilder, render, reply
from chat.llama.sampler import Sampler
from chat.prompts.reasoning_splitter import ReasoningMarks, ReasoningSplitter
from chat.prompts.segments import BEGIN_THINK, END_THINK, ChatTemplate, Control, Segment, Text
from tests.chat.prompts.test_template_references import references

ASKED = (Message("user", "Is it?"),)
THOUGHT = (BEGIN_THINK, Text("Hm. é"), END_THINK)
OFFER = {"name": "now", "description": "", "parameters": {}}
CALL = (Control("[TOOL_CALLS]"), Text("now"), Control("[ARGS]"), Text("{}"))
Say = Callable[..., tuple[list[ReasoningDelta | TextDelta], Completion]]


@pytest.fixture(scope="module")
def loaded(thinker: Callable[[str], Path]) -> Iterator[LoadedModel]:
    loaded = load_model(EngineOptions(str(thinker("v13")), threads=1))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def marked(thinker: Callable[[str], Path]) -> Iterator[LoadedModel]:
    """A model that marks its reasoning by text: its template shows the marks."""
    loaded = load_model(EngineOptions(str(thinker("v7")), threads=1, prompt_format="chatml"))
    loaded.vocabulary.template = ChatTemplate("<|im_start|> <think> </think>")
    yield loaded
    loaded.close()


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Say:
    """Let a model answer with given pieces, as far as its logits allow them."""

    def say(
        loaded: LoadedModel, request: Request, *parts: Segment
    ) -> tuple[list[ReasoningDelta | TextDelta], Completion]:
        script = [*loaded.vocabulary.encode(parts), loaded.vocabulary.eos]
        monkeypatch.setattr(Sampler, "sample", lambda self, decoder, row=-1: script.pop(0))
        *events, done = reply(loaded, request)
        assert isinstance(done, Completion)
        deltas = [event for event in events if isinstance(event, ReasoningDelta | TextDelta)]
        for kind, text in ((ReasoningDelta, done.reasoning), (TextDelta, done.text)):
            assert "".join(delta.text for delta in deltas if isinstance(delta, kind)) == text
        return deltas, done

    return say


def request(messages: tuple[Message, ...] = ASKED, **values: object) -> Request:
    prompt = {name: values.pop(name) for name in ("continues", "tools") if name in values}
    return Request(Prompt(messages, **prompt), Sampling(temperature=0), **values)  # type: ignore[arg-type]


def test_reasoning_and_answer_are_apart_and_all_ids_count(loaded: LoadedModel, say: Say) -> None:
    _, done = say(loaded, request(logprobs=1), *THOUGHT, Text("Yes."))
    assert (done.reasoning, done.text, done.finish_reason) == ("Hm. é", "Yes.", "stop")
    assert done.ids == tuple(loaded.vocabulary.encode((*THOUGHT, Text("Yes."))))
    assert done.tokens.generated == len(done.ids) == len(done.logprobs)
    assert [entry["id"] for entry in done.logprobs] == list(done.ids)


def test_an_answer_without_reasoning_is_all_answer(loaded: LoadedModel, say: Say) -> None:
    _, done = say(loaded, request(), Text("[THINK]Yes.[/THINK]"))
    assert (done.reasoning, done.text) == ("", "[THINK]Yes.[/THINK]")


def test_a_character_that_the_reasoning_leaves_incomplete_stays_there(loaded: LoadedModel) -> None:
    pieces = [loaded.vocabulary.piece_bytes(token) for token in range(loaded.vocabulary.size)]
    first_byte = pieces.index(b"\xe2")
    begin, end, after = loaded.vocabulary.encode((BEGIN_THINK, END_THINK, Text("a")))
    with closing(ResponseBuilder(loaded, request())) as response:
        for token in (begin, first_byte, end, after):
            response.push(token)
        done = response.completion()
    assert (done.reasoning, done.text) == ("\ufffd", "a")


def test_stop_strings_begin_after_the_reasoning(loaded: LoadedModel, say: Say) -> None:
    _, done = say(loaded, request(stop=("o",)), BEGIN_THINK, Text("so so"), END_THINK, Text("Yes or no"))
    assert (done.reasoning, done.text) == ("so so", "Yes ")


def test_calls_follow_reasoning_even_if_it_was_not_closed(loaded: LoadedModel, say: Say) -> None:
    for parts in ((*THOUGHT, *CALL), (*THOUGHT[:2], *CALL)):
        _, done = say(loaded, request(tools=(OFFER,)), *parts)
        assert (done.reasoning, done.text) == ("Hm. é", "")
        assert [(call.name, call.arguments) for call in done.tool_calls] == [("now", "{}")]


def test_reasoning_that_a_limit_cuts_is_gone_on_with(loaded: LoadedModel, say: Say) -> None:
    """An answer that was cut off in its reasoning was continued as if the reasoning were over."""
    first_ids = loaded.vocabulary.encode((BEGIN_THINK, Text("Hm")))
    _, done = say(loaded, request(max_tokens=len(first_ids)), BEGIN_THINK, Text("Hm"), Text(" x"))
    assert (done.reasoning, done.text, done.finish_reason) == ("Hm", "", "length")
    cut = Message("assistant", "", done.ids or (), "length", reasoning="Hm")
    for answer in (cut, replace(cut, ids=())):
        _, rest = say(loaded, request((*ASKED, answer), continues=True), Text("m."), END_THINK, Text("Yes."))
        assert (rest.reasoning, rest.text) == ("m.", "Yes.")


def test_an_earlier_reasoning_that_was_cut_leaves_the_next_answer_alone(loaded: LoadedModel, say: Say) -> None:
    cut = Message("assistant", "", reasoning="Hm", finish_reason="length")
    _, done = say(loaded, request((*ASKED, cut, Message("user", "And?"))), Text("Yes."))
    assert (done.reasoning, done.text) == ("", "Yes.")


def test_the_next_prompt_goes_on_with_the_reasoning(loaded: LoadedModel, say: Say) -> None:
    """With the ids that the model wrote, and likewise with the text of an answer that has none."""
    _, done = say(loaded, request(), *THOUGHT, Text("Yes."))
    answer = Message("assistant", done.text, done.ids or (), "stop", reasoning=done.reasoning)
    texts = {
        render(loaded, request((*ASKED, each, Message("user", "Why?")))).text
        for each in (answer, replace(answer, ids=()))
    }
    assert texts == {"<s>[INST]Is it?[/INST][THINK]Hm. é[/THINK]Yes.</s>[INST]Why?[/INST]"}


@pytest.mark.parametrize(
    ("kind", "source", "answer"),
    [
        ("regex", "[ab]{2}", "ab"),
        ("schema", json.dumps({"type": "boolean"}), "true"),
        ("lark", 'start: "no" | "yes"', "yes"),
        ("choice", '["no", "yes"]', "yes"),
    ],
)
def test_a_constraint_begins_after_the_reasoning(
    loaded: LoadedModel, kind: str, source: str, answer: str, say: Say
) -> None:
    constraint = Constraint(kind, source)  # type: ignore[arg-type]
    _, done = say(loaded, request(constraint=constraint), *THOUGHT, Text(answer))
    assert (done.reasoning, done.finish_reason) == ("Hm. é", "stop")
    assert done.text in ("no", "yes") if kind == "choice" else done.text == answer
    assert done.ids == tuple(loaded.vocabulary.encode((*THOUGHT, Text(done.text))))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("kind", "source"), [("regex", "(yes|no)"), ("choice", '["yes", "no"]')])
def test_a_constrained_answer_matches_whether_or_not_the_model_thinks(
    loaded: LoadedModel, kind: str, source: str, seed: int
) -> None:
    """Nothing is scripted: the tiny model draws from its own logits, within what the constraint allows."""
    constraint = Constraint(kind, source)  # type: ignore[arg-type]
    sampling = Sampling(temperature=5, top_p=1, top_k=0, min_p=0, seed=seed)
    asked = Request(Prompt(ASKED), sampling, 400, constraint=constraint)
    *_, done = reply(loaded, asked)
    assert isinstance(done, Completion)
    assert done.text in ("yes", "no") if done.finish_reason == "stop" else done.reasoning
    assert loaded.vocabulary.eos not in (done.ids or ())


def test_a_choice_is_not_made_while_the_model_still_thinks(loaded: LoadedModel, say: Say) -> None:
    choice = Constraint("choice", '["no", "yes"]')
    _, done = say(loaded, request(constraint=choice, max_tokens=2), BEGIN_THINK, Text("so it goes"))
    assert (done.text, done.choice, done.finish_reason) == ("", None, "length")


def test_marks_of_text_count_at_the_start_of_an_answer(marked: LoadedModel, say: Say) -> None:
    _, done = say(marked, request(), Text("\n<think>\nHm.\n</think>\n\nYes, <think>.</think>"))
    assert (done.reasoning, done.text) == ("Hm.", "Yes, <think>.</think>")
    _, done = say(marked, request(), Text("<thinking is hard"))
    assert (done.reasoning, done.text) == ("", "<thinking is hard")
    _, done = say(marked, request(constraint=Constraint("regex", "[ab]{2}")), Text("<think>Hm</think>"), Text("ab"))
    assert (done.reasoning, done.text) == ("Hm", "ab")


@pytest.mark.parametrize("most", [0, 5])
def test_reasoning_ends_at_its_limit(loaded: LoadedModel, marked: LoadedModel, most: int) -> None:
    """Nothing is scripted: a tiny model of random weights would think on."""
    cut = Message("assistant", "", reasoning="Hm", finish_reason="length")
    for model, mark in ((loaded, (END_THINK,)), (marked, (Text("</think>", joined=True),))):
        end = tuple(model.vocabulary.encode(mark))
        asked = request((*ASKED, cut), continues=True, max_tokens=20, max_thinking_tokens=most)
        *_, done = reply(model, asked)
        assert isinstance(done, Completion)
        ids = done.ids or ()
        assert ids[most : most + len(end)] == end
        assert done.tokens.reasoning == most + len(end)
        assert done.tokens.generated == len(ids)


def test_the_limit_holds_for_all_reasoning_of_an_answer_together() -> None:
    """It held once: a model that began to think again after the mark was free to go on."""
    begin, end, other = 0, 1, 2
    marks = ReasoningMarks("[THINK]", "[/THINK]", (begin,), (end,), is_control=True)
    splitter = ReasoningSplitter(marks, "start", continues=False, drops_rest=False)
    limit = ReasoningLimit(marks, splitter, 3)
    ids = []
    wanted = [begin, other, end, begin, other, other, other, other, begin, other]
    for token in wanted:
        logits = np.zeros(3, np.float32)
        logits[token] = 1
        limit.apply(logits)
        ids.append(int(logits.argmax()))
        limit.consume(ids[-1])
        if splitter.is_mark(ids[-1]):
            splitter.mark(ids[-1])
    assert ids == [begin, other, end, begin, other, end, other, other, begin, end]


def test_all_ids_of_a_mark_of_text_count_as_reasoning(marked: LoadedModel, say: Say) -> None:
    """Those of the mark before it were left out but for the last one."""
    thought, answer = Text("<think>Hm.</think>", joined=True), Text("Yes.")
    _, done = say(marked, request(), thought, answer)
    assert done.text == "Yes."
    assert done.tokens.reasoning == len(marked.vocabulary.encode((thought,)))


def test_reasoning_marked_by_text_is_not_sent_back(marked: LoadedModel, say: Say) -> None:
    _, done = say(marked, request(), Text("<think>\nHm.\n</think>\n\nYes."))
    answer = Message("assistant", done.text, done.ids or (), "stop", reasoning=done.reasoning)
    text = render(marked, request((*ASKED, answer, Message("user", "Why?")))).text
    assert text.endswith("assistant\nYes.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n")
    cut = replace(answer, content="", finish_reason="length", ids=())
    assert render(marked, request((*ASKED, cut), continues=True)).text.endswith("assistant\n<think>\nHm.")
    _, rest = say(marked, request((*ASKED, cut), continues=True), Text(" So</think>Yes."))
    assert (rest.reasoning, rest.text) == (" So", "Yes.")


MARKS = ReasoningMarks("<think>", "</think>", (1, 2), (3, 4))
WHOLE = "\n <think>\n\na < b\n\n</thin\n</think>\n\n\nc\n</think>d\n"


@pytest.mark.parametrize("seed", range(30))
def test_text_is_parted_alike_wherever_it_is_cut(seed: int) -> None:
    dice, splitter = random.Random(seed), ReasoningSplitter(MARKS, "start", continues=False, drops_rest=False)
    parts: list[tuple[str, str]] = []
    rest = WHOLE
    while rest:
        size = dice.randrange(1, 7)
        parts += splitter.push(rest[:size])
        rest = rest[size:]
    parts += splitter.flush()
    joined = {kind: "".join(text for each, text in parts if each == kind) for kind in ("reasoning", "answer")}
    assert joined == {"reasoning": "a < b\n\n</thin", "answer": "c\n</think>d\n"}


def test_formats_without_reasoning_leave_it_out_with_an_answer_that_has_nothing_else(loaded: LoadedModel) -> None:
    thought = Message("assistant", "", reasoning="x", finish_reason="stop")
    messages = (*ASKED, Message("assistant", "Yes.", (34, 40), reasoning="Hm"), *ASKED, thought, *ASKED)
    text = render(replace(loaded, prompt_format="v11"), request(messages)).text
    assert text == "<s>[INST]Is it?[/INST]Yes.</s>[INST]Is it?\n\nIs it?[/INST]"


@pytest.fixture(scope="module")
def family(thinker: Callable[[str], Path]) -> Iterator[LoadedModel]:
    """A model of another family, whose template writes reasoning and calls as text."""
    loaded = load_model(EngineOptions(str(thinker("v7")), threads=1, prompt_format="template"))
    loaded.vocabulary.template = ChatTemplate(references()["Qwen-Qwen3-0.6B"]["template"])
    yield loaded
    loaded.close()


def test_calls_of_text_follow_reasoning_of_text_and_are_not_shown(family: LoadedModel, say: Say) -> None:
    """Calls that Qwen, Hermes and Llama 3 write were left in the answer as text."""
    call = '<tool_call>\n{"name": "now", "arguments": {"a": "é"}}\n</tool_call>'
    answer = (Text(f"<think>\n{call}?\n</think>\n\nLet me look.\n{call}"),)
    _, done = say(family, request(tools=(OFFER,)), *answer)
    assert (done.reasoning, done.text) == (f"{call}?", "Let me look.")
    assert [(found.name, found.arguments) for found in done.tool_calls] == [("now", '{"a": "é"}')]

    broken = f"Let me look.\n{call[:-20]}"
    for text, values in ((broken, {"tools": (OFFER,)}), (f"x\n{call}", {})):
        _, done = say(family, request(**values), Text(text))
        assert (done.text, done.tool_calls) == (text, ())


def test_a_call_in_reasoning_that_never_ends_is_a_call(family: LoadedModel, say: Say) -> None:
    """Small models forget the mark after their reasoning; the call was left in it, and the answer was empty."""
    call = '<tool_call>\n{"name": "now", "arguments": {"a": "é"}}\n</tool_call>'
    _, done = say(family, request(tools=(OFFER,)), Text(f"<think>\nI need the time.\n{call}"))
    assert (done.reasoning, done.text) == (f"I need the time.\n{call}", "")
    assert [(found.name, found.arguments) for found in done.tool_calls] == [("now", '{"a": "é"}')]
    for text in (f"<think>\n{call[:-20]}", "<think>\nI need the time."):
        _, done = say(family, request(tools=(OFFER,)), Text(text))
        assert (done.reasoning, done.text, done.tool_calls) == (text.removeprefix("<think>\n"), "", ())


def test_the_prompt_after_a_call_of_text_begins_with_what_was_read(family: LoadedModel, say: Say) -> None:
    call = '<tool_call>\n{"name": "now", "arguments": {"a": "é"}}\n</tool_call>'
    _, done = say(family, request(tools=(OFFER,)), Text(call, joined=True))
    first = render(family, request(tools=(OFFER,)))
    made = Message("assistant", done.text, done.ids or (), done.finish_reason, tool_calls=done.tool_calls)
    result = Message("tool", "R", tool_call_id=done.tool_calls[0].id)
    second = render(family, request((*ASKED, made, result), tools=(OFFER,)))
    assert second.text.startswith(first.text + call)


def test_a_schema_with_tools_on_offer_makes_no_call(
    family: LoadedModel, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama = ChatTemplate(references()["meta-llama-Llama-3.2-3B-Instruct"]["template"])
    monkeypatch.setattr(family.vocabulary, "template", llama)
    text = '{"name": "now", "parameters": {}}'
    _, done = say(family, request(tools=(OFFER,)), Text(text))
    assert (done.text, [found.name for found in done.tool_calls]) == ("", ["now"])
    schema = Constraint("schema", '{"type": "object"}')
    _, done = say(family, request(tools=(OFFER,), constraint=schema), Text(text))
    assert (done.text, done.tool_calls) == (text, ())


def test_functions_without_a_place_in_the_template_are_refused(
    family: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint named a version of Mistral's formats, which a model of another family does not have."""
    monkeypatch.setattr(family.vocabulary, "template", ChatTemplate("{{ messages[0].content }}"))
    with pytest.raises(UsageError, match="the model's chat template has no place for functions") as caught:
        list(reply(family, request(tools=(OFFER,))))
    assert caught.value.hint == "leave out `--tools` and `--run-tools`"
    with pytest.raises(UsageError, match="no place for functions"):  # the dry run left them out without a word
        render(family, request(tools=(OFFER,)))
