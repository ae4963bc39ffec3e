"""Keep the conversation, and the store in step with it. Knows messages, not how they are shown or made."""

from __future__ import annotations

from chat.conversation import Conversation, Message


class Book:
    """The conversation on the desk."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation

    def ask(self, text: str) -> None:
        """Put down what the person said."""
        self.conversation = self.conversation.add(Message("user", text))

    def keep(self, text: str) -> None:
        """Put down the answer so far."""

    def answer(self, message: Message) -> None:
        """Put down an answer that has ended, however it did."""
        self.conversation = self.conversation.add(message)
