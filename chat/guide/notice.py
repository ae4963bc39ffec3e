"""What the user is told where the guide answers in place of a full model."""

from __future__ import annotations

from chat.hub.catalogue import DEFAULT

GUIDE_NOTICE = (
    "the guide answers: a small model that knows this program and the Mistral 7B family, and nothing else; "
    f"`mistral-chat models pull {DEFAULT.aliases[0]}` gets a full one"
)
