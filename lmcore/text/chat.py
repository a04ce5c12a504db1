"""Chat templates: how a conversation is written down for a model that continues texts.

The form is ChatML. Each message begins with a mark, the speaker's role and a line break, and ends with another mark; a
model trained on such texts answers when its text ends where the assistant's turn begins.

The marks are control tokens, and who can write them can speak as somebody else: a user whose text holds the mark of the
end and then the beginning of a system message would give orders to the model. Here a message is *data*. `encode` writes
the marks as ids of their own and a message's content as plain text, so that a forged mark arrives as the signs that it
consists of, which is also what a question *about* the marks needs. A string knows no such difference, so `render`
refuses content that holds a mark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmcore.text.subword import SubwordTokenizer

ROLES = ("system", "user", "assistant")
Message = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """ChatML.

    Args:
        system: content of a system message that is put before conversations without one; None: nothing is.
        begin, end: the marks, special tokens of the tokenizer.
    Raises:
        ValueError: an empty mark, or equal ones.

    >>> print(ChatTemplate(system=None).render([{"role": "user", "content": "Hi!"}]), end="…")
    <|im_start|>user
    Hi!<|im_end|>
    <|im_start|>assistant
    …
    """

    system: str | None = None
    begin: str = "<|im_start|>"
    end: str = "<|im_end|>"

    def __post_init__(self):
        if not self.begin or not self.end or self.begin == self.end:
            raise ValueError(f"begin and end must be two different marks, got {self.begin!r} and {self.end!r}")

    def _turns(self, messages: Sequence[Message], answer: bool) -> list[tuple[str, bool]]:
        """What stands after each beginning mark, and whether it ends; after checks."""
        if isinstance(messages, Mapping | str):
            raise TypeError('messages must be a list of {"role": …, "content": …}, got one ' + type(messages).__name__)
        if not messages:
            raise ValueError("messages is empty: there is nothing to answer")
        for place, message in enumerate(messages):
            _check(place, message)
        whole = list(messages)
        if self.system is not None and whole[0]["role"] != "system":
            whole.insert(0, {"role": "system", "content": self.system})
        turns = [(f"{message['role']}\n{message['content']}", True) for message in whole]
        return [*turns, ("assistant\n", False)] if answer else turns

    def render(self, messages: Sequence[Message], *, answer: bool = True) -> str:
        """A conversation as one string, to look at, or for a tokenizer that reads marks from text.

        Args:
            messages: {"role": "system", "user" or "assistant", "content": text}, in their order; at least one.
            answer: whether the assistant's next turn is begun; False: for training, the conversation ends.
        Raises:
            ValueError: no message, another role, missing or other keys, or content that holds a mark, see above.
            TypeError: content that is no string, or messages that are no list.
        """
        turns = self._turns(messages, answer)
        for text, _ in turns:
            for mark in (self.begin, self.end):
                if mark in text:
                    raise ValueError(
                        f"the message {text!r} holds {mark!r}, which would end or begin a message in a string; encode "
                        "takes it for plain text"
                    )
        return "".join(self.begin + text + (self.end + "\n" if ends else "") for text, ends in turns)

    def encode(self, messages: Sequence[Message], tokenizer: SubwordTokenizer, *, answer: bool = True) -> list[int]:
        """A conversation as ids; no content can forge a mark.

        Args:
            messages, answer: see `render`; content may hold marks, as plain text.
            tokenizer: whose special tokens include the marks.
        Returns:
            The ids of `render`'s string, where that exists.
        Raises:
            ValueError: marks that are no special tokens of the tokenizer, or as `render`.   TypeError: as `render`.
        """
        for mark in (self.begin, self.end):
            if mark not in tokenizer.specials:
                raise ValueError(f"{mark!r} is not a special token of this tokenizer, whose model does not know ChatML")
        begin, end, newline = tokenizer.id(self.begin), tokenizer.id(self.end), tokenizer.encode("\n")
        ids: list[int] = []
        for text, ends in self._turns(messages, answer):
            ids += [begin, *tokenizer.encode(text), *([end, *newline] if ends else [])]
        return ids


def _check(place: int, message: Message) -> None:
    """Refuse what is no message."""
    if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
        found = sorted(message) if isinstance(message, Mapping) else type(message).__name__
        raise ValueError(f'messages[{place}] must have the keys "role" and "content", got {found}')
    if message["role"] not in ROLES:
        raise ValueError(f"messages[{place}] has the role {message['role']!r}; known are {', '.join(ROLES)}")
    if not isinstance(message["content"], str):
        raise TypeError(f"messages[{place}] has content of type {type(message['content']).__name__}, must be a string")


SMOLLM2_CHAT = ChatTemplate(system="You are a helpful AI assistant named SmolLM, trained by Hugging Face")
