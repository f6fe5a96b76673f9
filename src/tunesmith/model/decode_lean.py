"""The fast decoder for the Llama family: Llama, Mistral, Qwen2, Qwen3 and whatever is built of the same parts.

    reason = why_not(net, longest=4096)      # "" = the parts are there
    decoder = LeanDecoder(net, prefix=[5, 6], longest_prompt=20)
    logits = decoder.join([[7, 8], [9]]);  logits = decoder.step(tokens)

It walks over the model's own modules and reads their weights; in small fp32 models on a CPU it lays them out a second time
for each call, in an order that is faster to read: for a kernel that walks all layers in a call (decode_compiled.py), or for torch.
A projection that is not a plain Linear (an adapted one) is called as it is, or taken by its merged matrix where it offers
one and weights are laid out anyway. That the parts mean here what they mean in Llama is proved by the caller, by comparing
logits (generate.proved_path).

Cache: (layers, rows, keys then values, columns, head_dim), all rows write the same column in a step, and a row that joins
late is put so that its prompt ends at that column; what lies left of a row's start is masked. The shared prefix is kept
once, (layers, 2, kv_heads, prefix, head_dim); a query meets prefix and own part in one softmax.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tunesmith.core.heap import ask_large_pages
from tunesmith.model.decode_compiled import compiled_step, is_silu
from tunesmith.model.packed import is_quantised

_COPY_BELOW = 256 << 20  # bytes of a model whose weights may be laid out a second time
_WORTH_COPYING = 32  # steps after which that pays
_ROOM = 128  # columns the cache grows by, at least
_READ_AT_ONCE = {"cpu": 1024}  # tokens of prompts read in one pass: on a CPU what passes through its caches
_READ_IN_C = 256  # the same for the kernel: what two threads' caches hold
_LONG = 512  # tokens of a prompt that the kernel is not given: torch's attention reads it faster
_SCORES_AT_ONCE = 1 << 26  # attention scores against the shared prefix held at once

Apply = Callable[[torch.Tensor], torch.Tensor]
Attend = Callable[[int, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class _Layer:
    """What one decoder layer does, as functions of tensors (tokens, features)."""

    qkv: Apply  # hidden -> queries, keys and values side by side
    norm_q: Apply | None
    norm_k: Apply | None
    rest: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (hidden, attended) -> hidden


@dataclass(frozen=True)
class _Known:
    """A prompt that was read and comes again: its keys and values (layers, heads, tokens, head_dim), the logits after it."""

    prompt: tuple[int, ...]
    own: torch.Tensor
    logits: torch.Tensor


def why_not(net: nn.Module, *, longest: int) -> str:
    """Why the lean decoder does not fit `net` for texts of up to `longest` tokens; "" if nothing speaks against it."""
    body, head = getattr(net, "model", None), getattr(net, "lm_head", None)
    if body is None or head is None:
        return "no .model and .lm_head"
    if strange := _strange(net, {"model", "lm_head"}) or _strange(
        body, {"embed_tokens", "layers", "norm", "rotary_emb"}
    ):
        return strange
    config = net.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= {"full_attention", "sliding_attention"}:
        return f"layers of type {', '.join(sorted(kinds))}"
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True) and longest > window:
        return f"texts of {longest} tokens in a model that looks back {window}"
    rope = getattr(body.rotary_emb, "rope_type", "")
    if rope not in ("default", "linear", "llama3", "yarn"):
        return f"rotary positions of type {rope!r}, which depend on the length"
    for layer in body.layers:
        parts = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
        strange = _strange(layer, parts) or _strange(
            layer.self_attn, {"q_proj", "k_proj", "v_proj", "o_proj"}, optional={"q_norm", "k_norm"}
        )
        if strange := strange or _strange(layer.mlp, {"gate_proj", "up_proj", "down_proj"}, optional={"act_fn"}):
            return strange
        if not hasattr(layer.mlp, "act_fn") or not hasattr(layer.self_attn, "head_dim"):
            return "no .mlp.act_fn or .self_attn.head_dim"
    return ""


class LeanDecoder:
    """A Decoder (see decode_whole). `longest_prompt`: tokens of the longest prompt that will join, prefix not counted."""

    def __init__(
        self, net: nn.Module, prefix: Sequence[int] = (), *, longest_prompt: int, num_steps: int = 1 << 20
    ) -> None:
        """`num_steps`: about how many steps there will be; for few of them weights are not rearranged."""
        body: Any = net.model
        self.net, self.body, self.room = net, body, longest_prompt
        attention = body.layers[0].self_attn
        self.head_dim = int(attention.head_dim)
        self.scale = float(getattr(attention, "scaling", self.head_dim**-0.5))
        self.kv_heads = int(net.config.num_key_value_heads)
        self.group = int(net.config.num_attention_heads) // self.kv_heads  # query heads per key head
        self.num_q = self.kv_heads * self.group
        self.device, self.dtype = body.norm.weight.device, body.norm.weight.dtype
        store = _store(net) if num_steps >= _WORTH_COPYING else None
        self.compiled = None if store is None else compiled_step(net, _weight, _plain_norm, store)
        if self.compiled is not None:
            store = None  # prompts are read by the weights as they are
        self.layers = [_read_layer(layer, store, number) for number, layer in enumerate(body.layers)]
        if self.compiled is not None and self.compiled.head is not None:
            self.head: Apply = self.compiled.logits
        else:
            self.head = _normed(body.norm, [net.lm_head], None, "")
        embed = body.embed_tokens
        self.embed: Apply = (lambda ids: F.embedding(ids, embed.weight)) if _plain(embed, nn.Embedding) else embed
        kinds = [0] * (self.num_q + self.kv_heads) + [1] * self.kv_heads
        self.kinds = torch.tensor([*kinds, *(kind + 2 for kind in kinds)], device=self.device)
        self.turns = torch.empty(0)
        self._tables(256)
        self.num_rows, self.column = 0, longest_prompt  # the next token is written to this column
        self.starts: list[int] = []  # first column of each row
        self.known: _Known | None = None
        self.cache = torch.empty(0)
        self.mask: torch.Tensor | None = None  # None: all rows start at the same column
        self.position = torch.empty(0, dtype=torch.long)  # (rows,) of the next token
        self.prefix = torch.zeros(len(self.layers), 2, self.kv_heads, len(prefix), self.head_dim, **self._like)
        if prefix:
            self._tables(len(prefix) + 1)
            self._read_alone(list(prefix), self.turns[: len(prefix)], self.prefix)

    @property
    def _like(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "device": self.device}

    # -- what a decoder does ------------------------------------------------------------------------------------

    def join(self, prompts: Sequence[Sequence[int]], again: bool = False) -> torch.Tensor:
        """See Decoder.join. Prompts that are equal are read once."""
        given = [tuple(prompt) for prompt in prompts]
        self._make_room(len(given), max(len(prompt) for prompt in given))
        slots: dict[tuple[int, ...], list[int]] = {}
        for number, prompt in enumerate(given):
            slots.setdefault(prompt, []).append(self.num_rows + number)
        read: list[torch.Tensor] = []
        known = self.known if self.known is not None and self.known.prompt in slots else None
        if known is not None:
            column, into = self.column, torch.tensor(slots[known.prompt], device=self.device)
            self.cache[:, into, :, column - len(known.prompt) : column] = known.own[:, None]
            read.append(known.logits)
        unique = sorted((prompt for prompt in slots if known is None or prompt != known.prompt), key=len)
        at_once = _READ_AT_ONCE.get(self.device.type, 8192) if self.compiled is None else _READ_IN_C
        if self.prefix.shape[3]:
            at_once = min(at_once, _SCORES_AT_ONCE // (self.num_q * self.prefix.shape[3]))
        for part in _portions(unique, at_once):
            if part:
                in_c = self.compiled is not None and len(part[-1]) <= _LONG
                read.append((self._read_in_c if in_c else self._read)(part, slots))
        logits = torch.cat(read)
        place = {prompt: number for number, prompt in enumerate([*([known.prompt] if known else []), *unique])}
        lengths = [len(prompt) for prompt in given]
        for slot, length in enumerate(lengths, self.num_rows):
            self.cache[:, slot, :, : self.column - length] = 0  # masked, but 0 * NaN is NaN
        self.known = None
        if again:
            own = self.cache[:, self.num_rows + len(given) - 1, :, self.column - lengths[-1] : self.column]
            at = place[given[-1]]
            self.known = _Known(given[-1], own.clone(), logits[at : at + 1])
        self.starts += [self.column - length for length in lengths]
        past = torch.tensor(lengths, device=self.device) + self.prefix.shape[3]
        self.position = past if not self.num_rows else torch.cat([self.position, past])
        self.num_rows += len(given)
        self._measure()
        return logits[[place[prompt] for prompt in given]]

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See Decoder.step."""
        if self.column == self.cache.shape[3]:
            self._make_room(0, 0)
        n, first, column = self.num_rows, self.first, self.column
        self._tables(self.longest + 1)
        if self.compiled is not None:
            self.places[:, 2] = column
            turns = self.turns[self.position, ::2]
            return self._stepped(self.compiled(self.embed(tokens), turns, self.cache, self.prefix, self.places))
        heads = self.num_q
        written = self.cache[:, :n, :, column].unbind(0)
        seen = self.cache[:, :n, :, first : column + 1]
        keys, values = seen[:, :, : self.kv_heads].unbind(0), seen[:, :, self.kv_heads :].unbind(0)
        mask = None if self.mask is None else self.mask[:, None, None, first : column + 1]
        split, scale = (n, self.kv_heads, self.group, self.head_dim), self.scale

        prefix = self.prefix if self.prefix.shape[3] else None
        if prefix is not None:

            def attend(layer: int, qkv: torch.Tensor) -> torch.Tensor:
                written[layer].copy_(qkv[:, heads:])
                q = qkv[:, :heads].view(split)
                return _attend_both(q, prefix[layer], keys[layer], values[layer], mask, scale)
        else:

            def attend(layer: int, qkv: torch.Tensor) -> torch.Tensor:
                written[layer].copy_(qkv[:, heads:])
                q = qkv[:, :heads].view(split)
                return F.scaled_dot_product_attention(q, keys[layer], values[layer], mask, scale=scale)

        return self._stepped(self._walk(tokens, self.turns[self.position], attend))

    def _stepped(self, hidden: torch.Tensor) -> torch.Tensor:
        self.position += 1
        self.longest += 1
        self.column += 1
        return self.head(hidden)

    def keep(self, rows: Sequence[int]) -> None:
        """See Decoder.keep. Only rows whose number changes are moved."""
        moved = [(new, old) for new, old in enumerate(rows) if new != old]
        if moved:
            span = slice(self.first, self.column)
            new, old = torch.tensor(moved, device=self.device).unbind(1)
            self.cache[:, new, :, span] = self.cache[:, old, :, span]
        self.starts = [self.starts[row] for row in rows]
        if len(rows) < self.num_rows or moved:
            self.position = self.position[list(rows)]
        self.num_rows = len(rows)
        self._measure()

    # -- reading ------------------------------------------------------------------------------------------------

    def _walk(self, ids: torch.Tensor, turns: torch.Tensor, attend: Attend) -> torch.Tensor:
        """Through all layers: ids (tokens,), their rows of the rotary table -> hidden states before the last norm.

        attend(layer, qkv) gets queries, keys and values (tokens, heads, head_dim), rotated, and gives back (tokens, ...).
        """
        hidden = self.embed(ids)
        heads, num_q, half = len(self.kinds) // 2, self.num_q, self.head_dim // 2
        cos, sin = turns.index_select(1, self.kinds).split(heads, 1)  # (tokens, heads, head_dim)
        for number, layer in enumerate(self.layers):
            qkv = layer.qkv(hidden).view(-1, heads, self.head_dim)
            if layer.norm_q is not None and layer.norm_k is not None:
                q, k, v = qkv.split((num_q, self.kv_heads, self.kv_heads), 1)
                qkv = torch.cat([layer.norm_q(q), layer.norm_k(k), v], 1)
            qkv = (qkv * cos).addcmul_(qkv.roll(half, -1), sin)
            hidden = layer.rest(hidden, attend(number, qkv).reshape(len(ids), -1))
        return hidden

    def _read(self, prompts: Sequence[tuple[int, ...]], slots: dict[tuple[int, ...], list[int]]) -> torch.Tensor:
        """Read prompts, sorted by length, as one row of tokens; write keys and values; logits (prompts, vocab)."""
        before = self.prefix.shape[3]
        ids = torch.tensor([token for prompt in prompts for token in prompt], device=self.device)
        positions = torch.tensor([before + i for prompt in prompts for i in range(len(prompt))], device=self.device)
        self._tables(before + len(prompts[-1]) + 1)
        runs: list[tuple[int, int, int, torch.Tensor, torch.Tensor, torch.Tensor | None]] = []
        token = row = 0
        while row < len(prompts):
            length = len(prompts[row])
            num = sum(len(prompt) == length for prompt in prompts)
            pairs = [(i, slot) for i in range(num) for slot in slots[prompts[row + i]]]
            source = torch.tensor([i for i, _ in pairs], device=self.device)
            target = torch.tensor([slot for _, slot in pairs], device=self.device)
            mask = None
            if before:  # each query head of a group has its own copy of the triangle
                future = torch.ones(length, length, dtype=torch.bool, device=self.device).triu(1)
                mask = (
                    torch.zeros(length, length, **self._like).masked_fill_(future, float("-inf")).repeat(self.group, 1)
                )
            runs.append((token, num, length, source, target, mask))
            token, row = token + num * length, row + num
        column, kv = self.column, self.kv_heads

        def attend(layer: int, qkv: torch.Tensor) -> torch.Tensor:
            outputs = []
            for token, num, length, source, target, mask in runs:
                part = qkv[token : token + num * length].view(num, length, -1, self.head_dim).transpose(1, 2)
                q, own = part[:, : self.num_q], part[:, self.num_q :]
                self.cache[layer, target, :, column - length : column] = own[source]
                k, v = own[:, :kv], own[:, kv:]
                if before:
                    q = q.reshape(num, kv, self.group * length, self.head_dim)
                    out = _attend_both(q, self.prefix[layer], k, v, mask, self.scale)
                    out = out.reshape(num, -1, length, self.head_dim)
                else:
                    out = F.scaled_dot_product_attention(
                        q, k, v, is_causal=True, scale=self.scale, enable_gqa=self.group > 1
                    )
                outputs.append(out.transpose(1, 2).reshape(num * length, -1))
            return torch.cat(outputs)

        hidden = self._walk(ids, self.turns[positions], attend)
        ends = torch.tensor([len(prompt) for prompt in prompts], device=self.device).cumsum(0) - 1
        return self.head(hidden[ends])

    def _read_in_c(self, prompts: Sequence[tuple[int, ...]], slots: dict[tuple[int, ...], list[int]]) -> torch.Tensor:
        """As _read; what a prompt of some hundred tokens costs is the matrices', not the attention's."""
        assert self.compiled is not None
        before, end = self.prefix.shape[3], self.column
        ids = torch.tensor([token for prompt in prompts for token in prompt])
        self._tables(before + len(prompts[-1]) + 1)
        turns = torch.cat([self.turns[before : before + len(prompt), ::2] for prompt in prompts])
        stand = [(slots[p][0], end - len(p), column) for p in prompts for column in range(end - len(p), end)]
        hidden = self.compiled(self.embed(ids), turns, self.cache, self.prefix, torch.tensor(stand, dtype=torch.int32))
        for prompt in prompts:
            first, *others = slots[prompt]
            if others:
                span = slice(end - len(prompt), end)
                self.cache[:, others, :, span] = self.cache[:, first : first + 1, :, span]
        ends = torch.tensor([len(prompt) for prompt in prompts]).cumsum(0) - 1
        return self.head(hidden[ends])

    def read_at(self, ids: Sequence[int], position: int) -> torch.Tensor:
        """Logits (tokens, vocab) of a short text whose first token stands at `position`. Nothing is kept.

        For the proof: some models treat far positions in ways that the parts do not show.
        """
        positions = torch.arange(position, position + len(ids), device=self.device)
        return self.head(self._read_alone(ids, self._turns(positions), None))

    def _read_alone(self, ids: Sequence[int], turns: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """Hidden states of one text; keys and values go to `kept` (layers, 2, kv_heads, tokens, head_dim)."""

        def attend(layer: int, qkv: torch.Tensor) -> torch.Tensor:
            q, k, v = qkv.transpose(0, 1)[None].split((self.num_q, self.kv_heads, self.kv_heads), 1)
            if kept is not None:
                kept[layer, 0], kept[layer, 1] = k[0], v[0]
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale, enable_gqa=self.group > 1)
            return out[0].transpose(0, 1)

        return self._walk(torch.tensor(ids, device=self.device), turns, attend)

    # -- book-keeping -------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        """What only changes when rows come and go: first used column, longest text, mask (rows, columns) of 0 and -inf."""
        self.first = min(self.starts, default=self.column)
        self.longest = self.prefix.shape[3] + self.column - self.first
        self.places = torch.tensor([(row, start, 0) for row, start in enumerate(self.starts)], dtype=torch.int32)
        self.mask = None
        if self.compiled is None and not all(start == self.first for start in self.starts):
            columns = torch.arange(self.cache.shape[3], device=self.device)
            hidden = columns < torch.tensor(self.starts, device=self.device)[:, None]
            self.mask = torch.zeros(hidden.shape, **self._like).masked_fill_(hidden, float("-inf"))

    def _make_room(self, rows: int, length: int) -> None:
        """Move what is cached to the left as far as it goes, into a larger cache where it is too small."""
        if not self.num_rows:
            self.starts, self.column = [], self.room
            self._measure()
        rows += self.num_rows
        used = max(self.column - self.first, self.room, length)
        grow = not self.cache.numel() or rows > self.cache.shape[1]
        tight = self.column >= self.cache.shape[3] if self.cache.numel() else True
        if not grow and not tight:
            return
        old_rows, old_columns = (self.cache.shape[1], self.cache.shape[3]) if self.cache.numel() else (0, 0)
        columns = old_columns if used + _ROOM <= old_columns else used + max(_ROOM, used // 2)
        shift = self.column - used
        cache = torch.empty(
            len(self.layers), max(rows, old_rows), 2 * self.kv_heads, columns, self.head_dim, **self._like
        )
        if self.device.type == "cpu":
            ask_large_pages(cache.data_ptr(), cache.numel() * cache.element_size())
        if self.num_rows:
            span = slice(self.first, self.column)
            moved = slice(self.first - shift, self.column - shift)
            cache[:, : self.num_rows, :, : moved.start] = 0  # masked, but 0 * NaN is NaN
            cache[:, : self.num_rows, :, moved] = self.cache[:, : self.num_rows, :, span]
        self.cache, self.column = cache, used
        self.starts = [start - shift for start in self.starts]
        self._measure()

    def _tables(self, positions: int) -> None:
        """Make the rotary table reach to so many positions."""
        if positions > len(self.turns):
            size = max(positions, 2 * len(self.turns))
            self.turns = self._turns(torch.arange(size, device=self.device))

    def _turns(self, positions: torch.Tensor) -> torch.Tensor:
        """The model's rotary factors, (positions, 4, head_dim).

        0 and 2 are cosine and signed sine for queries and keys, 1 and 3 turn by nothing, for values.
        """
        cos, sin = self.body.rotary_emb(torch.empty(1, **self._like), positions[None])
        half = self.head_dim // 2
        signed = torch.cat([-sin[0, :, :half], sin[0, :, half:]], -1)
        return torch.stack([cos[0], torch.ones_like(signed), signed, torch.zeros_like(signed)], 1)


def _attend_both(
    q: torch.Tensor,  # (rows, kv_heads, group, head_dim)
    prefix: torch.Tensor,  # keys and values: (2, kv_heads, prefix, head_dim)
    k: torch.Tensor,  # (rows, kv_heads, columns, head_dim)
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    """Queries against the shared prefix and their row's own columns, one softmax over both: shaped as q.

    mask is added to the own scores, (rows, kv_heads, group, columns) after broadcasting. Prompts come as a group of all
    their tokens.
    """
    rows, heads, group, dim = q.shape
    q = q * scale
    together = q.transpose(0, 1).reshape(heads, rows * group, dim)  # all rows meet the prefix in one product
    shared = torch.bmm(together, prefix[0].transpose(1, 2)).view(heads, rows, group, -1).transpose(0, 1)
    own = q @ k.transpose(2, 3)
    if mask is not None:
        own = own + mask
    length = shared.shape[-1]
    wide = torch.promote_types(q.dtype, torch.float32)
    probs = torch.cat([shared, own], -1).softmax(-1, dtype=wide).to(q.dtype)
    far = probs[..., :length].transpose(0, 1).reshape(heads, rows * group, length)
    out = torch.bmm(far, prefix[1]).view(heads, rows, group, dim).transpose(0, 1)
    return out + probs[..., length:] @ v


def _portions(prompts: list[tuple[int, ...]], limit: int) -> list[list[tuple[int, ...]]]:
    """Cut the list where more than `limit` tokens would be read at once."""
    portions: list[list[tuple[int, ...]]] = [[]]
    total = 0
    for prompt in prompts:
        if portions[-1] and total + len(prompt) > limit:
            portions.append([])
            total = 0
        portions[-1].append(prompt)
        total += len(prompt)
    return portions


# -- modules into functions -------------------------------------------------------------------------------------


# A place for rearranged weights, kept with the network: the first touch of fresh memory costs more than the copy.
_stores: "weakref.WeakKeyDictionary[nn.Module, dict[str, torch.Tensor]]" = weakref.WeakKeyDictionary()


def _store(net: nn.Module) -> dict[str, torch.Tensor] | None:
    """Where to lay out weights anew; None where that brings nothing or takes too much memory."""
    if is_quantised(net):  # laid out, its matrices would take eight times their memory
        return None
    weights = list(net.parameters())
    small = sum(weight.numel() * weight.element_size() for weight in weights) <= _COPY_BELOW
    if not small or any(weight.dtype != torch.float32 or weight.device.type != "cpu" for weight in weights):
        return None
    return _stores.setdefault(net, {})


def _read_layer(layer: Any, store: dict[str, torch.Tensor] | None, number: int) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    act: Apply = F.silu if is_silu(mlp.act_fn) else mlp.act_fn
    qkv = _normed(layer.input_layernorm, [attention.q_proj, attention.k_proj, attention.v_proj], store, f"qkv{number}")
    gate_up = _normed(layer.post_attention_layernorm, [mlp.gate_proj, mlp.up_proj], store, f"gate_up{number}")
    out, down = _added(attention.o_proj, store, f"out{number}"), _added(mlp.down_proj, store, f"down{number}")

    def rest(hidden: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        hidden = out(hidden, attended)
        gate, up = gate_up(hidden).chunk(2, -1)
        return down(hidden, act(gate).mul_(up))

    norm_q, norm_k = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
    return _Layer(
        qkv=qkv,
        norm_q=None if norm_q is None else _norm(norm_q),
        norm_k=None if norm_k is None else _norm(norm_k),
        rest=rest,
    )


def _normed(norm: Any, modules: list[Any], store: dict[str, torch.Tensor] | None, name: str) -> Apply:
    """Norm, then projections of it side by side: (tokens, in) -> (tokens, sum of out).

    With a store the weights are laid next to each other, (in, out) in memory: a product with few rows reads them faster.
    """
    weights = [] if store is None else [_weight(module) for module in modules]
    if store is None or not _plain_norm(norm) or any(weight is None for weight in weights):
        normed, parts = _norm(norm), [_linear(module) for module in modules]
        if len(parts) == 1:
            return lambda x: parts[0](normed(x))
        if all(_plain(module, nn.Linear) and module.bias is None for module in modules):
            return _side_by_side(normed, [module.weight for module in modules])

        def apart(x: torch.Tensor) -> torch.Tensor:
            x = normed(x)
            return torch.cat([part(x) for part in parts], -1)

        return apart
    weight = _transposed([weight for weight in weights if weight is not None], store, name)
    gain = norm.weight * len(weight) ** 0.5
    floor = torch.tensor((len(weight) * norm.variance_epsilon) ** 0.5)

    def scaled(x: torch.Tensor) -> torch.Tensor:
        # x / sqrt(mean(x^2) + eps) = sqrt(features) * x / hypot(|x|, sqrt(features * eps)): on a CPU half of rms_norm's time
        return (x / torch.hypot(torch.linalg.vector_norm(x, 2, -1, True), floor)).mul_(gain)

    if all(module.bias is None for module in modules):
        return lambda x: scaled(x).mm(weight)
    outs = [weight.shape[0] for weight in weights if weight is not None]
    bias = torch.cat([torch.zeros(out) if m.bias is None else m.bias for m, out in zip(modules, outs)])
    return lambda x: torch.addmm(bias, scaled(x), weight)


def _side_by_side(normed: Apply, weights: list[torch.Tensor]) -> Apply:
    """Products written next to each other, without a copy of them afterwards."""
    outs = [len(weight) for weight in weights]

    def apply(x: torch.Tensor) -> torch.Tensor:
        x = normed(x)
        made = x.new_empty(len(x), sum(outs))
        for weight, place in zip(weights, made.split(outs, 1)):
            torch.mm(x, weight.t(), out=place)
        return made

    return apply


def _added(
    module: Any, store: dict[str, torch.Tensor] | None, name: str
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """(hidden, x) -> hidden + module(x), which may be written over hidden."""
    weight = None if store is None or getattr(module, "bias", None) is not None else _weight(module)
    if store is None or weight is None:
        apply = _linear(module)
        return lambda hidden, x: hidden + apply(x)
    laid_out = _transposed([weight], store, name)
    return lambda hidden, x: hidden.addmm_(x, laid_out)


def _weight(module: Any) -> torch.Tensor | None:
    """The (out, in) matrix a module multiplies by, where it is no more than that; None where it has to be called.

    An adapted layer that is a plain product by some other matrix says so by offering effective_weight().
    """
    if _hooked(module):
        return None
    return module.weight if type(module) is nn.Linear else module.effective_weight() if _merges(module) else None


def _merges(module: Any) -> bool:
    return hasattr(module, "effective_weight") and hasattr(module, "bias")


def _transposed(weights: list[torch.Tensor], store: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """Weights (out, in) side by side as (in, sum of out), in the store's memory."""
    shape = weights[0].shape[1], sum(weight.shape[0] for weight in weights)
    place = store.get(name)
    if place is None or place.shape != shape:
        place = store[name] = torch.empty(shape)
    for weight, columns in zip(weights, place.split([weight.shape[0] for weight in weights], 1)):
        columns.copy_(weight.t())
    return place


def _linear(module: nn.Module) -> Apply:
    if not _plain(module, nn.Linear):
        return module
    weight, bias = module.weight, module.bias
    return lambda x: F.linear(x, weight, bias)


def _norm(module: Any) -> Apply:
    """Root-mean-square norm as one call; anything else is called as it is."""
    if not _plain_norm(module):
        return module
    weight, eps = module.weight, module.variance_epsilon
    shape = tuple(weight.shape)
    return lambda x: F.rms_norm(x, shape, weight, eps)


def _plain_norm(module: Any) -> bool:
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon") and not _hooked(module)


def _plain(module: nn.Module, kind: type) -> bool:
    return type(module) is kind and not _hooked(module)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks) or "forward" in vars(module)


def _strange(module: nn.Module, parts: set[str], optional: frozenset[str] | set[str] = frozenset()) -> str:
    """What keeps `module` from being taken apart: other children than `parts`, or hooks on itself."""
    children = {name for name, _ in module.named_children()}
    if not parts <= children or not children <= parts | set(optional):
        return f"{type(module).__name__} has parts {', '.join(sorted(children))}"
    return f"{type(module).__name__} has hooks" if _hooked(module) else ""
