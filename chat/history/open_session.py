"""Keep the conversation, and the store in step with it. Knows messages, not how they are shown or made."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.core.conversation import Conversation, Message, Node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chat.core.events import Completion
    from chat.history.records import SessionRecord
    from chat.history.store import Store


class OpenSession:
    """The conversation that is open. Every change is stored before the method returns.

    `record` is None until there is something to store.
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
            settings: that a session begun from here keeps.
        """
        self.store = store
        self.settings = settings
        self.conversation = conversation
        self.record = record
        self.model = ""
        self.model_path = ""

    @property
    def label(self) -> str:
        """What the toolbar calls the session."""
        return (self.record.name or self.record.title) if self.record else ""

    def ask(self, message: Message) -> None:
        """Put down what the person said, after the leaf."""
        conversation = self.conversation.add(message)
        self.store.append(self._session(), conversation.path()[-1])
        self.conversation = conversation
        self._refresh()

    def begin_answer(self, message: Message) -> Node:
        """Put down the beginning of an answer, which becomes the leaf."""
        self.conversation = self.conversation.add(message)
        node = self.conversation.path()[-1]
        self.store.begin_answer(self._session(), node)
        return node

    def grow_answer(self, node_id: str, message: Message, *, is_done: bool) -> None:
        """Put down how far an answer is, or how it ended."""
        node = replace(self.conversation.nodes[node_id], message=message)
        nodes = MappingProxyType({**self.conversation.nodes, node_id: node})
        self.conversation = replace(self.conversation, nodes=nodes)
        if is_done:
            self.store.finish_answer(self._session(), node)
        else:
            self.store.update_answer(self._session(), node)

    def move(self, leaf: str | None) -> None:
        """Look at another place of the tree."""
        self.conversation = self.conversation.at(leaf)
        if self.record:
            self.record = self.store.set_leaf(self.record.id, leaf)

    def set_system(self, system: str | None) -> None:
        """Change the system prompt."""
        self.conversation = self.conversation.with_system(system)
        if self.record:
            self.record = self.store.set_system(self.record.id, system)

    def set_model(self, model: str, path: str) -> None:
        """Remember which model answers now."""
        self.model, self.model_path = model, path
        if self.record and (self.record.model, self.record.model_path) != (model, path):
            self.record = self.store.set_model(self.record.id, model, path)

    def keep(self, settings: Mapping[str, Any]) -> None:
        """Remember options that were set for this conversation."""
        self.settings = {**self.settings, **settings}
        if self.record and settings:
            self.record = self.store.set_settings(self.record.id, {**self.record.settings, **settings})

    def rename(self, name: str | None) -> None:
        """Give the session a name.

        Raises:
            UsageError: the name is taken or impossible.
        """
        self.record = self.store.rename(self._session(), name)

    def begin(self, name: str | None, settings: Mapping[str, Any]) -> None:
        """Begin a new session under the same system prompt.

        Args:
            settings: that it keeps.

        Raises:
            UsageError: the name is taken or impossible.
        """
        conversation = Conversation(system=self.conversation.system)
        self.settings = settings
        record = self._create(conversation, name) if name else None
        self.conversation, self.record = conversation, record

    def open(self, session_id: str) -> None:
        """Go on with a stored session.

        Raises:
            UsageError: there is none with this id.
        """
        self.record, self.conversation = self.store.load(session_id)

    def _session(self) -> str:
        if self.record is None:
            self.record = self._create(self.conversation, None)
        return self.record.id

    def _create(self, conversation: Conversation, name: str | None) -> SessionRecord:
        return self.store.create(
            name=name,
            model=self.model,
            model_path=self.model_path,
            settings=self.settings,
            conversation=conversation,
        )

    def _refresh(self) -> None:
        """The store makes the title of the first question."""
        if self.record and not self.record.title:
            self.record = self.store.find(self.record.id) or self.record


class AnswerWriter:
    """An answer on its way to the history: begun with its first text, or already there and growing."""

    def __init__(self, session: OpenSession, node_id: str | None = None) -> None:
        """An answer after the leaf of `session`, or one that goes on from the text of the node `node_id`."""
        self._session = session
        self._node_id = node_id
        self.before = session.conversation.nodes[node_id].message if node_id else Message("assistant", "")

    def keep(self, text: str) -> None:
        """Store the answer so far."""
        self._put(replace(self.before, content=self.before.content + text, finish_reason=None), is_done=False)

    def end(self, done: Completion) -> None:
        """Store the answer as it ended."""
        before = self.before
        ids = before.ids + done.ids if done.ids and (before.ids or not before.content) else ()
        message = replace(before, content=before.content + done.text, ids=ids, finish_reason=done.finish_reason)
        self._put(replace(message, tool_calls=done.tool_calls), is_done=True)

    def break_off(self, text: str) -> None:
        """Store what there is of an answer that the engine did not end."""
        message = Message("assistant", self.before.content + text, finish_reason="interrupted")
        self._put(message, is_done=True)

    def _put(self, message: Message, *, is_done: bool) -> None:
        if self._node_id is None:
            self._node_id = self._session.begin_answer(replace(message, finish_reason=None)).id
        self._session.grow_answer(self._node_id, message, is_done=is_done)
