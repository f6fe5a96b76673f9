"""Is the base model better than counting? Bits per UTF-8 byte on the held-out shard, against Kneser-Ney and xz.

    TUNESMITH_DATA=... python -m benchmarks.base_model [--model FOLDER]     default: the embedded mini

All of it is charged: every token of every document of corpus/val-00.jsonl.gz and each document's end token, over the UTF-8
bytes of the texts. The neural model is loaded by plain transformers and sees one document at a time; longer documents go
through windows of its context length that move by `--stride` tokens, each token scored once with at least context - stride
tokens before it. A tokenizer without a start token gives the model nothing to predict a document's first token from: that
token is charged log2(vocabulary) bits. Kneser-Ney (5-grams, same token ids) and xz get all of the training shards.
"""

import argparse
import gzip
import json
import lzma
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import data_folder, read_results, sha256, table, write_results
from benchmarks.kneser_ney import fit

NAME = "base_model"


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a shard."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def encode(tokenizer: Any, texts: Sequence[str], end: int) -> list[np.ndarray]:
    """Ids of each text with its end token, int32."""
    made = []
    for start in range(0, len(texts), 512):
        ids = tokenizer(list(texts[start : start + 512]), add_special_tokens=False, verbose=False)["input_ids"]
        made += [np.array([*line, end], dtype=np.int32) for line in ids]
    return made


def windows(length: int, context: int, stride: int) -> Iterable[tuple[int, int, int]]:
    """(begin, end, first scored) of each window over `length` tokens; every token is scored exactly once.

    >>> list(windows(10, 6, 3))
    [(0, 6, 0), (3, 9, 6), (4, 10, 9)]
    """
    scored = 0
    while scored < length:
        end = min(length, context if not scored else scored + stride)
        yield max(0, end - context), end, scored
        scored = end


def model_bits(model: Any, start: int | None, ids: np.ndarray, context: int, stride: int) -> np.ndarray:
    """Cost of each token of one document in bits, float64 (time,)."""
    import torch

    given = ids if start is None else np.concatenate([[start], ids])
    bits = np.full(len(given), math.log2(model.config.vocab_size))
    for begin, end, scored in windows(len(given), context, stride):
        with torch.inference_mode():
            logits = model(input_ids=torch.from_numpy(given[begin:end].astype(np.int64))[None]).logits[0, :-1].float()
            target = torch.from_numpy(given[begin + 1 : end].astype(np.int64))
            cost = torch.nn.functional.cross_entropy(logits, target, reduction="none").double().numpy() / math.log(2)
        first = max(scored, begin + 1)
        bits[first:end] = cost[first - begin - 1 :]
    return bits if start is None else bits[1:]


def xz(data: bytes) -> int:
    """Size after xz -9e, in bytes."""
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def main() -> None:
    """See the top of the file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunesmith.model.embedded import folder

    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--model", type=Path, default=folder("mini"))
    ask.add_argument("--stride", type=int, help="half the context unless given")
    ask.add_argument(
        "--baselines-only", action="store_true", help="Kneser-Ney and xz only; the folder needs no weights"
    )
    ask.add_argument("--threads", type=int)
    given = ask.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)

    corpus = data_folder("corpus")
    shards, held_out = sorted(corpus.glob("train-*.jsonl.gz")), corpus / "val-00.jsonl.gz"
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    end = tokenizer.eos_token_id
    val = documents(held_out)
    sizes = np.array([len(row["text"].encode()) for row in val])
    ids = encode(tokenizer, [row["text"] for row in val], end)
    lossy = [
        i
        for i, row in enumerate(val)
        if tokenizer.decode(ids[i][:-1], clean_up_tokenization_spaces=False) != row["text"]
    ]
    if lossy:
        raise SystemExit(f"the tokenizer loses text in {len(lossy)} documents: bits per byte would mean nothing")

    print(
        f"val-00: {len(val)} documents, {sizes.sum():,} bytes, {sum(map(len, ids)):,} tokens with end tokens",
        flush=True,
    )
    earlier, cached = read_results(NAME), {}
    key = sha256(*shards, held_out, given.model / "tokenizer.json")
    if earlier.get("inputs") == key:
        cached = earlier["baselines"]
    if not cached:
        texts = [row["text"] for shard in shards for row in documents(shard)]
        cached = kneser_ney(tokenizer, texts, ids, end, len(tokenizer)) | compressors(
            texts, [row["text"] for row in val]
        )
        if given.baselines_only:
            print(f"written to {write_results(NAME, {'inputs': key, 'baselines': cached})}")
    result: dict[str, Any] = {"inputs": key, "baselines": cached, "documents": len(val), "bytes": int(sizes.sum())}
    result |= {"sizes": sizes.tolist(), "languages": [row["lang"] for row in val]}
    if not given.baselines_only:
        model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
        context = model.config.max_position_embeddings
        stride = given.stride or context // 2
        began = time.perf_counter()
        costs = [float(model_bits(model, tokenizer.bos_token_id, line, context, stride).sum()) for line in ids]
        weights = sorted(given.model.glob("*.safetensors"))
        result["model"] = {
            "name": given.model.name,
            "parameters": sum(p.numel() for p in model.parameters()),
            "weights_sha256": sha256(*weights),
            "weights_bytes": sum(path.stat().st_size for path in weights),
            "context": context,
            "stride": stride,
            "first_token": "from the start token" if tokenizer.bos_token_id is not None else "log2(vocabulary) bits",
            "seconds": time.perf_counter() - began,
            "bits": costs,
        }
    print(show(result))
    if "model" in result:
        print(f"written to {write_results(NAME, result)}")


def kneser_ney(tokenizer: Any, texts: list[str], ids: list[np.ndarray], end: int, vocab_size: int) -> dict[str, Any]:
    """Bits of each held-out document under 5-gram Kneser-Ney trained on `texts`."""
    began = time.perf_counter()
    train = encode(tokenizer, texts, end)
    model = fit(train, vocab_size=vocab_size)
    bits = [float(model.bits(line).sum()) for line in ids]
    return {
        "kneser_ney": {
            "order": len(model.orders),
            "tokens": int(sum(map(len, train))),
            "ngrams": [len(order.keys) for order in model.orders],
            "discounts": [order.discounts[1:].round(4).tolist() for order in model.orders],
            "seconds": time.perf_counter() - began,
            "bits": bits,
        }
    }


def compressors(train: list[str], val: list[str]) -> dict[str, Any]:
    """xz -9e of the held-out texts alone, and what they add to the training texts. A zero byte ends a document."""
    began = time.perf_counter()
    before, after = ("".join(text + "\0" for text in texts).encode() for texts in (train, val))
    alone, added = xz(after), xz(before + after) - xz(before)
    return {"xz": {"alone_bytes": alone, "given_train_bytes": added, "seconds": time.perf_counter() - began}}


def show(result: dict[str, Any]) -> str:
    """The table of a results file: bits per UTF-8 byte over all documents and by language."""
    sizes, spoken = np.array(result["sizes"]), np.array(result["languages"])
    languages = sorted(set(result["languages"]))
    lines = []

    def line(name: str, bits: Sequence[float]) -> None:
        cost = np.array(bits)
        by = [spoken == language for language in languages]
        lines.append(
            [name, f"{cost.sum() / sizes.sum():.4f}", *[f"{cost[at].sum() / sizes[at].sum():.4f}" for at in by]]
        )

    if "model" in result:
        facts = result["model"]
        line(
            f"{facts['name']} ({facts['parameters'] / 1e6:.1f}M parameters, context {facts['context']})", facts["bits"]
        )
    counted = result["baselines"]["kneser_ney"]
    line(f"Kneser-Ney {counted['order']}-grams, {counted['tokens'] / 1e6:.1f}M tokens", counted["bits"])
    packed = result["baselines"]["xz"]
    for name, size in (("xz -9e", packed["alone_bytes"]), ("xz -9e, training text known", packed["given_train_bytes"])):
        lines.append([name, f"{8 * size / sizes.sum():.4f}", *["" for _ in languages]])
    said = table(["bits per byte, val-00", "all", *languages], lines)
    if "model" in result:
        ours = sum(result["model"]["bits"]) / sizes.sum()
        rest = min(sum(counted["bits"]), 8 * packed["alone_bytes"], 8 * packed["given_train_bytes"]) / sizes.sum()
        said += (
            f"\n\n{result['model']['name']} needs {'fewer' if ours < rest else 'MORE'} bits than the best of the others"
        )
    return said


if __name__ == "__main__":
    main()
