"""tunesmith eval: score a run, or a model that is not tuned yet, on held-out rows."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.core.result import Result

MOST_LABELS = 1000  # different answers among which one is chosen by likelihood
JUDGED = ("preference", "scored", "rated", "chat", "prompt")  # rows that a reward model can score


def eval(
    config: str | None = None, *, likelihood: bool = False, fresh: bool = False, quiet: bool = False, **keys: Any
) -> Result:
    """Let a model answer held-out rows and score the answers with the project's metrics.

    config      the folder of a run; or a project file (default: tunesmith.yaml), whose model is asked as it is, untuned
    likelihood  the likeliest of the training rows' different answers counts as the answer (for classes); nothing is written
    fresh       ask all rows again; otherwise answers of the same model to the same prompts and settings are kept
    quiet       no progress on stderr

    Writes evals/NAME.jsonl, a line a row, and evals/NAME.json, each score with n and a 95 % interval. Stopped and started again it goes
    on where it was. For a run the keys may set eval, generate, metrics, use, lang and device. Of raw text, bits per byte are measured.

    Example: tunesmith eval runs/train-1 eval.rows=500
    """
    from tunesmith.core.files import free_path

    folder, project, filled, root = _open(config, keys)
    asked: dict[str, Any] = {"likelihood": likelihood, "fresh": fresh, "quiet": quiet}
    if folder is not None:
        return _evaluate(folder, project, root, **asked)
    from tunesmith.api.build import new_run

    path = Path(project.out or free_path("runs", "eval"))
    with new_run(path, project=filled, verb="eval", root=str(root.resolve())) as folder:
        return _evaluate(folder, project, root, **asked)


def score_as(run: str, model: Any, *, evals: Path, name: str, rows: int | None = None, quiet: bool = False) -> Result:
    """Score `model` on the test rows of a run by that run's metrics, as if it were the run's own; files go to evals/name.*."""
    keys: dict[str, Any] = {
        "eval.name": name, "eval.split": "test", "eval.panel": False, "eval.base": False, "eval.samples": 1, "eval.positions": 0,
    }  # fmt: skip
    folder, project, _, root = _open(run, keys | ({"eval.rows": rows} if rows else {}))
    return _evaluate(folder, project, root, likelihood=False, fresh=False, quiet=quiet, model=model, evals=evals)


def _open(config: str | None, keys: dict[str, Any]) -> tuple[Any, Any, dict[str, Any], Path]:
    """(run folder or None, project, filled, root): of an existing run its own project under the keys, else the project's."""
    from tunesmith.api.config import resolve
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.registry import named
    from tunesmith.core.runs import RunFolder

    config = None if config is None else str(named(config))
    if config is None or not (Path(config) / "manifest.json").is_file():
        return None, *resolve(config, **keys)
    folder = RunFolder.open(config)
    allowed = ("eval", "generate", "metrics", "use", "lang", "device")
    project, filled, root = resolve(
        str(folder.file("project.yaml")),
        root=Path.cwd() if "use" in keys else Path(folder.manifest().get("root") or "."),
        **keys,
    )
    _, own, _ = resolve(str(folder.file("project.yaml")), root=root, **({"use": keys["use"]} if "use" in keys else {}))
    changed = [name for name in filled if name not in allowed and filled[name] != own[name]]
    if changed:
        raise ProjectError(
            f"{', '.join(changed)} cannot be changed for a run that is there: it was made with other values.",
            wanted=f"Keys of {', '.join(allowed)}.",
            fix="To score another model on these rows, evaluate a project file with model=... and out=... .",
        )
    return folder, project, filled, root


def _evaluate(
    folder: Any,
    project: Any,
    root: Path,
    *,
    likelihood: bool,
    fresh: bool,
    quiet: bool,
    model: Any = None,
    evals: Path | None = None,
) -> Result:
    from tunesmith.adapters.store import merged, open_run
    from tunesmith.api.build import resolve_model
    from tunesmith.api.device import take
    from tunesmith.core.files import write_json
    from tunesmith.evals.compare import compare
    from tunesmith.evals.files import read_evaluation
    from tunesmith.evals.panel import compare_panels, run_panel
    from tunesmith.evals.repeats import spread
    from tunesmith.model.load import load
    from tunesmith.text.encode import Text

    device = take(project.device)
    base = resolve_model(project.model, root)
    tuned = folder.manifest().get("verb") != "eval"
    fitted = _fitted(folder)
    model = load(fitted.facts["base"], kind="embed", device=device, seed=project.seed) if fitted else model
    model = model or (merged(open_run(str(folder.path), device=device)) if tuned else open_run(base, device=device))
    judges, causal = model.kind == "classify" and len(getattr(model, "labels", ())) == 1, model.kind == "causal"
    prepared = _prepared(folder, project, root, kinds=JUDGED if judges else ())
    kind = _kind(prepared, project.eval.source)
    judges = judges and kind in ("chat", "rated", "prompt")  # it scores the answers that are there
    metrics = _metrics(project, kind, root, device)
    labels = _labels(prepared, Text(model.tokenizer, reasoning=project.reasoning)) if likelihood else {}
    pairs = kind in ("preference", "scored") and (model.kind == "classify" or not project.metrics)
    _refuse_unread_metrics(project, kind, model.kind)
    _check_again(
        project, causal and kind != "text" and not (pairs or likelihood), causal and tuned, causal and kind == "text"
    )
    rows, reads, rated = _rows(folder, prepared, project, kind, judged=judges)
    own = f"-{project.eval.source.partition('.')[0]}" if project.eval.source else ""
    name = project.eval.name or project.eval.split + own + ("-pairs" if pairs else "-likelihood" if likelihood else "")
    evals, shown = evals or folder.path / "evals", None if quiet else _Shown()
    facts = {
        "split": project.eval.split, "test_reads": reads, "run": str(folder.path), "tuned": tuned,
        "use": list(project.use), "root": str(root.resolve()), **rated,
    }  # fmt: skip
    started = time.perf_counter()

    def score(asked: Any, evals: Path, name: str, seed: int) -> dict[str, Any]:
        kept: dict[str, Any] = {"folder": evals, "name": name, "facts": facts}
        if judges:
            from tunesmith.evals.reward import RewardModel, evaluate_answers

            return evaluate_answers(RewardModel.of(asked), rows, **kept)
        if asked.kind in ("classify", "seq2seq", "embed", "masked") and not pairs:
            return _of_kind(asked, fitted, kind, rows, metrics, project, evals, name, shown, facts)
        if kind == "text":
            return _perplexity(asked, rows, evals, name, facts)
        if pairs:
            return _pairs(asked, rows, evals, name, facts)
        return _answered(asked, rows, metrics, project, labels=labels, fresh=fresh, seed=seed, shown=shown, **kept)

    seed = project.generate.seed or 0
    summary = score(model, evals, name, seed)
    if project.eval.samples > 1:
        others = [(f"{name}-{number}", seed + number - 1) for number in range(2, project.eval.samples + 1)]
        for other, another in others:
            score(model, evals / "samples", other, another)
        places = [evals / name, *(evals / "samples" / other for other, _ in others)]
        summary["samples"] = spread([read_evaluation(place) for place in places])
    before = causal and tuned and (project.eval.base or project.eval.panel)
    untuned = _before(base, project.seed, device) if before else None
    if project.eval.base and untuned is not None:
        was = score(untuned, evals / "base", name, seed)
        pair = read_evaluation(evals / "base" / name), read_evaluation(evals / name)
        names = ("튜닝 전", "튜닝 후") if project.lang == "ko" else ("before tuning", "after tuning")
        found = [one.as_dict() for one in compare(*pair, names=names, lang=project.lang)]
        summary["base"] = {"model": base, "metrics": was["metrics"], "comparisons": found}
    if project.eval.positions and kind == "text" and causal:
        texts = [row["text"] for row in rows]
        summary["positions"] = positions(model, untuned if project.eval.base else None, texts, project)
    if not {"samples", "base", "positions"}.isdisjoint(summary):
        write_json(evals / f"{name}.json", summary)
    panel: list[dict[str, Any]] = []
    if project.eval.panel and causal:
        after = run_panel(model, evals)
        if untuned is not None:
            panel = compare_panels(run_panel(untuned, evals, "panel-before"), after, folder=evals, lang=project.lang)
    seconds = time.perf_counter() - started
    fields = {**summary, "run": str(folder.path), "file": str(evals / f"{name}.json"), "seconds": round(seconds, 2)}
    if panel:
        fields["panel"] = panel
    elif project.eval.panel and not causal:
        fields["panel_left_out"] = model.kind
    return Result(fields, text=_told(fields, panel, project.lang))


def _before(base: str, seed: int, device: str) -> Any:
    """The model a run started from, as it was: its base, or the run it went on from."""
    from tunesmith.adapters.store import merged, open_run
    from tunesmith.model.load import load

    if (Path(base) / "manifest.json").is_file():
        return merged(open_run(base, device=device))
    return load(base, device=device, seed=seed)


def _answered(
    model: Any,
    rows: list[Any],
    metrics: Any,
    project: Any,
    *,
    labels: dict[str, dict[str, Any]],
    fresh: bool,
    seed: int,
    **kept: Any,
) -> dict[str, Any]:
    """Scores of what a model that writes answers, or of the likeliest of the `labels`. What is too long goes as in training."""
    from tunesmith.evals.likelihood import evaluate_likelihood
    from tunesmith.evals.run import evaluate
    from tunesmith.text.encode import Text

    text, ask, too_long = (
        Text(model.tokenizer, reasoning=project.reasoning),
        project.generate,
        project.too_long or "error",
    )
    if labels:
        return evaluate_likelihood(model, text, rows, labels, metrics, too_long=too_long, **kept)
    return evaluate(
        model, text, rows, metrics, max_tokens=ask.max_tokens, temperature=ask.temperature, top_p=ask.top_p, stop=ask.stop,
        frequency_penalty=ask.frequency_penalty, presence_penalty=ask.presence_penalty, seed=seed, batch=ask.batch, fresh=fresh,
        spm=_suffix_first(project), too_long=too_long, **kept,
    )  # fmt: skip


def _check_again(project: Any, writes: bool, comparable: bool, writes_text: bool) -> None:
    """Refuse, before anything is scored, what can have no outcome: answers drawn again that are the same, a base without scores."""
    from tunesmith.core.errors import ProjectError, SettingError

    if project.eval.samples > 1 and not writes:
        raise ProjectError(
            f"eval.samples is {project.eval.samples}, and nothing is drawn here: these scores do not vary.",
            fix="Leave eval.samples out; it is for answers that a model writes.",
        )
    if project.eval.samples > 1 and not project.generate.temperature:
        raise SettingError(
            f"eval.samples is {project.eval.samples} at temperature 0: every answer would be the same.",
            fix="Draw answers: generate.temperature=0.7",
        )
    if project.eval.positions and not writes_text:
        raise ProjectError(
            f"eval.positions is {project.eval.positions}, and these rows are no running text that a model of this kind reads on.",
            fix="Leave eval.positions out; it is for rows of shape text and a causal model.",
        )
    if project.eval.base and not comparable:
        raise ProjectError(
            "eval.base is true, and there is no score from before tuning: the run is none of tuning, or its base had no such head.",
            fix="Leave eval.base out; it is for tuned runs of models that write.",
        )


def _prepared(folder: Any, project: Any, root: Path, *, kinds: tuple[str, ...] = ()) -> Any:
    """The rows of the run: those it was made with, or, for an untuned model, prepared now as training would. `kinds`: other than what the method learns from."""
    from tunesmith.api.build import data_settings
    from tunesmith.api.rewards import step_helpers
    from tunesmith.core.errors import DataError
    from tunesmith.core.shelf import shelf
    from tunesmith.data.prepare import Prepared, prepare

    if folder.file("data/card.json").is_file():
        return Prepared(folder.path, folder.read_json("data/card.json"), True)
    data = project.data
    if data.path is None and data.name is None:
        raise DataError(
            "No data is given to score on.",
            fix="Say where it is: data: questions.jsonl in the project file, or data=questions.jsonl on the command line.",
        )
    wanted: Any = kinds or getattr(shelf("objectives").make(project.method, "method"), "shape", "chat")
    helpers = step_helpers(root, project.device)
    return prepare(folder.path, seed=data.seed, root=root, kinds=wanted, helpers=helpers, **data_settings(data))


def _metrics(project: Any, kind: str, root: Path, device: str) -> dict[str, Any]:
    """The project's metrics by name, the second of a kind as `format-2`. When none is named: exact_match, or what fits labels."""
    from tunesmith.api.rewards import given, score_later
    from tunesmith.core.shelf import shelf

    if kind == "text":
        return {}
    found: dict[str, Any] = {}
    for place, spec in enumerate(project.metrics or _usual(project, kind)):
        name, _ = shelf("metrics").spec(spec, f"metrics[{place}]")
        metric = given(
            shelf("metrics").make(spec, f"metrics[{place}]"),
            name,
            lambda model: score_later(model, root, device),
            root,
            device,
        )
        number = sum(other.partition("-")[0] == name for other in found)
        found[f"{name}-{number + 1}" if number else name] = metric
    return found


def _refuse_unread_metrics(project: Any, kind: str, network: str) -> None:
    """Metrics that are named where no answer is scored. A file that eval.source picked out has none of its own."""
    from tunesmith.core.errors import SettingError
    from tunesmith.core.shelf import shelf

    if kind == "text":
        told = "raw text is scored by its bits per byte"
    elif kind in ("preference", "scored", "rated", "chat", "prompt") and network == "classify":
        told = "a reward model is looked at for how it scores the answers that are there"
    elif kind in ("pair", "group") and network == "embed":
        told = "vectors are scored by what a search with them finds"
    else:
        return
    if project.metrics and project.eval.source is None:
        names = ", ".join(shelf("metrics").spec(spec, "metrics")[0] for spec in project.metrics)
        raise SettingError(
            f"metrics names {names}, but {told}.",
            wanted="Rows whose answers are compared with a reference.",
            fix="Leave metrics out: metrics=[]",
        )


def _pairs(model: Any, rows: list[Any], evals: Path, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """How often the better of two answers gets the higher reward, or the higher likelihood of a model that writes."""
    from tunesmith.evals.preference import answer_logprobs, evaluate_pairs
    from tunesmith.evals.reward import RewardModel

    scores = RewardModel.of(model).score_answers if model.kind == "classify" else answer_logprobs(model)
    return evaluate_pairs(scores, rows, folder=evals, name=name, model=model, facts=facts)


def _fitted(folder: Any) -> Any:
    """The classifier of a run of `method: features`, None of any other."""
    from tunesmith.objectives._fitted import NAME, Fitted

    place = folder.path / NAME
    return Fitted.read(place) if (place / f"{NAME}.json").is_file() else None


def _of_kind(
    model: Any,
    fitted: Any,
    found: str,
    rows: list[Any],
    metrics: Any,
    project: Any,
    evals: Path,
    name: str,
    shown: Any,
    facts: Any,
) -> dict[str, Any]:
    """Scores of networks that do not answer token by token: labels, written texts, search; hidden words of an encoder."""
    from tunesmith.core.errors import ProjectError
    from tunesmith.core.shelf import shelf

    kept: dict[str, Any] = {"folder": evals, "name": name, "facts": facts}
    if (fitted or model.kind == "classify") and found == "text+label":
        from tunesmith.evals.labels import evaluate_labels

        return evaluate_labels(model, rows, metrics, length=project.length, fitted=fitted, shown=shown, **kept)
    if model.kind == "seq2seq" and found in ("pair", "chat"):
        from tunesmith.evals.written import evaluate_written

        read, ask = shelf("objectives").make(project.method, "method").texts, project.generate
        return evaluate_written(model, rows, metrics, read=read, max_tokens=ask.max_tokens, batch=ask.batch, **kept)
    if model.kind == "embed" and found in ("pair", "group"):
        from tunesmith.evals.vectors import evaluate_search

        return evaluate_search(model, rows, length=project.length, shown=shown, **kept)
    raise ProjectError(
        f"{model.name} is a network of kind {model.kind}, and the rows are of kind {found}: there is no score for that.",
        wanted="text+label for classify, pair or chat for seq2seq, pair or group for embed.",
        fix="What a masked model learned is its dev loss; its worth shows in what is made of it (method=classify, method=embed).",
    )


def _usual(project: Any, kind: str) -> tuple[str, ...]:
    """The metrics of rows when none is named."""
    from tunesmith.core.shelf import shelf

    if kind != "text+label":
        return ("exact_match",)
    problem = getattr(shelf("objectives").make(project.method, "method"), "problem", "single")
    fitting = {"multi": ("label_f1",), "regression": ("number_error",)}
    return fitting.get(problem, ("accuracy", "macro_f1"))


def _labels(prepared: Any, text: Any) -> dict[str, dict[str, Any]]:
    """The different answers of the training rows: what there is to choose from, without a look at the rows that are scored."""
    from tunesmith.core.errors import DataError
    from tunesmith.evals.run import as_question
    from tunesmith.text.messages import OWN_FIELDS, calls_tools

    if prepared.kind == "text":
        raise DataError("Raw text has no answers to choose from.", fix="Leave --likelihood out.")
    found: dict[str, dict[str, Any]] = {}
    for row in prepared.train:
        answer = as_question(row, text).get("answer")
        if answer is not None:
            calls = "messages" in row and calls_tools(row["messages"][-1])
            message = (
                {key: value for key, value in row["messages"][-1].items() if key not in OWN_FIELDS} if calls else {}
            )
            found[str(answer)] = message or {"role": "assistant", "content": str(answer)}
    if not 2 <= len(found) <= MOST_LABELS:
        raise DataError(
            f"The training rows have {len(found):,} different answers.",
            wanted=f"From 2 to {MOST_LABELS:,}, to choose one of them by likelihood.",
            fix="For open answers leave --likelihood out.",
        )
    return dict(sorted(found.items()))


def _kind(prepared: Any, source: str | None) -> str:
    """What the rows to score are. Of files of several kinds one has to be named."""
    from tunesmith.core.errors import ProjectError
    from tunesmith.data.kinds import kind_of

    if source is None and prepared.kind != "mixed":
        return str(prepared.kind)
    files = dict.fromkeys(_file(row) for row in prepared.train)
    if source is None:
        raise ProjectError(
            "The rows are of several kinds, which no metric scores together.",
            fix="Score one file at a time: " + "  ".join(f"eval.source={file.partition('.')[0]}" for file in files),
        )
    found = next((kind_of(row) for row in prepared.train if _is_of(row, source)), "")
    if not found:
        raise ProjectError(f'eval.source is "{source}".', wanted=f"One of {', '.join(files)}.")
    return found


def _suffix_first(project: Any) -> bool:
    """Whether the run learned most of its blanks suffix first (infill, or a task of it)."""
    from tunesmith.core.shelf import shelf

    name, settings = shelf("objectives").spec(project.method, "method")
    if name == "multitask":
        specs = [shelf("objectives").spec(spec, "method") for spec in settings.get("tasks", {}).values()]
        settings = next((own for task, own in specs if task == "infill"), {})
    return float(settings.get("spm", 0.0) if name in ("infill", "multitask") else 0.0) > 0.5


def _file(row: Any) -> str:
    return str(row.get("origin", "")).rpartition(":")[0].replace("\\", "/").rpartition("/")[2]


def _is_of(row: Any, source: str | None) -> bool:
    return source is None or _file(row) == source or _file(row).startswith(f"{source}.")


def _rows(
    folder: Any, prepared: Any, project: Any, kind: str, *, judged: bool
) -> tuple[list[Any], int, dict[str, Any]]:
    """The rows to score, how often the test rows have been read by now (0 for other splits), and what was left out of them.

    An answer that was rated bad is nothing to compare with: such rows are left out, unless they are `judged` themselves.
    """
    from tunesmith.core.errors import ProjectError
    from tunesmith.data.prepare import open_test
    from tunesmith.ladder.rungs import stratified_sample

    split, number, reads = project.eval.split, project.eval.rows, 0
    if split == "test":
        rows = list(open_test(folder.path, by="eval"))
        reads = len(folder.manifest()["test_reads"])
    else:
        rows = list(getattr(prepared, split))
    rows = [row for row in rows if _is_of(row, project.eval.source)]
    if not rows:
        raise ProjectError(
            f"{folder.path} has no {split} rows" + (f" of {project.eval.source}." if project.eval.source else "."),
            fix=f"Hold some out (data.{split}=0.1), or score another split: eval.split=test",
        )
    left_out: dict[str, Any] = {}
    if kind == "rated" and not judged:
        good = [row for row in rows if row["label"]]
        if not good:
            raise ProjectError(
                f"No {split} row of {folder.path} is rated good, and a bad answer is nothing to compare with.",
                fix="Score another split (eval.split=dev), or judge the answers themselves: eval with a reward model as model.",
            )
        rows, left_out = good, {"rated": {"good": len(good), "bad_left_out": len(rows) - len(good)}}
    if number is None or number >= len(rows):
        return rows, reads, left_out
    if kind in ("chat", "infill"):
        return list(stratified_sample(rows, number, seed=project.seed)), reads, left_out
    import random

    return [rows[i] for i in sorted(random.Random(project.seed).sample(range(len(rows)), number))], reads, left_out


def _perplexity(model: Any, rows: list[Any], evals: Path, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Bits per byte of raw text, written like any evaluation: a line a text."""
    from tunesmith.core.errors import DataError
    from tunesmith.evals.files import write_evaluation
    from tunesmith.evals.perplexity import perplexity
    from tunesmith.evals.run import fingerprint

    usable = [
        row for row in rows if len(model.tokenizer.encode(row["text"])) > 1
    ]  # one token alone is predicted from nothing
    if not usable:
        raise DataError("The rows are empty texts.", wanted="Texts of two tokens or more.")
    found = perplexity(model, (row["text"] for row in usable))
    lines = [
        {
            "id": row.get("id"), "origin": row.get("origin"), "prompt": "", "answer": row["text"], "prediction": "",
            "metrics": {"bits_per_byte": float(nats / size / 0.6931471805599453)}, "nats": float(nats), "bytes": int(size),
        }
        for row, (nats, size) in zip(usable, found.texts)
    ]  # fmt: skip
    summary = found.summary().as_dict()
    return write_evaluation(
        evals,
        name,
        lines,
        {
            "metrics": {"bits_per_byte": {**summary, "spec": None}},
            "model": {"name": str(model.name), "hash": fingerprint(model.net)},
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **facts,
        },
    )


def positions(model: Any, before: Any, texts: list[str], project: Any) -> dict[str, Any]:
    """Loss by position of a model, and, where there is one, of the model as it was, with the difference and its interval."""
    from tunesmith.evals.positions import by_position, compare

    length = min(project.length or model.context, model.context)  # a soft prompt takes places of the context

    def look(one: Any) -> Any:
        return by_position(one, texts, length=length, stretches=project.eval.positions)

    found = look(model)
    if before is None or length > before.context:  # it does not read so far
        return {**found.as_dict(), "table": compare([("loss", found)])}
    was = look(before)
    differences = [dict(zip(("value", "low", "high"), each)) for each in found.minus(was)]
    return {
        **found.as_dict(),
        "base": was.as_dict(),
        "difference": differences,
        "table": compare([("before", was), ("after", found)]),
    }


class _Shown:
    """Progress on stderr: a line every few seconds, or one that renews itself on a terminal."""

    def __init__(self) -> None:
        self.started = self.last = time.monotonic()

    def __call__(self, done: int, whole: int) -> None:
        now, live = time.monotonic(), sys.stderr.isatty()
        if done < whole and now - self.last < (0.2 if live else 10):
            return
        self.last = now
        left = (now - self.started) / done * (whole - done)
        text = f"{done:,} of {whole:,} rows answered, {left:.0f} s left"
        print(
            f"\r{text}\033[K" if live else text,
            end="\n" if not live or done == whole else "",
            file=sys.stderr,
            flush=True,
        )


def _parts(extra: Mapping[str, Any], korean: bool) -> list[str]:
    """What a metric says beside its figure: shares of a part of the rows, and why answers failed."""
    lines = []
    for name, found in extra.items():
        if isinstance(found, Mapping) and set(found) == {"share", "n"} and found["share"] is not None:
            lines.append(f"  {name.replace('_', ' ')}: {found['share']:.1%} of {found['n']:,}")
    if reasons := extra.get("reasons"):
        told = ", ".join(f"{reason} {number:,}" for reason, number in reasons.items())
        lines.append(("  틀린 까닭: " if korean else "  not right: ") + told)
    return lines


def _told(fields: dict[str, Any], panel: list[dict[str, Any]], lang: str) -> str:
    from tunesmith.api.scored import told
    from tunesmith.stats.summary import Summary
    from tunesmith.stats.words import score

    korean = lang == "ko"
    lines = []
    width = max(len(name) for name in fields["metrics"])
    for name, found in fields["metrics"].items():
        summary = Summary.of_dict({key: found[key] for key in ("value", "n", "low", "high", "better", "extra")})
        share = summary.better == "higher" and 0 <= summary.low and summary.high <= 1 and "unit" not in summary.extra
        lines.append(f"{name:<{width}}  {score(summary, percent=share, lang='ko' if korean else 'en')}")
        lines += _parts(summary.extra, korean)
        if "perplexity" in summary.extra:
            lines.append(
                f"{'perplexity':<{width}}  {summary.extra['perplexity']:.2f} ({summary.extra['tokens']:,} tokens)"
            )
    cost = fields.get("cost")
    if cost and cost.get("seconds_per_answer") is not None:
        tokens, seconds = cost["tokens_per_answer"], cost["seconds_per_answer"]
        lines.append(
            f"답변 하나에 평균 {tokens:.1f} 토큰, {seconds:.3f}초"
            if korean
            else f"An answer takes {tokens:.1f} tokens and {seconds:.3f} s."
        )
    if cut := fields.get("finish", {}).get("length"):
        lines.append(
            f"{cut}개 답변이 generate.max_tokens에서 잘렸습니다."
            if korean
            else f"{cut} answers were cut off at generate.max_tokens."
        )
    if by := fields.get("positions"):
        lines += ["위치별 손실(토큰당 냇):" if korean else "Loss by position, nats a token:", by["table"]]
    lines += [*told(fields, korean), *(f"{change['task']}: {change['verdict']}" for change in panel)]
    if fields["split"] == "test":
        reads = fields["test_reads"]
        lines.append(
            f"시험 데이터를 {reads}번 읽었습니다. 선택은 dev로 하세요."
            if korean
            else f"The test rows have been read {reads} time{'s' if reads > 1 else ''}. Choose on dev; report on test."
        )
    lines.append(("행별 기록: " if korean else "Row by row: ") + fields["file"].removesuffix("n") + "nl")
    return "\n".join(lines)
