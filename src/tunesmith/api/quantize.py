"""tunesmith quantize: a finished model in eight or four bits a weight, with what that changed."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tunesmith.core.result import Result

KIND_OF = {8: "int8", 4: "nf4"}


def quantize(
    model: str,
    *,
    bits: int | None = None,
    kind: str | None = None,
    out: str | None = None,
    data: str | None = None,
    rows: int | None = None,
    keep: str = "",
    precision: str = "bf16",
    score: bool = True,
    quiet: bool = False,
) -> Result:
    """Write a run or a model in eight or four bits a weight, with perplexity, KL, task score and bytes before and after.

    model      a run (its adapter is merged first), a model folder, an embedded or a hub model
    bits       8 or 4; default 8
    kind       int8 (8 bits, a scale a row) or nf4 (4 bits, a scale for 64 weights); default: by bits
    out        the new model's folder; default: RUN/int8, or NAME-int8
    data       text or rows to measure on; default: the run's dev rows (test rows where it has none), else short bundled texts
    rows       measure and score on so many rows at most
    keep       layers that stay as they are, by name, end of name or glob, with commas between: down_proj,model.layers.0.*
    precision  number format of what is not packed: bf16, fp16 or fp32
    score      also score a run's test rows by its metrics, before and after (--no-score leaves it out)
    quiet      no progress on stderr

    The folder opens with tunesmith.load, eval and chat, is a base for LoRA, and is what transformers with bitsandbytes reads. The report
    lies in it as quantize.json. Stopped and started again, rows already answered are not asked again.

    Example: tunesmith quantize runs/train-1 bits=4
    """
    from tunesmith.adapters.store import merged, open_run
    from tunesmith.core.errors import ModelError, SettingError, UserError
    from tunesmith.core.limits import at_least
    from tunesmith.core.registry import named
    from tunesmith.model.packed import kind_of

    kind = _kind(bits, kind)
    if precision not in ("bf16", "fp16", "fp32"):
        raise SettingError(f"precision is {precision!r}.", wanted="bf16, fp16 or fp32, for what is not packed.")
    at_least("rows", rows, 1)
    name = str(named(model))
    where = _out(name, kind, out)
    opened = open_run(name)
    if found := kind_of(opened.net):
        raise ModelError(
            f"{model} is quantised already, as {found}.",
            fix="Quantise the model it was made from: errors add up otherwise.",
        )
    if opened.kind not in ("causal", "classify"):
        raise ModelError(
            f"{model} is a network of kind {opened.kind}.",
            wanted="A model that predicts the next token, or a classifier.",
        )
    opened = merged(opened)
    if opened.adapter is not None:
        raise ModelError(
            f"the adapter of {model} cannot be merged into weights.", wanted="A model whose weights say it all."
        )
    work = where.parent / f".{where.name}.quantize"
    try:
        report = _made(name, opened, kind, where, work, data, rows, keep, precision, score, quiet)
    except UserError:
        shutil.rmtree(work, ignore_errors=True)
        raise
    from tunesmith.quantize.tell import told

    return Result(report, text=told(report))


def _kind(bits: int | None, kind: str | None) -> str:
    from tunesmith.core.errors import SettingError
    from tunesmith.core.names import unknown
    from tunesmith.model.packed import KINDS

    if bits is not None and bits not in KIND_OF:
        raise SettingError(f"bits is {bits}.", wanted="8 or 4.")
    kind = kind or KIND_OF[bits or 8]
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    if bits is not None and KINDS[kind].bits != bits:
        raise SettingError(
            f"kind is {kind}, which has {KINDS[kind].bits} bits, and bits is {bits}.", fix="Leave one out."
        )
    return kind


def _out(name: str, kind: str, out: str | None) -> Path:
    from tunesmith.core.errors import ModelError

    source = Path(name)
    is_run = (source / "manifest.json").is_file()
    beside = source / kind if is_run else source.parent / f"{source.name}-{kind}"
    where = Path(out) if out else beside if source.is_dir() else Path(beside.name)
    if where.is_file() or (where.is_dir() and any(where.iterdir())):
        raise ModelError(f"{where} is there already and is not empty.", fix="Choose a new folder: out=FOLDER")
    return where


def _made(
    name: str,
    model: Any,
    kind: str,
    where: Path,
    work: Path,
    data: str | None,
    rows: int | None,
    keep: str,
    precision: str,
    score: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Everything the report says. The folder appears under its name at the end, whole."""
    from tunesmith import __version__
    from tunesmith.adapters.store import open_run
    from tunesmith.core.files import write_json
    from tunesmith.model.load import DTYPES
    from tunesmith.model.save import replace_folder, save
    from tunesmith.quantize.choose import choose, errors, packed_copy
    from tunesmith.quantize.sizes import kv_cache_bytes, on_disk, sizes

    choice = choose(model.net, kind, [pattern.strip() for pattern in keep.split(",") if pattern.strip()])
    measured, project, given = _rows(name, model, data, rows, work)
    made = replace(model, net=packed_copy(model.net, kind, choice.names, DTYPES[precision]))
    change = _change(model, made, measured, project, given)
    save(made.net, model.tokenizer, work / "model", dtype=precision)
    _prove(made, open_run(work / "model"))
    report: dict[str, Any] = {
        "format": 1, "tunesmith": __version__, "model": name, "out": str(where), "kind": kind, "precision": precision,
        "layers": len(choice.names), "weights": sum(out * columns for out, columns in choice.shapes.values()),
        "bytes": sizes(model.net, choice.shapes, rest_bytes=DTYPES[precision].itemsize),
        "on_disk": on_disk(work / "model", choice.names), "kv_cache_per_token": kv_cache_bytes(model.net.config),
        "measured_on": given["told"], "change": change, "kept": [asdict(one) for one in choice.kept],
        "errors": errors(model.net, made.net),
    }  # fmt: skip
    report["scores"] = _scores(name, model, made, kind, work, rows, score, quiet)
    if (work / "evals").is_dir():  # copied, so that a kill from here on loses no answer
        shutil.copytree(work / "evals", work / "model" / "evals")
    write_json(work / "model" / "quantize.json", report)
    where.parent.mkdir(parents=True, exist_ok=True)
    replace_folder(work / "model", where)
    shutil.rmtree(work, ignore_errors=True)
    return report


def _rows(
    name: str, model: Any, data: str | None, most: int | None, work: Path
) -> tuple[list[Any], Any, dict[str, str]]:
    """(rows, the run's project or None, {"kind", "told": where the rows are from})."""
    from tunesmith.api.config import resolve
    from tunesmith.core.errors import DataError
    from tunesmith.core.runs import RunFolder
    from tunesmith.data.prepare import Prepared, open_test, prepare
    from tunesmith.evals.panel import items

    project, prepared = None, None
    if (Path(name) / "manifest.json").is_file():
        run = RunFolder.open(name)
        project, _, _ = resolve(str(run.file("project.yaml")), root=Path(run.manifest().get("root") or "."))
        if run.file("data/card.json").is_file():
            prepared = Prepared(run.path, run.read_json("data/card.json"), True)
    if data is not None:
        shape = "text+label" if model.kind == "classify" else ("chat", "text")
        read = prepare(work / "rows", path=data, dev=0, test=0, kinds=shape)
        rows, told, kind = list(read.train), data, read.kind
    elif prepared is not None:
        dev = list(prepared.dev)
        rows = dev or (list(open_test(name, by="quantize")) if prepared.num_test else [])
        told, kind = f"the {'dev' if dev else 'test'} rows of {name}", prepared.kind
    else:
        rows, told, kind = list(items("text")), "bundled texts in English and Korean", "text"
        if model.kind == "classify":
            raise DataError(f"There is nothing to measure {name} on.", fix="Give rows with labels, or texts: data=FILE")
    if not rows:
        raise DataError(f"There is nothing to measure {name} on.", fix="Give a file of texts or rows: data=FILE")
    if most is not None and most < len(rows):
        rows, told = rows[:most], f"{most:,} of {len(rows):,} rows: {told}"
    return rows, project, {"kind": kind, "told": told}


def _change(before: Any, after: Any, rows: Sequence[Any], project: Any, given: Mapping[str, str]) -> dict[str, Any]:
    """What packing changed on these rows."""
    import numpy as np

    from tunesmith.quantize.measure import compare, compare_probabilities

    if before.kind == "classify":
        from tunesmith.core.errors import ModelError
        from tunesmith.evals.labels import predict, problem_of

        if problem_of(before) != "single":
            raise ModelError("Only classifiers that give one label of several can be measured.")
        length = project.length if project else None
        values = [np.stack([label.scores for label in predict(one, rows, length=length)]) for one in (before, after)]
        return compare_probabilities(*values)
    return compare(before.policy, after.policy, _units(before, rows, project, given["kind"])).as_dict()


def _units(model: Any, rows: Sequence[Any], project: Any, kind: str) -> list[Any]:
    """Rows as the run's method reads them, or as plain texts and chats: tokens of answers count, those of prompts do not."""
    from tunesmith.core.errors import DataError
    from tunesmith.core.shelf import shelf
    from tunesmith.data.fitting import fits
    from tunesmith.text.draw import Draw
    from tunesmith.text.encode import Text

    method = project.method if project else "pretrain" if kind == "text" else "sft"
    objective = shelf("objectives").make(method, "method")
    if hasattr(objective, "collect") or not fits(kind, getattr(objective, "shape", "chat")):
        objective = shelf("objectives").make("pretrain" if kind == "text" else "sft", "method")
        rows = rows if kind == "text" else [_answered(row) for row in rows if row.get("label") is not False]
    limit = (project.length if project else None) or model.context
    text = Text(
        model.tokenizer, length=min(limit, model.context), reasoning=project.reasoning if project else "train",
        too_long=(project.too_long if project else None) or ("split" if kind == "text" else "error"),
    )  # fmt: skip
    seed = project.seed if project else 0
    units = [unit for n, row in enumerate(rows) for unit in objective.units(row, text, Draw([seed, 0, n], rows))]
    if not units:
        raise DataError("No row to measure on is left after tokenising.", fix="Give others: data=FILE")
    return units


def _answered(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a chat that ends with its reference answer."""
    from tunesmith.core.errors import DataError
    from tunesmith.evals.run import as_question

    asked = as_question(row)
    if not isinstance(asked.get("answer"), str):
        raise DataError(
            f"{row.get('origin') or 'A row'} has a prompt and no answer to measure on.", fix="Give texts: data=FILE"
        )
    return {**row, "messages": [*asked["messages"], {"role": "assistant", "content": asked["answer"]}]}


def _prove(made: Any, opened: Any) -> None:
    """What was written says what was measured, to the last bit."""
    import torch

    from tunesmith.core.errors import ModelError

    size = min(64, made.context)
    ids = torch.randint(0, made.tokenizer.vocab_size, (1, size), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, two = (net(input_ids=ids, use_cache=False).logits for net in (made.net, opened.net))
    if not torch.equal(one, two):
        raise ModelError(
            f"the written model's logits differ by {float((one - two).abs().max()):.2g} from the measured one's; nothing was kept."
        )


def _scores(
    name: str, before: Any, after: Any, kind: str, work: Path, rows: int | None, wanted: bool, quiet: bool
) -> dict[str, Any]:
    """The run's metrics on its test rows, before and after, with the paired test of `compare`."""
    from tunesmith.api.eval import score_as
    from tunesmith.core.project import read_project
    from tunesmith.evals.compare import compare
    from tunesmith.evals.files import read_evaluation

    run = Path(name)
    if not wanted or not (run / "project.yaml").is_file():
        return {
            "why": "it was not asked for." if not wanted else f"{name} is no run, so no rows and metrics belong to it."
        }
    if not read_project(run / "project.yaml").get("metrics"):
        return {"why": f"{name} names no metrics."}
    if not (run / "data" / "test.jsonl").is_file() or not (run / "data" / "test.jsonl").stat().st_size:
        return {"why": f"{name} has no test rows."}
    known, evals = run / "evals" / "test.jsonl", work / "evals"
    if known.is_file() and not (evals / "before.jsonl").exists():  # answers that are known need not be asked again
        evals.mkdir(parents=True, exist_ok=True)
        shutil.copy2(known, evals / "before.jsonl")
    for model, file in ((before, "before"), (after, "test")):
        score_as(name, model, evals=evals, name=file, rows=rows, quiet=quiet)
    found = compare(read_evaluation(evals / "before"), read_evaluation(evals / "test"), names=("the original", kind))
    return {"split": "test", "n": found[0].n, "comparisons": [one.as_dict() for one in found]}
