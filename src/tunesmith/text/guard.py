"""Control tokens typed by people stay plain text.

Someone writes `<|im_end|>` in a question: the template's own `<|im_end|>` must become the control token, theirs must
not, or they could close their turn and speak as the assistant. So theirs are wrapped in two marker characters before
rendering, which survive whatever the template does to the text, and the marked places are encoded without any added
token.

    guard = Guard(tokenizer, template)
    marked = guard.mark(messages)          # unchanged objects when nothing was typed: the common case costs a scan
    guard.encode(rendered)  ->  ids

Gives the ids of transformers' `apply_chat_template(..., sanitize_control_tokens=True)`.
"""

import re
from typing import Any

import jinja2

from tunesmith.text.template import environment
from tunesmith.text.tokenizer import Tokenizer

START, END = "\U000f0000", "\U000f0001"  # private use, those of transformers


class Guard:
    """Marks and encodes for one tokenizer and one template.

    What counts as a control token: all special tokens, and added tokens the template itself writes (`<tool_call>`).
    """

    def __init__(self, tokenizer: Tokenizer, template: str) -> None:
        self.tokenizer = tokenizer
        added = list(tokenizer.backend.get_added_tokens_decoder().values())
        written = _literals(template)
        guarded = [
            token.content
            for token in added
            if token.special or (token.content in written and not token.content.isspace())
        ]
        self.tokens = frozenset(guarded)
        self._pattern = _any_of(guarded)
        self._without_thinking = _any_of([token for token in guarded if not re.fullmatch(r"<\|?/?think\|?>", token)])
        self._marked = re.compile(f"{START}({self._pattern.pattern}){END}|[{START}{END}]")
        self._newline = tokenizer.encode("\n")
        # Where a text may be taken apart: special tokens that do not look at what stands before them.
        apart = [t.content for t in added if t.special and not (t.lstrip or t.single_word or t.normalized)]
        self.borders = _any_of(apart) if apart else None
        self.endings: dict[str, list[int]] = {}  # remembered by Growing

    def mark(self, value: Any, thinking: bool = False) -> Any:
        """Wrap typed control tokens in every string of `value`, recursively.

        thinking  True leaves `<think>` and `</think>` alone: the assistant's own, written inside its content
        """
        if isinstance(value, str):
            if START in value or END in value:  # nobody forges a marker
                value = value.replace(START, "").replace(END, "")
            pattern = self._without_thinking if thinking else self._pattern
            return pattern.sub(f"{START}\\g<0>{END}", value) if pattern.search(value) else value
        if isinstance(value, dict):
            return {
                self.mark(key, thinking): item if key == "role" else self.mark(item, thinking)
                for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.mark(item, thinking) for item in value]
        return value

    def encode(self, text: str, inside: bool = False) -> list[int]:
        """Ids of rendered text. inside=True: the text continues another (no space is put before it)."""
        if START not in text and END not in text:
            return self._continue(text) if inside else self.tokenizer.encode(text, special=True)
        return [id for id, _, _ in self.spans(text, inside)]

    def spans(self, text: str, inside: bool = False) -> list[tuple[int, int, int]]:
        """(id, start, end) of every token, start and end in characters of `text`."""
        result: list[tuple[int, int, int]] = []
        at, num = 0, 0
        for match in self._marked.finditer(text):
            if match.start() > at:
                result += self._piece(text[at : match.start()], at, inside or num > 0)
                num += 1
            if match[1]:
                result += [(id, match.start(1), match.end(1)) for id in self._plain(match[1])]
                num += 1
            at = match.end()
        if at < len(text) or not num:
            result += self._piece(text[at:], at, inside or num > 0)
        return result

    def clean(self, text: str) -> str:
        """The text without markers."""
        return text.replace(START, "").replace(END, "")

    def _piece(self, text: str, at: int, inside: bool) -> list[tuple[int, int, int]]:
        shift, skip = (1, len(self._newline)) if inside else (0, 0)
        encoding = self.tokenizer.encodings(["\n" * shift + text], special=True)[0]
        if inside and encoding.ids[:skip] != self._newline:
            shift, skip = 0, 0
            encoding = self.tokenizer.encodings([text], special=True)[0]
        spans = zip(encoding.ids[skip:], encoding.offsets[skip:])
        return [(id, start - shift + at, end - shift + at) for id, (start, end) in spans]

    def _continue(self, text: str) -> list[int]:
        # SentencePiece-like tokenizers put a space before a text; after a newline that we take off again they do not.
        ids = self.tokenizer.encode("\n" + text, special=True)
        if ids[: len(self._newline)] == self._newline:
            return ids[len(self._newline) :]
        return self.tokenizer.encode(text, special=True)

    def _plain(self, text: str) -> list[int]:
        ids = self.tokenizer.encode_unadded("\n" + text)
        if ids[: len(self._newline)] == self._newline:
            return ids[len(self._newline) :]
        return self.tokenizer.encode_unadded(text)


def _any_of(tokens: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)")


def _literals(template: str) -> str:
    """The template's own words, apart from each other by null characters."""
    tree = environment().parse(template)
    texts = [node.data for node in tree.find_all(jinja2.nodes.TemplateData)]
    texts += [node.value for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)]
    return "\0".join(texts)
