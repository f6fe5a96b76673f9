"""The one way in for words: training, evaluation, serving and export all turn text into ids here.

    text = Text(tokenizer, length=1024)
    text.chat([{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}])   # Examples to train on
    text.prompt([{"role": "user", "content": "1+1?"}])                                        # ids to generate from
    text.raw("Once upon a time")                                                              # a document

How an answer is found: the conversation up to it is rendered as it will be when the model is asked (with the generation
prompt), and once more with the answer. The first is the beginning of the second, in text and in ids; what follows,
through the token that ends the turn, is what is trained on. So every Example is the served prompt, then exactly what
the model must produce. Where the ids differ at the border, the answer's follow the prompt's, as when served. An earlier
answer shares the Example of a later one only if the later one holds it unchanged; where a template rewrites history
(earlier thinking dropped) it gets its own.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from tunesmith.core.errors import DataError, ModelError, SettingError
from tunesmith.text.example import Example
from tunesmith.text.growing import Growing
from tunesmith.text.guard import Guard
from tunesmith.text.messages import Turn, read_messages, read_tools, split_reasoning
from tunesmith.text.template import render, template_of, variables_of
from tunesmith.text.tokenizer import Tokenizer
from tunesmith.text.too_long import POLICIES, TooLong

REASONING = ("train", "mask", "drop")
PROBES = ("Aq", "7z", "hello you", "나는")  # words that share neither beginning nor end: the rest is the template's
BEGINS_THINKING = ("<think>", "<|think|>")


class Encoded(list[Example]):
    """The Examples of one row: all of it, or none and the reason in `dropped`."""

    def __init__(self, examples: Iterable[Example] = (), dropped: Iterable[str] = ()) -> None:
        super().__init__(examples)
        self.dropped = tuple(dropped)


@dataclass(frozen=True)
class Segment:
    """A stretch of tokens of one message, all trained on or none: what `tunesmith data --show` colours."""

    role: str
    text: str
    ids: tuple[int, ...]
    weight: float

    @property
    def trained_on(self) -> bool:
        return self.weight > 0


@dataclass(frozen=True)
class _Answer:
    """One trained-on turn: ids[:start] is its prompt as served, the rest its tokens through the end of the turn."""

    ids: list[int]
    start: int
    weights: list[float]  # of ids[start:]


class Text:
    """Words to Examples and prompts for one tokenizer.

    length      most tokens an Example may have, or None for no limit
    too_long    error | drop | split (raw text) | trim_prompt: what happens to a longer one
    reasoning   <think>...</think> or reasoning_content: train | mask (in the text, not trained on) | drop (taken out)
    virtual     ids a soft prompt puts before every Example; they count
    variables   extra names for the chat template, as {"enable_thinking": False}
    now         the moment templates see that write today's date; fixed, so that one run renders one way
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        length: int | None = None,
        too_long: str = "error",
        reasoning: str = "train",
        virtual: int = 0,
        variables: Mapping[str, Any] | None = None,
        now: datetime | None = None,
    ) -> None:
        if too_long not in POLICIES:
            raise SettingError(f"too_long: {too_long} is unknown.", wanted=f"Known: {', '.join(POLICIES)}.")
        if reasoning not in REASONING:
            raise SettingError(f"reasoning: {reasoning} is unknown.", wanted=f"Known: {', '.join(REASONING)}.")
        if length is not None and length - virtual < 2:
            raise SettingError(f"length: {length} leaves no room.", wanted=f"At least {virtual + 2}.")
        self.tokenizer = tokenizer
        self.length = length
        self.too_long = too_long
        self.reasoning = reasoning
        self.virtual = virtual
        self.variables = {**variables_of(tokenizer), **(variables or {})}
        self.now = now or datetime.now()
        self.num_trimmed = 0  # prompts and texts that too_long: trim_prompt has cut so far
        self._guards: dict[str, Guard] = {}
        self._facts: dict[tuple[str, str], Any] = {}

    # -- training -----------------------------------------------------------------------------------------------

    def chat(self, messages: Sequence[Mapping[str, Any]], tools: Any = None) -> Encoded:
        """Examples of a conversation: one, unless the template rewrites earlier answers or a limit takes them apart.

        Raises DataError for messages that cannot be used, TooLong under too_long: error.

        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
            -> ids <|user|> hi <|end|> <|assistant|> yo <|end|>, weights 0 0 0 0 1 1
        """
        groups = self._groups(self._answers(_Chat(self, messages, tools)))
        examples = [_example(group) for group in groups]
        if all(map(self._room, examples)):
            return Encoded(examples)
        num = max(map(len, examples)) + self.virtual
        if self.too_long == "drop":  # the row as a whole: half a conversation would be counted by nobody
            return Encoded(dropped=[f"too long: {num} tokens, length is {self.length}"])
        if self.too_long == "trim_prompt":
            return Encoded(example for group, whole in zip(groups, examples) for example in self._fitting(group, whole))
        split = "too_long: split cuts raw text; a conversation cut apart loses its question."
        raise TooLong(num, self.limit, split if self.too_long == "split" else "")

    def raw(self, text: str) -> Example:
        """A document: its tokens and the end-of-text token, all trained on; BOS in front if the model is used to it."""
        example = self._document(text)
        if not self._room(example):
            raise TooLong(len(example) + self.virtual, self.limit)
        return example

    def pieces(self, text: str, length: int | None = None) -> list[Example]:
        """A document cut into Examples of at most `length` tokens (default: the limit).

        Neighbours share one token, the last of one being the first of the next, so that every token is predicted
        exactly once.
        """
        length = length or (self.limit if self.length is not None else None)
        whole = self._document(text)
        if length is None or len(whole) <= length:
            return [whole]
        if length < 2:
            raise SettingError(f"length: {length} is too small to split into.", wanted="At least 2.")
        return [
            Example.of(whole.ids[start : start + length].tolist(), whole.weights[start : start + length].tolist())
            for start in range(0, len(whole) - 1, length - 1)
        ]

    def raw_pieces(self, text: str) -> Encoded:
        """`raw` under the too_long policy: the whole, its pieces, or nothing with the reason."""
        if self.too_long == "split":
            return Encoded(self.pieces(text))
        example = self._document(text)
        if self._room(example):
            return Encoded([example])
        num = len(example) + self.virtual
        if self.too_long == "drop":
            return Encoded(dropped=[f"too long: {num} tokens, length is {self.length}"])
        why = "too_long: trim_prompt needs a prompt; raw text has none." if self.too_long == "trim_prompt" else ""
        raise TooLong(num, self.limit, why)

    def whole(self, text: str, second: str | None = None) -> Encoded:
        """A text, or a pair, that is read at once and not continued: the model's own tokens around it, weight on the last.

        too_long: trim_prompt cuts the end off, of a pair the longer text first, as tokenizers' truncation does.

        whole("a", "b") -> [CLS] a [SEP] b [SEP], weights 0 0 0 0 1, column types 0 0 0 1 1
        """
        ids, types = self.tokenizer.around(text, second)
        if self.length is not None and len(ids) > self.limit:
            if self.too_long == "drop":
                return Encoded(dropped=[f"too long: {len(ids) + self.virtual} tokens, length is {self.length}"])
            if self.too_long != "trim_prompt":
                why = "too_long: split cuts raw text; a text that is judged stays in one piece."
                raise TooLong(len(ids) + self.virtual, self.limit, why if self.too_long == "split" else "")
            self.num_trimmed += 1
            ids, types = self.tokenizer.around(text, second, most=self.limit)
        if not ids:
            raise DataError("The text is empty.", wanted="A text of at least one token.")
        columns = {"types": np.asarray(types, dtype=np.int32)} if any(types) else {}
        return Encoded([Example.of(ids, [0.0] * (len(ids) - 1) + [1.0], **columns)])

    def whole_pieces(self, text: str) -> list[Example]:
        """A document in pieces that fit, the model's own tokens around each; nothing is trained on yet."""
        around = [*self.tokenizer.prefix_ids], [*self.tokenizer.suffix_ids]
        ids, room = self.tokenizer.encode(text), 1 << 30
        if self.length is not None and (room := self.limit - len(around[0]) - len(around[1])) < 1:
            raise SettingError(f"length: {self.length} leaves no room between the tokens around a text.")
        pieces = [[*around[0], *ids[start : start + room], *around[1]] for start in range(0, len(ids), room)]
        return [Example.of(piece, [0.0] * len(piece)) for piece in pieces]

    # -- serving ------------------------------------------------------------------------------------------------

    def prompt(self, messages: Sequence[Mapping[str, Any]], tools: Any = None, prefill: str = "") -> list[int]:
        """Ids to generate an answer from: exactly those that come before an answer in training.

        prefill  the beginning of the answer, given
        """
        chat = _Chat(self, messages, tools)
        if chat.turns[-1].role == "assistant":
            raise DataError(
                "The last message is the assistant's: there is nothing to answer.",
                fix="End with a user's message; give the beginning of an answer as prefill.",
            )
        text = chat.prompt(len(chat.turns))
        chat.check_shown(text)
        return self._one_bos(chat.guard.encode(text + chat.guard.mark(prefill, thinking=True)))

    def shortened(self, prompt: Sequence[int], room: int) -> list[int]:
        """A prompt's ids in at most `room`: its end, with BOS and the start of the user's turn before it. Counted in `num_trimmed`.

        What goes is the beginning of the user's words there, and all turns before. Where not one of these words would fit, or the
        template does not say where a turn starts, only BOS and the end are left.

        <|user|> a b c d <|end|> <|assistant|>, room 5  ->  <|user|> c d <|end|> <|assistant|>
        """
        ids = list(prompt)
        if len(ids) <= room:
            return ids
        self.num_trimmed += 1
        bos = ids[:1] if ids[0] == self.tokenizer.bos else []
        openings, closing = self._user_turn()
        at = len(ids) - room + len(bos)  # the end that fits begins here when nothing but BOS stands before it
        turns = sorted((place, one) for one in openings for place in _places(ids, one))
        start, opening = max((turn for turn in turns if turn[0] <= at), default=(0, []))
        ends = next(iter(_places(ids, closing, start + len(opening))), 0)
        if at + len(opening) < ends and opening:
            return [*bos, *opening, *ids[at + len(opening) :]]
        return [*bos, *ids[next((place for place, _ in turns if place >= at), at) :]]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of an answer, without control tokens."""
        return self.tokenizer.decode(ids)

    def said(self, ids: Sequence[int], prompt: Sequence[int] = (), cut: int = 0) -> tuple[str, str]:
        """(thinking, answer) of ids a model wrote after `prompt`. Thinking that was begun and never ended has no answer.

        ids  without the token that ended them;  cut  characters at their end that do not count: a stop string and what came with it
        """
        control = self.tokenizer.control_tokens
        ends = {control[name] for name in ("</think>", "<|/think|>") if name in control}
        if (end := next((at for at, id in enumerate(ids) if id in ends), None)) is not None:
            answer = self.decode(ids[end + 1 :])
            return self.decode(ids[:end]).strip(), answer[: max(0, len(answer) - cut)].lstrip()
        text = self.decode(ids)
        text = text[: len(text) - cut]
        if (found := split_reasoning(text)) is not None:
            return found
        written = self.tokenizer.decode(ids[:8], skip_special=False).lstrip()
        served = self.tokenizer.decode(prompt[-8:], skip_special=False).rstrip()
        if written.startswith(BEGINS_THINKING) or served.endswith(BEGINS_THINKING):
            return text.strip().removeprefix("<think>").strip(), ""
        return "", text

    def answer(self, messages: Sequence[Mapping[str, Any]], tools: Any = None) -> str:
        """What a model must write as the last message, read as `said` reads what one wrote: tool calls in its template's words.

        mini: [..., {"role": "assistant", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]}]
            ->  '{"name": "add", "arguments": {"a": 1}}'
        """
        chat = _Chat(self, messages, tools)
        found = self._answer(chat, len(chat.turns) - 1)
        return self.said(found.ids[found.start : -1], found.ids[: found.start])[1]

    @property
    def stops(self) -> tuple[int, ...]:
        """Every id that ends an answer: the model's own and the one its template ends a turn with."""
        return tuple(dict.fromkeys((*self.tokenizer.eos_ids, self.end_of_turn)))

    @property
    def end_of_turn(self) -> int:
        """The id the chat template ends an assistant's turn with."""
        return self._end_of_turn(template_of(self.tokenizer))

    # -- looking ------------------------------------------------------------------------------------------------

    def segments(self, messages: Sequence[Mapping[str, Any]], tools: Any = None) -> list[Segment]:
        """The conversation as trained on, cut at messages and where training starts and stops. Limits do not apply."""
        chat = _Chat(self, messages, tools)
        segments: list[Segment] = []
        for group in self._groups(self._answers(chat)):
            example = _example(group)
            ids, weights = example.ids.tolist(), example.weights.tolist()
            cuts = _message_ends(chat, ids)
            start = 0
            for end in range(1, len(ids) + 1):
                index = next((number for number, cut in cuts if start < cut), cuts[-1][0])
                message_ends = any(cut == end for _, cut in cuts)
                if end == len(ids) or message_ends or weights[end] != weights[start]:
                    role = chat.turns[index].role
                    words = self.tokenizer.decode(ids[start:end], skip_special=False)
                    segments.append(Segment(role, words, tuple(ids[start:end]), weights[start]))
                    start = end
        return segments

    # -- inside -------------------------------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """Tokens an Example may have of its own."""
        return (self.length or 0) - self.virtual

    def _room(self, example: Example) -> bool:
        return self.length is None or len(example) <= self.limit

    def _document(self, text: str) -> Example:
        around = self.tokenizer
        after = around.suffix_ids or ([] if around.eos is None else [around.eos])
        ids = [*around.prefix_ids, *around.encode(text), *after]
        return Example.of(ids, [1.0] * len(ids))

    def _guard(self, template: str) -> Guard:
        if template not in self._guards:
            self._guards[template] = Guard(self.tokenizer, template)
        return self._guards[template]

    def _answers(self, chat: "_Chat") -> list[_Answer]:
        trained = [index for index, turn in enumerate(chat.turns) if turn.weight > 0]
        if not trained:
            raise DataError(
                "No message is trained on.",
                wanted="At least one assistant's message without train: false.",
                fix=f"Roles found: {', '.join(turn.role for turn in chat.turns)}.",
            )
        return [self._answer(chat, index) for index in trained]

    def _answer(self, chat: "_Chat", index: int) -> _Answer:
        turn, guard = chat.turns[index], chat.guard
        before, whole = chat.prompt(index), chat.upto(index)
        cut = len(before) if whole.startswith(before) else _continuation(before, whole, chat, index)
        if cut is None and before.rstrip().endswith(BEGINS_THINKING):
            raise DataError(
                f"messages[{index}] holds no reasoning, but the model is served with its thinking already begun.",
                fix="Give the reasoning (reasoning_content), or a chat_template.jinja that does not begin it.",
            )
        if cut is None:
            raise DataError(
                f"messages[{index}]: the chat template does not continue its own generation prompt, so training would "
                f"not show the model what it is served.\nServed: ...{guard.clean(before)[-80:]!r}\n"
                f"Written: ...{guard.clean(whole)[max(0, len(before) - 80) :][:160]!r}",
                fix="Correct chat_template.jinja: with add_generation_prompt it must write how an answer begins.",
            )
        chat.check_answered(index, before, whole[cut:])
        prompt_ids, ids = chat.growing.encode(before), chat.growing.encode(whole)
        start = len(prompt_ids)
        joint = whole.startswith(before) and ids[:start] == prompt_ids
        if not joint:  # a token straddles the border, or history differs: as when served, the answer follows the prompt
            ids = prompt_ids + guard.encode(whole[cut:], inside=True)
        stops = {*self.tokenizer.eos_ids, self._end_of_turn(chat.template)}
        end = next((at for at in range(start, len(ids)) if ids[at] in stops), None)
        if end is None:
            raise DataError(
                f"messages[{index}]: the chat template does not end this turn with a token that stops generation.",
                fix="Correct chat_template.jinja, or name the stop token in generation_config.json (eos_token_id).",
            )
        ids = self._one_bos(ids[: end + 1])
        weights = [turn.weight] * (end + 1 - start)
        if self.reasoning == "mask" and chat.reasoning[index]:
            spans = guard.spans(whole) if joint else guard.spans(whole[cut:], inside=True)
            shift, first = (0, start) if joint else (cut, 0)
            at = whole.index(chat.reasoning[index], cut) - shift
            for number, (_, left, right) in enumerate(spans[first : first + len(weights)]):
                if left < at + len(chat.reasoning[index]) and right > at:
                    weights[number] = 0.0
        return _Answer(ids, start, weights)

    def _groups(self, answers: list[_Answer]) -> list[list[_Answer]]:
        """Answers that lie unchanged in a later one share its Example."""
        groups: list[list[_Answer]] = []
        for answer in reversed(answers):
            if groups and groups[-1][-1].ids[: len(answer.ids)] == answer.ids:
                groups[-1].insert(0, answer)
            else:
                groups.append([answer])
        return groups[::-1]

    def _fitting(self, group: list[_Answer], whole: Example) -> list[Example]:
        """The Example if it fits; else one for each of its answers, with as much of the prompt's end as fits."""
        return [whole] if self._room(whole) else [_example([self._trimmed(answer)]) for answer in group]

    def _trimmed(self, answer: _Answer) -> _Answer:
        """The end of the prompt and the whole answer."""
        num_answer = len(answer.ids) - answer.start
        room = self.limit - num_answer
        if room < 1:
            num = len(answer.ids) + self.virtual
            raise TooLong(
                num, self.limit, f"The answer alone has {num_answer} tokens; trim_prompt never cuts an answer."
            )
        prompt = self.shortened(answer.ids[: answer.start], room)
        return _Answer(prompt + answer.ids[answer.start :], len(prompt), answer.weights)

    def _one_bos(self, ids: list[int]) -> list[int]:
        bos = self.tokenizer.bos
        if bos is not None and ids[:2] == [bos, bos]:
            raise ModelError(
                f"The chat template writes {self.tokenizer.bos_token} twice at the start.",
                fix="Correct chat_template.jinja, or remove the token from the first message.",
            )
        return ids

    def _end_of_turn(self, template: str) -> int:
        key = (template, "end_of_turn")
        if key not in self._facts:
            probe = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ok7"}]
            written = render(template, probe, variables=self.variables, now=self.now)
            tail = written.rpartition("Ok7")[2]
            added = self.tokenizer.backend.get_added_tokens_decoder()
            ids = [id for id in self.tokenizer.encode(tail, special=True) if id in added]
            if not ids:
                raise ModelError(
                    f"The chat template writes no control token after an answer (but {tail!r}), so a model trained "
                    "with it would never stop.",
                    fix="Write the eos token after the assistant's content in chat_template.jinja.",
                )
            self._facts[key] = ids[0]
        return self._facts[key]

    def _user_turn(self) -> tuple[list[list[int]], list[int]]:
        """(ids that start a user's turn, the first and a later one; ids between its words and the answer), as the template has it."""
        template = template_of(self.tokenizer)
        key = (template, "user_turn")
        if key not in self._facts:
            openings, closing = [], []
            for before in ([], [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ok7"}]):
                asked = [[*before, {"role": "user", "content": words}] for words in PROBES]
                written = [
                    render(template, one, add_generation_prompt=True, variables=self.variables, now=self.now)
                    for one in asked
                ]
                made = [self._guard(template).encode(text) for text in written]
                opening, closing = _shared_start(made), _shared_start([ids[::-1] for ids in made])[::-1]
                stops = {*self.tokenizer.eos_ids, self._end_of_turn(template)}
                first = max((place + 1 for place, id in enumerate(opening) if id in stops), default=0)
                opening = opening[first:]  # what stands before, a system turn of the template's own too, ends there
                while opening and (opening[0] == self.tokenizer.bos or self._is_space(opening[0])):
                    opening = opening[1:]
                openings += [opening] if opening and opening not in openings else []
            self._facts[key] = (openings, closing)
        return self._facts[key]

    def _is_space(self, id: int) -> bool:
        return self.tokenizer.decode([id], skip_special=False).isspace()

    def _reads_reasoning(self, template: str) -> bool:
        key = (template, "reasoning")
        if key not in self._facts:
            self._facts[key] = "reasoning_content" in template or "message.thinking" in template
        return self._facts[key]

    def _shows_tools(self, template: str) -> bool:
        key = (template, "tools")
        if key not in self._facts:
            probe = [{"type": "function", "function": {"name": "probe_7", "description": "", "parameters": {}}}]
            hello = [{"role": "user", "content": "Hi"}]
            self._facts[key] = "probe_7" in render(template, hello, probe, variables=self.variables, now=self.now)
        return self._facts[key]


class _Chat:
    """One conversation, read, marked and ready to be rendered up to any message."""

    def __init__(self, text: Text, messages: Sequence[Mapping[str, Any]], tools: Any) -> None:
        self.text = text
        schemas = read_tools(tools)
        self.template = template_of(text.tokenizer, tools=schemas is not None)
        self.guard = guard = text._guard(self.template)
        self.growing = Growing(guard)
        if schemas is not None and not text._shows_tools(self.template):
            raise DataError(
                "The row brings tools, but the model's chat template has no place for them.",
                fix="Use a model with tool calling, or describe the tools in the first message.",
            )
        reads_reasoning = text._reads_reasoning(self.template)
        self.turns: list[Turn] = []
        self.reasoning: list[str] = []  # as it stands in the rendered text, "" where there is none
        self.contents: list[str] = []  # likewise, without the reasoning
        for turn in read_messages(messages):
            message = dict(turn.message)
            thought, content = "", message.get("content", "")
            if turn.role == "assistant":
                thought = _take_reasoning(message)
                content = message.get("content", "")
                if text.reasoning == "drop":
                    thought = ""
                if thought and reads_reasoning:
                    message["reasoning_content"] = thought
                elif thought:
                    message["content"] = f"<think>\n{thought}\n</think>\n\n{content}"
            thinking = bool(thought) and not reads_reasoning
            self.contents.append(guard.mark(content, thinking).strip())
            self.turns.append(Turn(guard.mark(message, thinking), turn.weight))
            self.reasoning.append(guard.mark(thought, thinking))
        self.tools = guard.mark(schemas)

    def prompt(self, index: int) -> str:
        """What is served when message `index` is to be written."""
        return self._render(index, True)

    def upto(self, index: int) -> str:
        """The conversation through message `index`."""
        return self._render(index + 1, False)

    def _render(self, num: int, add_generation_prompt: bool) -> str:
        text = self.text
        messages = [turn.message for turn in self.turns[:num]]

        def attempt(messages: list[dict[str, Any]]) -> str:
            return render(
                self.template,
                messages,
                self.tools,
                add_generation_prompt=add_generation_prompt,
                variables=text.variables,
                now=text.now,
            )

        try:
            return attempt(messages)
        except DataError as error:
            rest = [message for message in messages if message["role"] != "system"]
            if len(rest) == len(messages) or not rest:
                raise
            try:
                attempt(rest)
            except DataError:
                raise error from None
            raise DataError(
                f"The model's chat template has no system role. It says: {error.found.partition(': ')[2]}",
                fix="Put the instructions at the start of the first user message, or use a model with a system role.",
            ) from error

    def check_shown(self, written: str, upto: int | None = None) -> None:
        """Refuse a template that leaves out, in silence, what people and tools said."""
        for index, turn in enumerate(self.turns[:upto]):
            content = self.contents[index]
            if turn.role == "assistant" or content in written:
                continue
            if json.dumps(content, ensure_ascii=False)[1:-1] in written:
                continue
            raise DataError(
                f"The model's chat template leaves out messages[{index}] ({turn.role}): {content!r:.60}",
                fix="Use a role the template knows, or put the text into a user's message.",
            )

    def check_answered(self, index: int, before: str, answer: str) -> None:
        """Refuse an answer of which the template writes only a part."""
        self.check_shown(before, index)
        message = self.turns[index].message
        for call in message.get("tool_calls", ()):
            if call["function"]["name"] not in answer:
                raise DataError(
                    f"messages[{index}] calls {call['function']['name']}, but the model's chat template has no place "
                    "for tool calls.",
                    fix="Use a model with tool calling, or write the call as the message's content.",
                )
        if self.reasoning[index] and self.reasoning[index] not in answer:
            raise DataError(
                f"messages[{index}] holds reasoning, but the model's chat template leaves it out.",
                fix="Say so: reasoning: drop.",
            )
        if self.contents[index] not in answer:
            raise DataError(
                f"messages[{index}]: the model's chat template changes the answer it should teach: "
                f"{self.guard.clean(self.contents[index])!r:.60} became {self.guard.clean(answer)!r:.80}",
                fix="Correct chat_template.jinja, or write the answer in the form it wants.",
            )


def _continuation(before: str, whole: str, chat: _Chat, index: int) -> int | None:
    """Where the answer starts in `whole` when its history is not the served one (Mistral's moves the system's words).

    The last message, as served, must stand before it unchanged; None if it does not.
    """
    message = chat.turns[index].message
    calls = [call["function"]["name"] for call in message.get("tool_calls", ())]
    words = chat.reasoning[index] or chat.contents[index] or next(iter(calls), "")
    asked = chat.contents[index - 1] if index else ""
    at = whole.rfind(words) if words else -1
    if at < 0 or not asked or asked not in before:
        return None
    least = len(before) - before.rfind(asked)
    shared, cut = max((_shared_end(before, whole[:cut]), cut) for cut in range(max(0, at - 64), at + 1))
    return cut if shared >= least else None


def _shared_end(one: str, other: str) -> int:
    """How many characters two texts share at their ends."""
    pairs = zip(reversed(one), reversed(other))
    return next((num for num, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))


def _places(ids: list[int], part: list[int], start: int = 0) -> list[int]:
    """Where `part` stands in `ids`, from `start` on; nowhere when it is empty."""
    return [place for place in range(start, len(ids)) if part and ids[place : place + len(part)] == part]


def _shared_start(several: Sequence[Sequence[int]]) -> list[int]:
    """The ids that all begin with."""
    return [ids[0] for ids in itertools.takewhile(lambda ids: len(set(ids)) == 1, zip(*several))]


def _take_reasoning(message: dict[str, Any]) -> str:
    """Remove the reasoning from an assistant's message and return it."""
    thought = message.pop("reasoning_content", "").strip()
    if not thought and "content" in message:
        found = split_reasoning(message["content"])
        if found is not None:
            thought, message["content"] = found
    return thought


def _example(group: list[_Answer]) -> Example:
    """Answers that lie in the last one's ids, as one Example."""
    ids = group[-1].ids
    weights = [0.0] * len(ids)
    for answer in group:
        weights[answer.start : len(answer.ids)] = answer.weights
    return Example.of(ids, weights)


def _message_ends(chat: _Chat, ids: list[int]) -> list[tuple[int, int]]:
    """(message, first token after it) by rendering ever longer prefixes; a message none can end on joins the next."""
    ends: list[tuple[int, int]] = []
    for index in range(len(chat.turns)):
        try:
            prefix = chat.guard.encode(chat.upto(index))
        except DataError:  # as templates that insist on a user's message after the system's
            continue
        common = next(
            (at for at, (one, other) in enumerate(zip(prefix, ids)) if one != other), min(len(prefix), len(ids))
        )
        if common > (ends[-1][1] if ends else 0):
            ends.append((index, common))
        if common == len(ids):
            break
    if not ends or ends[-1][1] < len(ids):
        ends.append((min(len(chat.turns) - 1, ends[-1][0] + 1 if ends else 0), len(ids)))
    return ends
