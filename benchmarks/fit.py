"""Does `tunesmith plan --fit` hold? Ten (model, memory) pairs: the run it proposes, and one notch more, each within that memory.

    python -m benchmarks.fit [--only 2M-lora-700] [--again]

Each pair wishes for more than fits; its memory is one that the forecast of the notch exceeds: a notch forecast below it is
refused for the forecast's error alone, and may run. What --fit proposes is trained for two steps by `tunesmith train` in a memory cgroup of
exactly that size, and must finish; the notch that --fit names is trained likewise and must be killed. The cgroup wants root.
Writes results/fit.json after each run, and goes on where it was stopped.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.cgroup import Group
from benchmarks.common import read_results, table, write_results
from benchmarks.layer_streaming import make


@dataclass(frozen=True)
class Pair:
    """A wish: a model of `layers` layers `width` wide, `batch` rows of `length` tokens in one pass; memory in MiB."""

    width: int
    layers: int
    adapter: str
    length: int
    batch: int
    memory: int

    @property
    def name(self) -> str:
        return f"{self.width}x{self.layers}-{self.adapter}-{self.length}-{self.memory}"

    def wish(self, folder: Path) -> dict[str, Any]:
        """Settings of the run that is wished for."""
        return {
            "model": str(folder), "method": "sft", "adapter": self.adapter, "length": self.length, "train.batch_size": self.batch,
            "train.pass_tokens": self.batch * self.length, "train.precision": "fp32", "train.checkpointing": False,
        }  # fmt: skip


PAIRS = (
    Pair(192, 4, "lora", 256, 64, 600),
    Pair(256, 4, "lora", 512, 32, 700),
    Pair(512, 8, "lora", 512, 16, 820),
    Pair(384, 6, "full", 512, 16, 900),
    Pair(192, 4, "full", 256, 64, 700),
    Pair(256, 4, "full", 128, 128, 850),
    Pair(256, 8, "lora", 256, 64, 1200),
    Pair(384, 6, "lora", 256, 64, 1200),
    Pair(512, 8, "full", 256, 16, 1400),
    Pair(640, 10, "lora", 512, 8, 1700),
)


def settings(wish: Mapping[str, Any], setup: Mapping[str, Any]) -> dict[str, Any]:
    """The wish with what a forecast's setup says instead."""
    from tunesmith.plan.setup import Setup

    keys = {"adapter": "adapter", "length": "length", "base": "base", "batch_size": "train.batch_size"}
    usual = {field.name: field.default for field in fields(Setup)}
    said = {
        name: value for name, value in setup.items() if value != usual[name] or name in ("precision", "checkpointing")
    }
    return {**wish, **{keys.get(name, f"train.{name}"): value for name, value in said.items()}}


def write_rows(path: Path, model: Path, length: int, number: int) -> None:
    """Questions with answers, each `length` tokens long with the chat's own."""
    from tunesmith.text.encode import Text
    from tunesmith.text.tokenizer import Tokenizer

    def row(letters: int, index: int) -> dict[str, Any]:
        asked = f"{index:06d}" + "a" * (letters // 2 - 6)
        turns = (("user", asked), ("assistant", "b" * (letters - letters // 2)))
        return {"messages": [{"role": role, "content": content} for role, content in turns]}

    text = Text(Tokenizer(model), length=4 * length)
    letters = length
    for _ in range(4):
        letters += length - len(text.chat(row(letters, 0)["messages"])[0])
    path.write_text("".join(json.dumps(row(letters, index)) + "\n" for index in range(number)))


def proposal(wish: Mapping[str, Any], memory: int) -> dict[str, Any]:
    """What --fit says for so many MiB: {"changes", "setup", "device", "error", "notch", "notch_device"}."""
    import tunesmith

    found = tunesmith.plan(fit=f"cpu:{memory}MB", **wish)
    if not found["changes"]:
        raise SystemExit(f"{memory} MiB: the wish fits as it is, or nothing does ({found['changes']}): no pair to try")
    seen, notch = found["forecast"], found.get("notch")
    said = {"changes": found["changes"], "setup": seen["setup"], "device": seen["device"], "error": seen["error"]}
    return said | ({"notch": notch["setup"], "notch_device": notch["device"]} if notch else {})


def train(keys: Mapping[str, Any], rows: Path, folder: Path, limit: int, steps: int) -> dict[str, Any]:
    """So many steps in a cgroup of `limit` bytes: whether they finished or were killed."""
    given = {**keys, "data.path": rows, "data.dev": 0, "data.test": 0, "train.steps": steps, "out": folder}
    words = [f"{name}={typed(value)}" for name, value in given.items()]
    group = Group(limit)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tunesmith", "train", *words, "--quiet"],
            preexec_fn=group.enter, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return {"ended": ended(done.returncode, done.stderr), "peak": group.peak(), "rc": done.returncode,
                **resident(folder)}  # fmt: skip
    finally:
        group.close()


def typed(value: Any) -> str:
    """A setting's value as it is typed on the command line."""
    return json.dumps(value) if isinstance(value, bool | dict) else str(value)


def ended(code: int, errors: str) -> str:
    """runs | out of memory | the error it ended with."""
    if code == 0:
        return "runs"
    lacking = code in (-9, 137) or "DefaultCPUAllocator" in errors or "MemoryError" in errors
    return "out of memory" if lacking else errors.strip()[-400:]


def resident(folder: Path) -> dict[str, int]:
    """The most that the finished run held at once; {} of one that was killed."""
    path = folder / "memory.json"
    return {"resident": json.loads(path.read_text())["process_peak"]} if path.exists() else {}


def held(line: Mapping[str, Any]) -> bool:
    """Whether the proposal ran and the notch did not."""
    return bool(line["proposal"]["ended"] == "runs" and line.get("notch", {}).get("ended") == "out of memory")


def show(found: Mapping[str, Any]) -> str:
    """The table of a results file."""
    lines, rows = found["lines"], []
    for line in lines:
        said = line["said"]
        mb = [f"{said[name] / (1 << 20):,.0f}" if name in said else "" for name in ("device", "notch_device")]
        rows.append([line["name"], " ".join(said["changes"]), mb[0], line["proposal"]["ended"], mb[1],
                     line.get("notch", {}).get("ended", "none named"), "yes" if held(line) else "NO"])  # fmt: skip
    columns = [
        "model, adapter, length, MiB",
        "--fit says",
        "planned, MiB",
        "it",
        "notch, MiB",
        "one notch more",
        "holds",
    ]
    return table(columns, rows) + f"\n{sum(map(held, lines))} of {len(lines)} hold"


def model_of(pair: Pair, work: Path) -> Path:
    """The folder of a pair's model, made where it is not there yet."""
    model = work / f"{pair.width}x{pair.layers}"
    if not model.exists():
        make(model, layers=pair.layers, width=pair.width, stored="fp32")
    return model


def attempt(pair: Pair, wish: Mapping[str, Any], setup: Mapping[str, Any], folder: Path, steps: int) -> dict[str, Any]:
    """Train the wish with what `setup` says within the pair's memory, into `folder`, on rows for so many steps beside it."""
    rows = folder.with_suffix(".jsonl")
    write_rows(rows, Path(wish["model"]), setup["length"], steps * pair.batch)
    return train(settings(wish, setup), rows, folder, pair.memory << 20, steps)


def one(pair: Pair, work: Path) -> dict[str, Any]:
    """Plan, train, train the notch."""
    wish = pair.wish(model_of(pair, work))
    said = proposal(wish, pair.memory)
    line: dict[str, Any] = {"name": pair.name, "memory": pair.memory << 20, "said": said}
    for name, setup in (("proposal", said["setup"]), ("notch", said.get("notch"))):
        if setup is not None:
            line[name] = attempt(pair, wish, setup, work / f"{pair.name}-{name}", steps=2)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="names of pairs")
    parser.add_argument("--again", action="store_true", help="also what results/fit.json has already")
    given = parser.parse_args()
    lines = {line["name"]: line for line in read_results("fit").get("lines", [])}
    with tempfile.TemporaryDirectory() as made:
        os.environ["TUNESMITH_CACHE"] = f"{made}/cache"  # what runs before taught this machine's planner is left out
        for pair in PAIRS:
            if (pair.name in lines and not given.again) or (given.only and pair.name not in given.only):
                continue
            lines[pair.name] = one(pair, Path(made))
            print(json.dumps(lines[pair.name]), flush=True)
            write_results("fit", {"lines": [lines[each.name] for each in PAIRS if each.name in lines]})
    print(show({"lines": [lines[each.name] for each in PAIRS if each.name in lines]}))


if __name__ == "__main__":
    main()
