"""The session that is open: its conversation in memory, and the history kept equal to it."""

from __future__ import annotations

import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.core.answer_details import details_of
from chat.core.conversation import Conversation, Message, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chat.core.answer_details import AnswerDetails
    from chat.core.backend import ModelInfo
    from chat.core.events import Completion
    from chat.history.records import SessionRecord
    from chat.history.store import Store


class OpenSession:
    """A conversation and its place in the history. Every change is stored before the method returns.

    Attributes:
        store: the history.
        settings: options that a session begun from here gets.
        conversation: the tree of messages.
        record: the stored session; None until there is something to store.
    """

    def __init__(
        self,
        store: Store,
        conversation: Conversation,
        record: SessionRecord | None = None,
        settings: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Open a conversation.

        Args:
            store: the history.
            conversation: the messages so far.
            record: the stored session, if there is one.
            settings: options that a session begun from here gets.
        """
        self.store = store
        self.settings = settings
        self.conversation = conversation
        self.record = record
        self._model: tuple[str, str] | None = None  # (name, path) of the model that answers, once it is known

    @property
    def label(self) -> str:
        """The session's name or title, for the toolbar."""
        return (self.record.name or self.record.title) if self.record else ""

    def ask(self, *messages: Message, title: str = "") -> None:
        """Store messages of the user, or results of functions, after the leaf: one transaction.

        A new session and a noted model are stored with them.

        Args:
            messages: at least one.
            title: the title of a session that has none; if empty, the first question makes it.

        Raises:
            UsageError: the session was deleted.
        """
        conversation = self.conversation
        for message in messages:
            conversation = conversation.add(message)
        if self.record is None:
            self.record = self._create(conversation, title=title)
        else:
            nodes = conversation.path()[-len(messages) :]
            self.record = self.store.append(self.record.id, *nodes, title=title, model=self._changed_model())
        self.conversation = conversation

    def begin_answer(self, message: Message, details: AnswerDetails | None = None) -> str:
        """Store the beginning of an answer after the leaf; it becomes the leaf.

        Returns:
            The id of its node.
        """
        node = self._add(message, details)
        self.record = self.store.begin_answer(self._session_id(), node)
        return node.id

    def update_answer(self, node_id: str, message: Message, details: AnswerDetails | None = None) -> None:
        """Store an answer as far as it is streamed."""
        self.record = self.store.update_answer(self._session_id(), self._replace(node_id, message, details))

    def finish_answer(self, node_id: str | None, message: Message, details: AnswerDetails | None = None) -> None:
        """Store a complete answer.

        Args:
            node_id: the node that `begin_answer` made; None for an answer of which nothing is stored yet.
            message: the answer.
            details: how it came about.
        """
        if node_id is None:
            node = self._add(message, details)
            self.record = self.store.append(self._session_id(), node)
        else:
            self.record = self.store.finish_answer(self._session_id(), self._replace(node_id, message, details))

    def set_leaf(self, leaf: str | None) -> None:
        """Show the conversation up to another node; None is before the first message."""
        self.conversation = self.conversation.with_leaf(leaf)
        if self.record:
            self.record = self.store.set_leaf(self.record.id, leaf)

    def set_system(self, system: str | None) -> None:
        """Change the system prompt; an empty text removes it, and None leaves it to the model."""
        self.conversation = self.conversation.with_system(system)
        if self.record:
            self.record = self.store.set_system(self.record.id, system)

    def note_model(self, model: str, path: str) -> None:
        """Note which model answers; it is stored with the next question."""
        self._model = (model, path)

    def set_model(self, model: str, path: str) -> None:
        """Note which model answers, and store it now if the session is stored."""
        self.note_model(model, path)
        if self.record and (changed := self._changed_model()):
            self.record = self.store.set_model(self.record.id, *changed)

    def set_options(self, settings: Mapping[str, Any]) -> None:
        """Change options that belong to the session; the others stay."""
        self.settings = {**self.settings, **settings}
        if self.record and settings:
            self.record = self.store.set_settings(self.record.id, {**self.record.settings, **settings})

    def rename(self, name: str | None) -> None:
        """Give the session a name; None removes it.

        Raises:
            UsageError: another session has the name, or it is not allowed.
        """
        self.record = self.store.rename(self._session_id(), name)

    def begin(self, name: str | None, settings: Mapping[str, Any]) -> None:
        """Begin a new session with the same system prompt.

        Args:
            name: its name; a session without a name is stored with its first message.
            settings: options that belong to it.

        Raises:
            UsageError: another session has the name, or it is not allowed.
        """
        conversation = Conversation(system=self.conversation.system)
        self.settings = settings
        record = self._create(conversation, name=name) if name else None
        self.conversation, self.record = conversation, record

    def open(self, session_id: str) -> None:
        """Continue a stored session in place of this one.

        Raises:
            UsageError: there is no session with this id.
        """
        self.record, self.conversation = self.store.load(session_id)

    def _add(self, message: Message, details: AnswerDetails | None) -> Node:
        """Put an answer after the leaf."""
        self.conversation = self.conversation.add(message, details=details)
        return self.conversation.path()[-1]

    def _replace(self, node_id: str, message: Message, details: AnswerDetails | None) -> Node:
        """Put an answer in the place of the one at a node."""
        node = replace(self.conversation.nodes[node_id], message=message, details=details)
        nodes = MappingProxyType({**self.conversation.nodes, node_id: node})
        self.conversation = replace(self.conversation, nodes=nodes)
        return node

    def _changed_model(self) -> tuple[str, str] | None:
        """The model that answers, if the stored session has another one."""
        stored = (self.record.model, self.record.model_path) if self.record else None
        return self._model if self._model != stored else None

    def _session_id(self) -> str:
        if self.record is None:
            self.record = self._create(self.conversation)
        return self.record.id

    def _create(self, conversation: Conversation, *, name: str | None = None, title: str = "") -> SessionRecord:
        model, path = self._model or ("", "")
        return self.store.create(
            name=name, title=title, model=model, model_path=path, settings=self.settings, conversation=conversation
        )


class AnswerWriter:
    """Stores one answer while it is streamed.

    Nothing is stored before the first `update`, so an answer that is complete by then takes one transaction.

    Attributes:
        before: the answer that is continued; empty for a new one.
    """

    def __init__(
        self,
        session: OpenSession,
        node_id: str | None = None,
        *,
        model: Callable[[], ModelInfo | None] = lambda: None,
    ) -> None:
        """Begin an answer after the leaf, or continue one.

        Args:
            session: the session that it belongs to.
            node_id: the node of the answer to continue; None for a new answer.
            model: describes the model that answers, once it is loaded.
        """
        self._session = session
        self._node_id = node_id
        self._model = model
        node = session.conversation.nodes[node_id] if node_id else None
        self.before = node.message if node else Message("assistant", "")
        self._details_before = node.details if node else None

    def update(self, text: str, reasoning: str = "") -> None:
        """Store the answer so far.

        Args:
            text: all that was generated, without the text that is continued.
            reasoning: likewise.
        """
        message = replace(
            self.before,
            content=self.before.content + text,
            reasoning=self.before.reasoning + reasoning,
            finish_reason=None,
        )
        if self._node_id is None:
            self._node_id = self._session.begin_answer(message, self._details())
        else:
            self._session.update_answer(self._node_id, message, self._details())

    def finish(self, completion: Completion) -> None:
        """Store the complete answer."""
        before = self.before
        is_new = not before.content and not before.reasoning
        ids = before.ids + completion.ids if completion.ids and (before.ids or is_new) else ()
        message = replace(
            before,
            content=before.content + completion.text,
            reasoning=before.reasoning + completion.reasoning,
            ids=ids,
            finish_reason=completion.finish_reason,
            tool_calls=completion.tool_calls,
        )
        self._session.finish_answer(self._node_id, message, self._details(completion))

    def interrupt(self, text: str, reasoning: str = "") -> None:
        """Store an answer that an error or the user cut off.

        Args:
            text: all that was generated, without the text that is continued.
            reasoning: likewise.
        """
        before = self.before
        message = Message(
            "assistant", before.content + text, finish_reason="interrupted", reasoning=before.reasoning + reasoning
        )
        self._session.finish_answer(self._node_id, message, self._details())

    def _details(self, completion: Completion | None = None) -> AnswerDetails:
        return details_of(self._model(), completion, time.time()).continued(self._details_before)
