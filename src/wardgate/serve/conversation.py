"""Chat messages to one `Submission`: what is said, and the answer to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from wardgate.serve.problems import Kind, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

Turns = Literal["last", "all"]


class TextPart(BaseModel):
    """A text part of a message."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["text", "input_text", "output_text"]
    text: str


class OtherPart(BaseModel):
    """A part that is not text: an image, a sound, a file."""

    model_config = ConfigDict(extra="ignore")
    type: str


Part = TextPart | OtherPart
Content = Annotated[str | list[Part] | None, Field(description="A text, or a list of parts of which all are text.")]


class Message(BaseModel):
    """One message of a chat, in the shape that chat APIs share."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = None


def text_of(content: Content) -> str:
    """The text of a message's content.

    Raises:
        Problem: if a part is not text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(_part_text(part) for part in content)


def _part_text(part: Part) -> str:
    if isinstance(part, TextPart):
        return part.text
    raise text_only()


def text_only() -> Problem:
    """The refusal of images, sounds and files: what nobody looked at is not called safe."""
    return Problem(Kind.TEXT_ONLY, "this server judges text only; send no image, audio or file parts", param="input")


def exchange(messages: Sequence[Message], *, turns: Turns = "last") -> tuple[str, str | None]:
    """The prompt and the response to judge.

    The last message is the response where the assistant wrote it. The prompt is the last user message and any
    tool output after it (which the model reads too), or, with `turns="all"`, every user and tool message.

    Raises:
        Problem: if there is nothing to judge, or a part is not text.
    """
    said = [(message.role, text_of(message.content)) for message in messages]
    response = said.pop()[1] if said and said[-1][0] == "assistant" else None
    asked = [text for role, text in _asked(said, turns) if text]
    if not asked and response is None:
        raise Problem(Kind.EMPTY_INPUT, "messages: no user or assistant message to judge", param="messages")
    return "\n\n".join(asked), response


def earlier(messages: Sequence[Message]) -> tuple[str, ...]:
    """What users, tools and the assistant said before the exchange that is judged, oldest first.

    Raises:
        Problem: if a part is not text.
    """
    starts = [i for i, message in enumerate(messages) if message.role == "user"]
    before = messages[: starts[-1]] if starts else ()
    said = [text_of(message.content) for message in before if message.role not in ("system", "developer")]
    return tuple(text for text in said if text)


def _asked(said: Sequence[tuple[str, str]], turns: Turns) -> list[tuple[str, str]]:
    """The messages that the prompt is made of."""
    outside = ("user", "tool", "function")
    if turns == "all":
        return [(role, text) for role, text in said if role in outside]
    starts = [i for i, (role, _) in enumerate(said) if role == "user"]
    recent = said[starts[-1] :] if starts else said
    return [(role, text) for role, text in recent if role in outside]
