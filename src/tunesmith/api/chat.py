"""tunesmith chat: talk to a model, line by line or with one message."""

import sys
from typing import Any

from tunesmith.core.result import Result


def chat(
    model: str = "mini",
    *,
    message: str | None = None,
    system: str | None = None,
    max_tokens: int = 128,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    device: str = "auto",
) -> Result:
    """Talk to a model: a run's folder, a model folder, an embedded or a hub model.

    model        who answers
    message      one message instead of a conversation; prints the answer and ends
    system       the system message; default: the run's own (data.system)
    max_tokens   longest answer
    temperature  0 = the most likely words; higher = more varied
    top_p        only the most likely words with this much probability together
    seed         what sampling starts from
    device       auto = a GPU where there is one; cpu, cuda, cuda:1

    A conversation ends with an empty line or Ctrl-D; /new starts another. What is typed is put into the run's own data.prompt, as in
    training; where that has several columns, they are typed as JSON: {"question": "...", "language": "..."}

    Example: tunesmith chat runs/train-1 --message "Where is my card?"
    """
    from tunesmith.adapters.store import merged, open_run
    from tunesmith.api.device import take
    from tunesmith.core.errors import UserError
    from tunesmith.model.answer import reply
    from tunesmith.text.encode import Text

    opened = merged(open_run(model, device=take(device)))
    text = Text(opened.tokenizer)
    asking = asking_of(model, system)
    if asking.notice:
        print(asking.notice, file=sys.stderr, flush=True)

    def answer(messages: list[dict[str, Any]], turn: int) -> Any:
        return reply(
            opened, text, messages, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed + turn,
            fix="Write a shorter message." if message is not None else "Start a new one: /new",
        )  # fmt: skip

    if message is not None:
        asked = asking.messages(message)
        made = answer(asked, 0)
        return Result(
            asked=asked,
            answer=made.text,
            finish=made.finish,
            tokens=len(made.ids),
            prompt_tokens=made.num_prompt,
            model=model,
            text=made.text,
        )
    print(f"Talking to {model}. An empty line ends, /new starts over.", file=sys.stderr)
    messages: list[dict[str, Any]] = []
    turns = 0
    while True:
        try:
            said = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            break
        if not said:
            break
        if said == "/new":
            messages = []
            continue
        try:
            asked = [*messages, *asking.messages(said, first=not messages)]
            made = answer(asked, turns)
        except UserError as error:  # too long, say: the conversation goes on without this message
            print(error, file=sys.stderr, flush=True)
            continue
        turns += 1
        messages = [*asked, {"role": "assistant", "content": made.text}]
        print(made.text, flush=True)
    return Result(turns=turns, messages=messages, model=model, text=f"{turns} answers.")


def asking_of(model: str, system: str | None = None) -> Any:
    """How the run of that name was asked in training; of any other model, words as they are behind `system`."""
    from pathlib import Path

    from tunesmith.core.registry import named
    from tunesmith.data.asked import Asking

    return Asking.of(Path(named(model)), system)
