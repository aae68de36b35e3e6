"""What a screen tells the app."""

from __future__ import annotations

from textual.message import Message


class Ready(Message):
    """It is on top, and has its widgets: draw it."""
