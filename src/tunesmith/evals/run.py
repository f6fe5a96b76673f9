"""Ask a model every row, score its answers, write them down as they come.

    evaluate(model, text, rows, {"accuracy": Accuracy(field="intent")}, folder=run.file("evals"), name="test", max_tokens=24)

Killed and started again, it asks only what is not yet answered: an answer counts as given when model, prompt and settings are
the same. Scores are always made anew, so a metric may be changed without asking again.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import __version__
from tunesmith.core.errors import DataError, SpaceError
from tunesmith.core.files import Journal, hash_json
from tunesmith.evals.files import read_evaluation, score_line, summarise, write_evaluation
from tunesmith.text.infill import blank_of, prompt_ids
from tunesmith.text.messages import calls_tools, words_of

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
    too_long: str = "error",
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
    too_long of prompts that leave no room for max_tokens: error; drop leaves the rows out; trim_prompt shortens them as in training.
             How many is in the summary
    shown    called with (answered, all) as answers come;  facts: put into the summary as they are

    Answers are scored without the thinking before them, which a line keeps as "thinking"; thinking that never ended is no answer.

    Raises DataError for rows that cannot be used, SpaceError naming the rows whose prompt and answer exceed the context.
    """
    folder, rows = Path(folder), [as_question(row, text) for row in rows]
    if not rows:
        raise DataError("There are no rows to evaluate.", wanted="A split with at least one row.")
    check_rows(rows, metrics)
    asked = [ask(row) if ask else row["messages"] for row in rows]
    blanks = ask is None and all("middle" in row for row in rows)
    if blanks:
        prompts = [prompt_ids(text, row.get("prefix", ""), row.get("suffix", ""), spm=spm) for row in rows]
    else:
        prompts = [text.prompt(messages, row.get("tools")) for messages, row in zip(asked, rows)]
    fitting = fit_prompts(
        prompts, rows, max_tokens, getattr(model, "context", None), shorten=text.shortened,
        too_long="error" if blanks and too_long == "trim_prompt" else too_long,  # a blank has text on both of its sides
    )  # fmt: skip
    prompts = fitting.prompts
    rows, asked = [rows[place] for place in fitting.kept], [asked[place] for place in fitting.kept]
    clusters = _clusters(rows, cluster)
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
        thinking, said = ("", answer.text) if blanks else read_answer(text, answer, prompts[place])
        given[keys[place]] = answered = {
            "prediction": said,
            "thinking": thinking,
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
            **_thinking(lines),
            **fitting.facts,
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


def as_question(row: Mapping[str, Any], text: Any = None) -> dict[str, Any]:
    """A row as it is asked and scored: "messages" end with the user's, "answer" is the reference.

    {"messages": [user, assistant]} -> {"messages": [user], "answer": what the assistant says, its thinking taken out}
    {"messages", "label": False}    -> {"messages"}: what was rated bad is no reference
    {"messages", "chosen", ...}     -> {"messages", "answer": the chosen one, ...}; of scored answers the best one
    {"prefix", "middle", "suffix"}  -> {"messages": [the text with ____ for the blank], "answer": the middle, ...}

    text  the model's Text: a tool call is then written as the model must write it, without it as plain JSON
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
        return {**row, "messages": messages, **_preferred(row, text)}
    if len(messages) < 2:
        raise DataError(f"{where} has an answer and no question.", wanted="A user's message before the assistant's.")
    if row.get("label") is False:
        return {**row, "messages": messages[:-1]}
    answer = row.get("answer")
    return {
        **row,
        "messages": messages[:-1],
        "answer": _reference(messages[:-1], messages[-1], row, text) if answer is None else answer,
    }


def _preferred(row: Mapping[str, Any], text: Any) -> dict[str, Any]:
    """The reference that preferences hold: {"answer": ...}, or {} when the row is none."""
    if "chosen" in row:
        turns = [*row["messages"], *row["chosen"]]
        said = [place for place in range(len(row["messages"]), len(turns)) if turns[place].get("role") == "assistant"]
        return {"answer": "\n".join(_reference(turns[:place], turns[place], row, text) for place in said)}
    scored = row.get("answers")
    if isinstance(scored, list) and scored and isinstance(scored[0], Mapping):
        best = max(scored, key=lambda answer: float(answer["score"]))
        return {"answer": str(best["content"]), "answers": [str(best["content"])]}
    return {}


def _reference(before: Sequence[Any], message: Mapping[str, Any], row: Mapping[str, Any], text: Any) -> str:
    """What an assistant's message asks for: its words, or its tool calls in the words of the model's template."""
    if text is not None and calls_tools(message):
        return str(text.answer([*before, message], row.get("tools")))
    return words_of(message)


def read_answer(text: Any, answer: Any, prompt: Sequence[int]) -> tuple[str, str]:
    """(thinking, answer) of what `generate` gave for a prompt."""
    ids = answer.ids[:-1] if answer.finish == "stop" else answer.ids
    cut = len(text.decode(ids)) - len(answer.text) if answer.finish == "stop_string" else 0
    thinking, said = text.said(ids, prompt, max(0, cut))
    return str(thinking), str(said)


def _thinking(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many answers came after thinking, and how many thought to the end of their tokens and gave none."""
    thought = [line for line in lines if line["thinking"]]
    unfinished = sum(not line["prediction"] and line["finish"] == "length" for line in thought)
    return {"thinking": {"answers": len(thought), "unfinished": unfinished}} if thought else {}


def shown_prompt(messages: Sequence[Mapping[str, Any]]) -> str:
    """The prompt for people: the user's words alone, or all turns by role."""
    if len(messages) == 1:
        return words_of(messages[0])
    return "\n".join(f"{message['role']}: {words_of(message)}" for message in messages)


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


@dataclass(frozen=True)
class Fitting:
    """Prompts that leave room for an answer, the places of their rows, and what was done to others (nothing: {})."""

    prompts: list[list[int]]
    kept: list[int]
    facts: dict[str, Any]


def fit_prompts(
    prompts: Sequence[Sequence[int]],
    rows: Sequence[Mapping[str, Any]],
    max_tokens: int,
    context: int | None,
    *,
    shorten: Callable[[Sequence[int], int], list[int]],
    too_long: str = "error",
) -> Fitting:
    """Prompts that leave no room for an answer under the policy of training: left out (drop), or shortened
    (trim_prompt) as training shortens them: `Text.shortened`.

    Raises SpaceError naming the rows under any other policy, and when nothing is left to ask.
    """
    long = [] if context is None else [at for at, ids in enumerate(prompts) if len(ids) + max_tokens > context]
    if context is None or not long:
        return Fitting([list(ids) for ids in prompts], list(range(len(prompts))), {})
    room = context - max_tokens
    if too_long == "trim_prompt" and room >= 2:
        fitted = [shorten(ids, room) for ids in prompts]
        return Fitting(fitted, list(range(len(prompts))), {"too_long": {"policy": too_long, "trimmed": len(long)}})
    if too_long == "drop" and len(long) < len(prompts):
        left = set(long)
        kept = [at for at in range(len(prompts)) if at not in left]
        facts = {"too_long": {"policy": too_long, "left_out": len(long)}}
        return Fitting([list(prompts[at]) for at in kept], kept, facts)
    worst = sorted(((len(prompts[at]), rows[at]) for at in long), key=lambda item: -item[0])[:5]
    named = ", ".join(f"{row.get('origin') or row.get('id') or 'a row'} ({size})" for size, row in worst)
    fits = context - worst[0][0]
    raise SpaceError(
        f"{len(long)} of {len(rows)} prompts leave no room for {max_tokens} tokens of answer: {named}.",
        wanted=f"Prompt + generate.max_tokens at most {context}, the model's context.",
        fix=f"Set generate.max_tokens to {fits} or less, or shorten the prompts."
        if fits > 0
        else "Shorten the prompts; a run made with too_long=trim_prompt or too_long=drop is scored that way, too.",
    )


def _given(path: Path, keys: set[str]) -> dict[str, dict[str, Any]]:
    names = ("prediction", "thinking", "tokens", "prompt_tokens", "seconds", "finish", "logprob")
    lines = (
        line for line in Journal(path) if line.get("key") in keys and "thinking" in line
    )  # else of an older version
    return {line["key"]: {name: line[name] for name in names} for line in lines}


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
