"""Ask a model every row, score its answers, write them down as they come.

    evaluate(model, text, rows, {"accuracy": Accuracy(field="intent")}, folder=run.file("evals"), name="test", max_tokens=24)

Killed and started again, it asks only what is not yet answered: an answer counts as given when model, prompt and settings are
the same. Scores are always made anew, so a metric may be changed without asking again.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith import __version__
from tunesmith.core.errors import DataError, SpaceError
from tunesmith.core.files import Journal, hash_json
from tunesmith.evals.files import read_evaluation, score_line, summarise, write_evaluation
from tunesmith.text.infill import blank_of, prompt_ids

Ask = Callable[[Mapping[str, Any]], list[dict[str, Any]]]
Shown = Callable[[int, int], None]


def evaluate(
    model: Any,
    text: Any,
    rows: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    *,
    folder: str | Path,
    name: str,
    max_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    stop: Sequence[str] = (),
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    seed: int = 0,
    batch: int = 32,
    ask: Ask | None = None,
    cluster: str = "",
    fresh: bool = False,
    spm: bool = False,
    shown: Shown | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Generate an answer to every row, score it, write folder/name.jsonl and folder/name.json; returns the latter.

    rows     chats that end with the reference answer, or {"messages" ending with the user, "answer"}; or blanks to be filled,
             {"prefix", "middle", "suffix"}: the middle is the reference
    metrics  {name: metric}; each is asked to check every row before the first answer is generated
    ask      row -> messages to show the model (examples in the prompt, another wording); None = the row's own
    cluster  name of a column whose equal values mark rows that belong together (passage, user): intervals become cluster-robust
    fresh    ask all rows again, also those answered before by this model with these settings
    spm      ask for blanks suffix first, for a model that learned them so
    shown    called with (answered, all) as answers come;  facts: put into the summary as they are

    Raises DataError for rows that cannot be used, SpaceError naming the rows whose prompt and answer exceed the context.
    """
    folder, rows = Path(folder), [as_question(row) for row in rows]
    if not rows:
        raise DataError("There are no rows to evaluate.", wanted="A split with at least one row.")
    check_rows(rows, metrics)
    clusters = _clusters(rows, cluster)
    asked = [ask(row) if ask else row["messages"] for row in rows]
    blanks = ask is None and all("middle" in row for row in rows)
    if blanks:
        prompts = [prompt_ids(text, row.get("prefix", ""), row.get("suffix", ""), spm=spm) for row in rows]
    else:
        prompts = [text.prompt(messages, row.get("tools")) for messages, row in zip(asked, rows)]
    _check_lengths(prompts, rows, max_tokens, getattr(model, "context", None))
    settings: dict[str, Any] = {
        "max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "stop": list(stop),
        "frequency_penalty": frequency_penalty, "presence_penalty": presence_penalty,
    }  # fmt: skip
    seeds = [answer_seed(seed, row, place) for place, row in enumerate(rows)]
    model_hash = fingerprint(model.net)
    common = hash_json([__version__, model_hash, settings])
    keys = [hash_json([common, [int(i) for i in ids], own if temperature else 0]) for ids, own in zip(prompts, seeds)]

    path = folder / f"{name}.jsonl"
    given = {} if fresh else _given(path, set(keys))
    cost_before = _cost_before(folder, name) if given else None
    (folder / f"{name}.json").unlink(missing_ok=True)
    if not given:
        path.unlink(missing_ok=True)
    open_rows = [place for place, key in enumerate(keys) if key not in given]
    journal, done, started = Journal(path), len(rows) - len(open_rows), time.perf_counter()

    def line(place: int, answer: Mapping[str, Any]) -> dict[str, Any]:
        row = rows[place]
        return {
            "id": row.get("id"),
            "origin": row.get("origin"),
            "prompt": shown_prompt(asked[place]),
            "answer": row.get("answer"),
            **answer,
            **score_line(metrics, answer["prediction"], row),
            **({"cluster": clusters[place]} if clusters else {}),
            "key": keys[place],
        }

    def keep(number: int, answer: Any) -> None:
        nonlocal done
        place = open_rows[number]
        given[keys[place]] = answered = {
            "prediction": answer.text,
            "tokens": len(answer.ids),
            "prompt_tokens": answer.num_prompt,
            "seconds": round(answer.seconds, 4),
            "finish": answer.finish,
            "logprob": sum(answer.logprobs) / max(1, len(answer.logprobs)),
        }
        journal.append(line(place, answered))
        done += 1
        if shown is not None:
            shown(done, len(rows))

    if open_rows:
        from tunesmith.model.generate import generate

        try:
            generate(
                model,
                [prompts[place] for place in open_rows],
                seeds=[seeds[place] for place in open_rows],
                eos_ids=blank_of(text.tokenizer).stops if blanks else text.stops,
                batch=batch,
                on_answer=keep,
                **settings,
            )
        finally:
            journal.close()
    seconds = time.perf_counter() - started
    lines = [line(place, given[key]) for place, key in enumerate(keys)]
    return write_evaluation(
        folder,
        name,
        lines,
        {
            "metrics": summarise(metrics, lines, clusters),
            "generate": {**settings, "seed": seed},
            "model": {"name": str(getattr(model, "name", "")), "hash": model_hash},
            "cost": _cost(lines, len(open_rows), seconds, batch, cost_before),
            "finish": dict(Counter(each["finish"] for each in lines)),
            "cluster": cluster,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **(facts or {}),
        },
    )


def check_rows(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> None:
    """Let every metric check every row; those it cannot score are one DataError with the count and the first five."""
    errors: list[DataError] = []
    for metric in metrics.values():
        if hasattr(metric, "check"):
            for row in rows:
                try:
                    metric.check(row)
                except DataError as error:
                    errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise DataError(
            f"{len(errors)} of {len(rows)} rows cannot be scored:\n"
            + "\n".join(f"  {error.found}" for error in errors[:5]),
            wanted=errors[0].wanted,
            fix=errors[0].fix,
        )


def as_question(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it is asked and scored: "messages" end with the user's, "answer" is the reference.

    {"messages": [user, assistant]} -> {"messages": [user], "answer": what the assistant says}
    {"messages", "chosen", ...}     -> {"messages", "answer": the chosen one, ...}; of scored answers the best one
    {"prefix", "middle", "suffix"}  -> {"messages": [the text with ____ for the blank], "answer": the middle, ...}
    """
    messages = list(row.get("messages") or [])
    if not messages and "middle" in row:
        shown = f"{row.get('prefix', '')}____{row.get('suffix', '')}"
        return {**row, "messages": [{"role": "user", "content": shown}], "answer": row["middle"]}
    where = row.get("origin") or row.get("id") or "A row"
    if not messages:
        raise DataError(
            f"{where} is no question with an answer.",
            wanted="A chat that ends with the answer to compare with.",
            fix="For raw text, perplexity is the score: metrics that read answers do not fit.",
        )
    if messages[-1].get("role") != "assistant":
        return {**row, "messages": messages, **_preferred(row)}
    if len(messages) < 2:
        raise DataError(f"{where} has an answer and no question.", wanted="A user's message before the assistant's.")
    answer = row.get("answer")
    return {
        **row,
        "messages": messages[:-1],
        "answer": str(messages[-1].get("content") or "") if answer is None else answer,
    }


def _preferred(row: Mapping[str, Any]) -> dict[str, Any]:
    """The reference that preferences hold: {"answer": ...}, or {} when the row is none."""
    if "chosen" in row:
        return {"answer": "\n".join(str(m.get("content") or "") for m in row["chosen"] if m.get("role") == "assistant")}
    scored = row.get("answers")
    if isinstance(scored, list) and scored and isinstance(scored[0], Mapping):
        best = max(scored, key=lambda answer: float(answer["score"]))
        return {"answer": str(best["content"]), "answers": [str(best["content"])]}
    return {}


def shown_prompt(messages: Sequence[Mapping[str, Any]]) -> str:
    """The prompt for people: the user's words alone, or all turns by role."""
    if len(messages) == 1:
        return str(messages[0].get("content") or "")
    return "\n".join(f"{message['role']}: {message.get('content') or ''}" for message in messages)


def answer_seed(seed: int, row: Mapping[str, Any], place: int) -> int:
    """A row's own seed: by its id, so that neither its place nor other rows change what is drawn for it."""
    mark = f"{seed}:{row.get('id', place)}"
    return int.from_bytes(hashlib.sha256(mark.encode()).digest()[:6], "big")


def fingerprint(net: Any) -> str:
    """A hash that changes when any weight matrix does: of names, shapes, spread-out samples and sums, not of every byte."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict(keep_vars=True).items()):
        flat = tensor.detach().reshape(-1)
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
        if flat.numel():
            sample = flat[:: max(1, flat.numel() // 512)].double().cpu()
            digest.update(sample.numpy().tobytes())
            digest.update(f"{float(flat.sum(dtype=torch.float64)):.9e}".encode())
    return digest.hexdigest()


def _clusters(rows: Sequence[Mapping[str, Any]], column: str) -> list[Any] | None:
    if not column:
        return None
    found = []
    for row in rows:
        columns = row.get("columns") or {}
        if column not in columns:
            raise DataError(
                f'{row.get("origin") or row.get("id") or "A row"} has no column "{column}" to group rows by.',
                wanted=f"Found: {', '.join(columns) or 'no columns'}.",
            )
        found.append(str(columns[column]))
    return found


def _check_lengths(
    prompts: Sequence[Sequence[int]], rows: Sequence[Mapping[str, Any]], max_tokens: int, context: int | None
) -> None:
    if context is None:
        return
    long = [(len(ids), row) for ids, row in zip(prompts, rows) if len(ids) + max_tokens > context]
    if long:
        worst = sorted(long, key=lambda item: -item[0])[:5]
        named = ", ".join(f"{row.get('origin') or row.get('id') or 'a row'} ({size})" for size, row in worst)
        fits = context - max(size for size, _ in long)
        raise SpaceError(
            f"{len(long)} of {len(rows)} prompts leave no room for {max_tokens} tokens of answer: {named}.",
            wanted=f"Prompt + generate.max_tokens at most {context}, the model's context.",
            fix=f"Set generate.max_tokens to {fits} or less, or shorten the prompts."
            if fits > 0
            else "Shorten the prompts.",
        )


def _given(path: Path, keys: set[str]) -> dict[str, dict[str, Any]]:
    names = ("prediction", "tokens", "prompt_tokens", "seconds", "finish", "logprob")
    return {line["key"]: {name: line[name] for name in names} for line in Journal(path) if line.get("key") in keys}


def _cost_before(folder: Path, name: str) -> Mapping[str, Any] | None:
    return read_evaluation(folder / name).summary.get("cost") if (folder / f"{name}.json").is_file() else None


def _cost(
    lines: Sequence[Mapping[str, Any]], num_new: int, seconds: float, batch: int, before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Tokens and seconds per answer. The time of answers asked in an earlier session is not known as a whole: it is estimated from
    the rate of this one, or taken from the summary when nothing was asked now."""
    tokens = sum(line["tokens"] for line in lines)
    if num_new == 0 and before is not None:
        return {**before, "asked_now": 0}
    return {
        "tokens_per_answer": tokens / len(lines),
        "prompt_tokens_per_answer": sum(line["prompt_tokens"] for line in lines) / len(lines),
        "seconds_per_answer": seconds / num_new if num_new else None,
        "latency": sum(line["seconds"] for line in lines) / len(lines),
        "batch": batch,
        "asked_now": num_new,
    }
