"""Extract the text of a chat: a list of messages with a role and a content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard


def is_chat(value: object) -> TypeGuard[list[Mapping[str, Any]]]:
    """Tell whether a value is a list of messages, each with a role and a content."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, Mapping) and "role" in one and "content" in one for one in value)
    )


def chat_text(messages: list[Mapping[str, Any]]) -> str:
    """Format messages as lines of `role: content`; those without words are left out."""
    spoken = ((str(one["role"]).strip(), _words(one["content"])) for one in messages)
    return "\n".join(f"{role}: {words}" if role else words for role, words in spoken if words)


def _words(content: object) -> str:
    """Return what a message says; of a content in parts its texts."""
    if isinstance(content, str):
        return content.strip()
    parts = content if isinstance(content, list) else [content]
    texts = (part.get("text") if isinstance(part, Mapping) else part for part in parts)
    return " ".join(text.strip() for text in texts if isinstance(text, str) and text.strip())
