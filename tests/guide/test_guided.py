"""The guide is asked with its help line, whatever the person's own settings are."""

from __future__ import annotations

from chat.core.conversation import Message
from chat.core.events import Notice
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.guide import PATH
from chat.guide.backend import GuideBackend, with_topics
from chat.guide.topics import help_text
from chat.worker.client import LocalBackend

NO_SYSTEM = "the guide ignores system prompts; a full model follows them"


def test_the_last_question_comes_with_its_topics_as_the_system_prompt() -> None:
    turns = (Message("user", "hi"), Message("assistant", "Hello!"), Message("user", "how do i leave"))
    request = with_topics(Request(Prompt(turns)))
    assert request.prompt.messages == (Message("system", help_text("how do i leave")), *turns)


def test_a_system_prompt_of_the_persons_gives_way() -> None:
    request = with_topics(Request(Prompt((Message("system", "Be a pirate."), Message("user", "hi")))))
    assert request.prompt.messages == (Message("system", help_text("hi")), Message("user", "hi"))


def test_the_likeliest_words_are_taken_and_the_seed_stays() -> None:
    request = with_topics(Request(Prompt((Message("user", "hi"),)), Sampling(temperature=0.9, seed=7)))
    assert request.sampling == Sampling(temperature=0.0, seed=7)


def test_prompts_without_messages_stay_as_they_are() -> None:
    for prompt in (Prompt(text="Once"), Prompt(ids=(1, 2))):
        request = Request(prompt, Sampling(temperature=0.9))
        assert with_topics(request) == request


def test_that_a_system_prompt_does_not_count_is_said_once() -> None:
    engine = GuideBackend(LocalBackend(EngineOptions(str(PATH), threads=1)))
    request = Request(Prompt((Message("system", "Be a pirate."), Message("user", "hi"))), max_tokens=2)
    said = [[event for event in engine.reply(request) if isinstance(event, Notice)] for _ in range(2)]
    engine.close(keep_state=False)
    assert said == [[Notice(NO_SYSTEM)], []]


def test_a_batch_tells_it_too() -> None:
    """There the system prompt was left out without a word."""
    engine = GuideBackend(LocalBackend(EngineOptions(str(PATH), threads=1)))
    plain, asked = (
        Request(Prompt((*system, Message("user", "hi"))), max_tokens=2)
        for system in ((), (Message("system", "Be a pirate."),))
    )
    heard: list[str] = []
    outcomes = [dict(engine.answer_all(each, None, heard.append)) for each in ([plain], [plain, asked, asked])]
    engine.close(keep_state=False)
    assert [sorted(each) for each in outcomes] == [[0], [0, 1, 2]]
    assert heard == [NO_SYSTEM]
