"""Answers to prompts: batched decoding over the key-value cache, rows leaving and joining as they finish.

    answers = generate(model, [[5, 6, 7], [5, 6, 8, 9]], max_tokens=40, stop=["\\n\\n"])
    answers[0].text, answers[0].finish        # "...", "stop" | "stop_string" | "length"

What all prompts start with is read once, and so is a prompt that is given several times. Answers come back in the order of the prompts; `on_answer(index, answer)` is called
as each one finishes. An answer depends on its prompt and its seed, not on what else is in the batch.
"""

import math
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from tunesmith.core.errors import ModelError, SettingError
from tunesmith.model import decode_lean
from tunesmith.model.decode_general import GeneralDecoder, can_merge
from tunesmith.model.decode_lean import LeanDecoder
from tunesmith.model.decode_whole import Decoder, WholeDecoder
from tunesmith.model.sampling import choose, uniforms
from tunesmith.model.virtual import hidden_places, virtual_ids

PATHS = ("lean", "merged", "grouped", "whole")  # fastest first; the first that is proved is taken

# Largest difference of two logits, relative to the largest logit, that is rounding and not another model.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-5, torch.float16: 2e-2, torch.bfloat16: 8e-2}

# For each network: what it is made of when it was looked at, and the path that was proved then.
_proved: "weakref.WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], str]]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Answer:
    """One answer.

    ids               every token generated, with the end token or the tokens of the stop string if there were any
    text              what to show: without end token, cut before the stop string
    finish            "stop" = an end token, "stop_string", or "length" = max_tokens reached
    logprobs          of ids under the model's own distribution (temperature 1, no penalties, no cut)
    sampled_logprobs  of ids under the distribution they were drawn from (penalties, temperature, top-p); 0 when greedy
    num_prompt        tokens of the prompt
    seconds           from the reading of its prompt to its last token, together with its batch
    """

    ids: list[int]
    text: str
    finish: str
    logprobs: list[float]
    sampled_logprobs: list[float]
    num_prompt: int
    seconds: float


@dataclass
class _Row:
    """An answer under way."""

    index: int  # of its prompt
    seed: int
    limit: int  # most tokens it may have
    started: float
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampled: list[float] = field(default_factory=list)
    text: "_Text | None" = None  # only where stop strings have to be found
    finish: str = ""
    seconds: float = 0.0

    def add(self, token: int, logprob: float, sampled: float, ends: Collection[int]) -> bool:
        """Take in a token; True when the answer is complete."""
        if math.isnan(logprob):
            raise ModelError(
                f"the model's output is not a number at token {len(self.ids)} of answer {self.index}",
                fix="Its weights are damaged or overflow in this precision: try precision bf16 or fp32.",
            )
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.sampled.append(sampled)
        if token in ends:
            self.finish = "stop"
        elif self.text is not None and self.text.add(self.ids):
            self.finish = "stop_string"
        elif len(self.ids) >= self.limit:
            self.finish = "length"
        return bool(self.finish)


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int | Sequence[int],
    temperature: float = 0.0,
    top_p: float = 1.0,
    stop: str | Sequence[str] = (),
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    seeds: Sequence[int] | None = None,
    eos_ids: Collection[int] | None = None,
    batch: int = 32,
    on_answer: Callable[[int, Answer], None] | None = None,
    path: str = "auto",
) -> list[Answer]:
    """Answer each prompt (token ids, as Text.prompt gives them) with up to `max_tokens` tokens.

    max_tokens   for all answers, or one number an answer; an end token counts
    model        anything with .net (a transformers causal LM) and .tokenizer (.decode(ids), .eos_ids)
    temperature  0 = always the likeliest token; else logits are divided by it
    top_p        draw from the smallest set of tokens that has this mass
    stop         strings that end the answer; it is cut before the first of them
    frequency_penalty, presence_penalty   as OpenAI defines them, over generated tokens
    seeds        one integer an answer; None = 0, 1, 2, ...
    eos_ids      tokens that end the answer; None = the tokenizer's
    batch        rows decoded together
    path         "auto", or one of lean, merged, grouped, whole (see PATHS): for tests and benchmarks

    Raises ModelError when a prompt with max_tokens does not fit the model's context, SettingError for impossible settings.

    generate(model, [[5, 6, 7]], max_tokens=2) -> [Answer(ids=[8, 9], text="...", finish="length", ...)]
    """
    stops = [stop] if isinstance(stop, str) else list(stop)
    seeds = list(range(len(prompts))) if seeds is None else [int(seed) for seed in seeds]
    limits = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else list(max_tokens)
    front = virtual_ids(model.net)  # of a soft prompt
    taken = len(front) + hidden_places(model.net)
    _check(model, prompts, limits, temperature, top_p, stops, seeds, batch, path, taken)
    if not prompts:
        return []
    prompts = [[*front, *prompt] for prompt in prompts] if front else prompts
    net: nn.Module = model.net
    ends = frozenset(model.tokenizer.eos_ids if eos_ids is None else eos_ids)
    shared = _shared_prefix(prompts)
    # Longest first: rows that decode together then have prompts of like length. Equal prompts stand together, read once.
    queue = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), list(prompts[i])))
    answers: dict[int, Answer] = {}
    with _evaluating(net), torch.inference_mode():
        total = max(len(prompt) + limit for prompt, limit in zip(prompts, limits))
        steps = max(max(limits), sum(limits) // batch)
        decoder = open_decoder(net, list(prompts[0][:shared]), len(prompts[queue[0]]), total, steps, path)
        table = _Table(decoder, ends, temperature, top_p, frequency_penalty, presence_penalty)
        while queue or table.rows:
            free = batch - len(table.rows)
            # Prompts are read a few at a time, which costs less than one by one, unless nobody would wait for it.
            if queue and (not table.rows or free >= min(max(1, batch // 8), len(queue))):
                new, queue = queue[:free], queue[free:]
                now = time.perf_counter()
                rows = [_Row(i, seeds[i], limits[i], now) for i in new]
                for row in rows:
                    row.text = _Text(model.tokenizer, stops) if stops else None
                again = bool(queue) and list(prompts[queue[0]]) == list(prompts[new[-1]])
                table.join(rows, [prompts[i][shared:] for i in new], again)
            for row in table.advance():
                answers[row.index] = answer = _answer(row, model.tokenizer, ends, len(prompts[row.index]) - len(front))
                if on_answer is not None:
                    on_answer(row.index, answer)
    return [answers[index] for index in range(len(prompts))]


class _Table:
    """The rows that are answered together, and what is needed to choose their next tokens."""

    def __init__(
        self,
        decoder: Decoder,
        ends: Collection[int],
        temperature: float,
        top_p: float,
        frequency_penalty: float,
        presence_penalty: float,
    ) -> None:
        self.decoder, self.ends = decoder, ends
        self.temperature, self.top_p = temperature, top_p
        self.frequency_penalty, self.presence_penalty = frequency_penalty, presence_penalty
        self.rows: list[_Row] = []
        self.logits = torch.empty(0)  # (rows, vocab) of the next tokens
        self.counts: torch.Tensor | None = None  # (rows, vocab) tokens generated so far, where penalties want them

    def join(self, rows: list[_Row], prompts: list[Sequence[int]], again: bool) -> None:
        """Read the prompts of new rows; `again` when the last of them comes once more."""
        logits = self.decoder.join(prompts, again)
        if self.frequency_penalty or self.presence_penalty:
            none = torch.zeros(logits.shape, device=logits.device)
            self.counts = none if self.counts is None else torch.cat([self.counts, none])
        self.logits = torch.cat([self.logits, logits]) if self.rows else logits
        self.rows = self.rows + rows

    def advance(self) -> list[_Row]:
        """One token for every row; the rows that are complete with it leave and are returned."""
        uniform = None
        if self.temperature:
            numbers = uniforms([row.seed for row in self.rows], [len(row.ids) for row in self.rows])
            uniform = torch.from_numpy(numbers).to(self.logits.device)
        tokens, logprobs, sampled = choose(
            self.logits,
            uniform,
            temperature=self.temperature,
            top_p=self.top_p,
            counts=self.counts,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
        )
        if self.counts is not None:
            self.counts.scatter_add_(1, tokens[:, None], torch.ones_like(self.counts[:, :1]))
        together = torch.stack(
            [tokens.double(), logprobs.double(), sampled.double()]
        )  # one transfer, as a GPU wants it
        finished, staying = [], []
        for number, (row, token, *two) in enumerate(zip(self.rows, *together.tolist())):
            if row.add(int(token), *two, self.ends):
                row.seconds = time.perf_counter() - row.started
                finished.append(row)
            else:
                staying.append(number)
        if finished:
            staying = _filled(staying)
            self.decoder.keep(staying)
            self.rows = [self.rows[number] for number in staying]
            tokens = tokens[staying]
            self.counts = None if self.counts is None else self.counts[staying]
        if self.rows:
            self.logits = self.decoder.step(tokens)
        return finished


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """No dropout inside; every module's own mode is put back after."""
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def open_decoder(
    net: nn.Module, prefix: list[int], longest_prompt: int, longest: int, steps: int, path: str = "auto"
) -> Decoder:
    """The fastest decoder that agrees with the model's own forward on a few tokens; proved once for each network.

    prefix is read once for all rows; longest_prompt counts it; longest is the longest text there will be; steps says
    about how many steps it will take.
    """
    own = longest_prompt - len(prefix)
    if path == "auto":
        path = proved_path(net, longest)
    return _build(path, net, prefix, own, steps)


def proved_path(net: nn.Module, longest: int) -> str:
    """Which of PATHS fits `net` for texts of up to `longest` tokens: its parts are looked at, then its logits compared."""
    lean = not decode_lean.why_not(net, longest=longest)
    # Adapters come and go: what was proved holds for modules of these types, in this precision.
    made_of = (lean, next(net.parameters()).dtype, tuple(type(module) for module in net.modules()))
    known = _proved.setdefault(net, {})
    if made_of not in known:
        possible = [*(["lean"] if lean else []), *(["merged"] if can_merge(net) else []), "grouped"]
        known[made_of] = next((path for path in possible if _agrees(path, net)), "whole")
    return known[made_of]


def context_length(net: nn.Module) -> int | None:
    """How many tokens the model can read; None where its architecture sets no limit."""
    config = net.config.get_text_config() if hasattr(net.config, "get_text_config") else net.config
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"):
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    return None


def _build(path: str, net: nn.Module, prefix: list[int], longest_prompt: int, steps: int) -> Decoder:
    if path == "lean":
        return LeanDecoder(net, prefix, longest_prompt=longest_prompt, num_steps=steps)
    if path == "whole":
        return WholeDecoder(net, prefix)
    return GeneralDecoder(net, prefix, merge=path == "merged")


@torch.inference_mode()
def _agrees(path: str, net: nn.Module) -> bool:
    """Whether a path gives the logits of the plain forward: two rows over a prefix, one leaves, another joins."""
    parameter = next(net.parameters())
    vocab = int(net.get_input_embeddings().weight.shape[0])
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocab, (24,), generator=generator).tolist()

    def play(decoder: Decoder) -> torch.Tensor:
        seen = [decoder.join([ids[3:8], ids[8:10]])]
        seen.append(decoder.step(torch.tensor(ids[10:12], device=parameter.device)))
        decoder.keep([1])
        seen.append(decoder.join([ids[12:18], ids[18:19]]))
        seen.append(decoder.step(torch.tensor(ids[19:22], device=parameter.device)))
        return torch.cat(seen)

    def same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
        found, wanted = found.float(), wanted.float()
        return found.shape == wanted.shape and bool(
            (found - wanted).abs().max() <= _TOLERANCE[parameter.dtype] * wanted.abs().max()
        )

    try:
        decoder = _build(path, net, ids[:3], 6, 1 << 20)
        if not same(play(decoder), play(WholeDecoder(net, ids[:3]))):
            return False
        if not isinstance(decoder, LeanDecoder):
            return True
        # Some models scale their attention with the position, which shows at the end of the context only.
        far = max(0, (context_length(net) or 1 << 15) - 8)
        positions = torch.arange(far, far + 8, device=parameter.device)
        wanted = net(input_ids=torch.tensor([ids[:8]], device=parameter.device), position_ids=positions[None]).logits[0]
        return same(decoder.read_at(ids[:8], far), wanted)
    except (RuntimeError, TypeError, AttributeError, ValueError, NotImplementedError, LookupError, AssertionError):
        return False  # this network's parts or cache are not what the path takes them for: the next path is tried


def _check(
    model: Any,
    prompts: Sequence[Sequence[int]],
    limits: list[int],
    temperature: float,
    top_p: float,
    stops: list[str],
    seeds: list[int],
    batch: int,
    path: str,
    taken: int,
) -> None:
    if (kind := getattr(model, "kind", "causal")) != "causal":
        raise ModelError(
            f"{model.name} is loaded as {kind}: it reads whole texts and cannot go on with one",
            wanted="A decoder, which predicts each token from those before it.",
            fix="An encoder-decoder answers through tunesmith.model.seq2seq.answers." if kind == "seq2seq" else "",
        )
    if len(limits) != len(prompts):
        raise SettingError(f"{len(limits)} max_tokens for {len(prompts)} prompts", wanted="One, or one a prompt.")
    if min(limits, default=1) < 1 or batch < 1:
        raise SettingError(f"max_tokens is {min(limits, default=1)}, batch is {batch}", wanted="Both are at least 1.")
    if not 0 <= temperature < math.inf:
        raise SettingError(f"temperature is {temperature}", wanted="0 (always the likeliest token) or more.")
    if not 0 < top_p <= 1:
        raise SettingError(f"top_p is {top_p}", wanted="More than 0, at most 1 (no cut).")
    if not all(stops):
        raise SettingError("a stop string is empty", fix="Remove it: every answer would end at once.")
    if len(seeds) != len(prompts):
        raise SettingError(f"{len(seeds)} seeds for {len(prompts)} prompts", wanted="One seed a prompt.")
    if path not in ("auto", *PATHS):
        raise SettingError(f"path is {path!r}", wanted=f"One of auto, {', '.join(PATHS)}.")
    context = context_length(model.net)
    context = None if context is None else context - taken
    for index, (prompt, max_tokens) in enumerate(zip(prompts, limits)):
        if not len(prompt):
            raise SettingError(f"prompt {index} is empty", wanted="At least one token, such as BOS.")
        if context is not None and len(prompt) + max_tokens > context:
            raise ModelError(
                f"prompt {index} has {len(prompt)} tokens; with max_tokens {max_tokens} that is "
                f"{len(prompt) + max_tokens}, over the model's context of {context}",
                fix=f"Shorten the prompt, or set max_tokens to {context - len(prompt)} or less."
                if len(prompt) < context
                else "Shorten the prompt.",
            )


def _shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts start with; each keeps one of its own. Fewer than 16 are not worth a pass: 0."""
    if len(prompts) < 2:
        return 0
    first, last = (list(prompt) for prompt in (min(prompts, key=list), max(prompts, key=list)))
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    shared = min(shared, min(len(prompt) for prompt in prompts) - 1)
    return shared if shared >= 16 else 0


def _filled(staying: list[int]) -> list[int]:
    """The rows that stay, holes filled from the end, so that few of them move. [0, 2, 3] -> [0, 3, 2]"""
    size, stays = len(staying), set(staying)
    late = [row for row in staying if row >= size]
    return [row if row in stays else late.pop() for row in range(size)]


def _answer(row: _Row, tokenizer: Any, ends: Collection[int], num_prompt: int) -> Answer:
    if row.finish == "stop_string":
        assert row.text is not None
        text = row.text.cut
    else:
        text = tokenizer.decode(row.ids[:-1] if row.ids[-1] in ends else row.ids)
    return Answer(row.ids, text, row.finish, row.logprobs, row.sampled, num_prompt, row.seconds)


class _Text:
    """The text of an answer as it grows, searched for stop strings.

    Only the newest tokens are decoded again, with the few before them that a tokenizer may need to place a space; tokens that
    end inside a character wait for the rest of it.
    """

    def __init__(self, tokenizer: Any, stops: list[str]) -> None:
        self.tokenizer, self.stops = tokenizer, stops
        self.whole = self.cut = ""
        self.context = self.read = (
            0  # ids before `read` are in `whole`; those from `context` on are decoded with the new ones
        )

    def add(self, ids: list[int]) -> bool:
        """Take in what is new in ids; True when a stop string is complete. `cut` then is the text before it."""
        before = self.tokenizer.decode(ids[self.context : self.read])
        after = self.tokenizer.decode(ids[self.context :])
        if after.endswith("\ufffd"):
            return False
        fresh = after[len(before) :]
        self.whole += fresh
        self.context, self.read = self.read, len(ids)
        if not fresh:
            return False
        found = [self.whole.find(stop, max(0, len(self.whole) - len(fresh) - len(stop) + 1)) for stop in self.stops]
        if max(found) < 0:
            return False
        self.cut = self.whole[: min(place for place in found if place >= 0)]
        return True
