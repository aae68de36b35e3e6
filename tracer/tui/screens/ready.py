"""What a screen tells the app."""

from __future__ import annotations

from textual.message import Message


class Ready(Message):
    """It is on top, and has its widgets; or something else than a snapshot has come: draw it."""

    def can_replace(self, message: Message) -> bool:
        """Once for several of them."""
        return isinstance(message, Ready)
