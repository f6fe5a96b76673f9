"""The answer chosen among given ones by likelihood: what a model would say if it could only say one of these.

    found = likelihoods(model, prompts, answers=[[ids of "refund"], [ids of "order"]])
    found.sums                            # (prompts, answers): sum of log p over the tokens of each answer
    found.choice()                        # (prompts,): the likeliest answer;  choice(per_token=True): its length taken out

    evaluate_likelihood(model, text, rows, labels, metrics, folder=..., name="test-likelihood")   # written like any evaluation

The prompt is read once, and answers that begin alike share that beginning: prompt and answers lie in one pass as a tree, each
token seeing only its own path. 77 labels of Banking77 cost some 300 tokens a row instead of 5,000. The first prompt of a call is
computed both ways; where they differ (a model whose attention is not ours, state-space layers), answers are read one by one.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.core.errors import DataError, ModelError, SpaceError
from tunesmith.evals.files import score_line, summarise, write_evaluation
from tunesmith.evals.run import Ask, Shown, as_question, check_rows, fingerprint, fit_prompts, shown_prompt
from tunesmith.text.example import Example, Unit
from tunesmith.text.messages import words_of

if TYPE_CHECKING:
    import torch

    from tunesmith.model.policy import Policy

PASS_TOKENS = 4096  # tokens in one pass when answers are read one by one


@dataclass(frozen=True)
class Likelihoods:
    """log p of each answer after each prompt, and how many tokens each answer has.

    sums    float64, (prompts, answers);  tokens  int, (answers,);  shared  whether prompts and beginnings were read once
    """

    sums: np.ndarray
    tokens: np.ndarray
    shared: bool

    def choice(self, *, per_token: bool = False) -> np.ndarray:
        """The place of the likeliest answer for each prompt; per_token divides by its tokens, so that long ones stand a chance."""
        return np.argmax(self.sums / self.tokens if per_token else self.sums, axis=1)

    def shares(self) -> np.ndarray:
        """The probabilities of the answers among themselves, (prompts, answers), rows add up to 1."""
        shifted = np.exp(self.sums - self.sums.max(1, keepdims=True))
        return shifted / shifted.sum(1, keepdims=True)


@dataclass(frozen=True)
class Tree:
    """Answers as a tree of tokens. A node's parent is -1 at the root (the prompt), else an earlier node.

    ids, parents, depths  (nodes,);  paths  bool, (answers, nodes): which nodes an answer is made of
    """

    ids: np.ndarray
    parents: np.ndarray
    depths: np.ndarray
    paths: np.ndarray

    @staticmethod
    def of(answers: Sequence[Sequence[int]]) -> "Tree":
        """[[5, 6], [5, 7]] -> nodes 5, 6 (below 5), 7 (below 5)"""
        number: dict[tuple[int, ...], int] = {}
        for answer in answers:
            for end in range(1, len(answer) + 1):
                number.setdefault(tuple(answer[:end]), len(number))
        paths = np.zeros((len(answers), len(number)), dtype=bool)
        for place, answer in enumerate(answers):
            for end in range(1, len(answer) + 1):
                paths[place, number[tuple(answer[:end])]] = True
        return Tree(
            ids=np.array([beginning[-1] for beginning in number], dtype=np.int64),
            parents=np.array([number.get(beginning[:-1], -1) for beginning in number], dtype=np.int64),
            depths=np.array([len(beginning) - 1 for beginning in number], dtype=np.int64),
            paths=paths,
        )

    def sees(self) -> np.ndarray:
        """bool, (nodes, nodes): node i sees node j when j is i or above it."""
        sees = np.eye(len(self.ids), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:  # parents come before their children
                sees[node] |= sees[parent]
        return sees


def likelihoods(
    model: Any,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    *,
    shown: Shown | None = None,
) -> Likelihoods:
    """log p of every answer (token ids, with the token that ends it) after every prompt (token ids).

    Raises SpaceError when prompt and answer exceed the model's context, ModelError when a probability is not a number.
    """
    import torch

    if not answers or not all(len(answer) for answer in answers) or not all(len(prompt) for prompt in prompts):
        raise DataError(
            "There is an empty prompt or answer, or no answer at all.", wanted="At least one token in each."
        )
    longest = max(map(len, prompts), default=0) + max(map(len, answers))
    context = getattr(model, "context", None)
    if context is not None and longest > context:
        raise SpaceError(
            f"The longest prompt with the longest answer has {longest} tokens.",
            wanted=f"At most {context}, the model's context.",
        )
    policy, net = model.policy, model.net
    tree = Tree.of(answers)
    sees = torch.from_numpy(tree.sees()).to(policy.device)
    sums = np.zeros((len(prompts), len(answers)))
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        with torch.no_grad():
            shared = bool(len(prompts)) and _agrees(policy, prompts[0], answers, tree, sees)
            for place, prompt in enumerate(prompts):
                sums[place] = _by_tree(policy, prompt, tree, sees) if shared else _one_by_one(policy, prompt, answers)
                if not np.isfinite(sums[place]).all():
                    raise ModelError(
                        f"The model's output for prompt {place} is not a number.",
                        fix="Its weights are damaged or overflow in this precision: try precision bf16 or fp32.",
                    )
                if shown is not None:
                    shown(place + 1, len(prompts))
    finally:
        for module in training:
            module.training = True
    return Likelihoods(sums, np.array([len(answer) for answer in answers]), shared)


def _by_tree(policy: "Policy", prompt: Sequence[int], tree: Tree, sees: "torch.Tensor") -> np.ndarray:
    import torch

    from tunesmith.model.loss import logprobs

    device, read, nodes = policy.device, len(prompt), len(tree.ids)
    ids = torch.tensor([[*map(int, prompt), *tree.ids.tolist()]], device=device)
    positions = torch.cat([torch.arange(read), torch.from_numpy(read + tree.depths)])[None].to(device)
    mask = torch.zeros(read + nodes, read + nodes, dtype=torch.bool, device=device)
    mask[:, :read] = True
    mask[:read, :read] = torch.ones(read, read, dtype=torch.bool, device=device).tril()
    mask[read:, read:] = sees
    out = policy.body(input_ids=ids, position_ids=positions, attention_mask=mask[None, None], use_cache=False)
    predictor = torch.from_numpy(np.where(tree.parents < 0, read - 1, read + tree.parents)).to(device)
    hidden, head = out.last_hidden_state[0].index_select(0, predictor), policy.head()
    if head is None:
        raise NotImplementedError("this head is only known to its own module")
    per_node = logprobs(hidden, torch.from_numpy(tree.ids).to(device), head)
    return tree.paths @ per_node.detach().double().cpu().numpy()


def _one_by_one(policy: "Policy", prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> np.ndarray:
    sums, start = np.zeros(len(answers)), 0
    while start < len(answers):
        end, tokens = start, 0
        while end < len(answers) and (end == start or tokens + len(prompt) + len(answers[end]) <= PASS_TOKENS):
            tokens += len(prompt) + len(answers[end])
            end += 1
        weights = [[0.0] * len(prompt) + [1.0] * len(answer) for answer in answers[start:end]]
        examples = [Example.of([*prompt, *answer], w) for answer, w in zip(answers[start:end], weights)]
        batch = policy.batch([Unit(tuple(examples), shared_prompt=len(prompt))])
        found = policy.logprobs(batch).detach().double().cpu().numpy()
        np.add.at(sums, start + batch.example.cpu().numpy(), found)
        start = end
    return sums


def _agrees(
    policy: "Policy", prompt: Sequence[int], answers: Sequence[Sequence[int]], tree: Tree, sees: "torch.Tensor"
) -> bool:
    import torch

    if policy.layout != "packed":  # the attention is not ours, or documents could not be kept apart
        return False
    config = policy.config.get_text_config() if hasattr(policy.config, "get_text_config") else policy.config
    window = getattr(config, "sliding_window", None)
    if window and len(prompt) + int(tree.depths.max()) >= window:  # a mask given whole replaces the model's own window
        return False
    some = [*range(min(3, len(answers))), *np.argsort([len(answer) for answer in answers])[-2:].tolist()]
    wanted = _one_by_one(policy, prompt, [answers[i] for i in some])
    try:
        found = _by_tree(policy, prompt, tree, sees)[some]
    except (NotImplementedError, TypeError, ValueError, RuntimeError):
        return False  # this architecture takes no mask or positions of ours: its answers are read one by one
    wide = next(policy.net.parameters()).dtype in (torch.float32, torch.float64)
    return bool(np.allclose(found, wanted, rtol=1e-4 if wide else 5e-2, atol=1e-3 if wide else 0.5))


def answer_ids(
    text: Any, messages: Sequence[Mapping[str, Any]], answer: str | Mapping[str, Any], tools: Any = None
) -> list[int]:
    """The tokens of an answer (its words, or a message with tool calls) with the one that ends its turn, as trained on after
    this question."""
    message = {"role": "assistant", "content": answer} if isinstance(answer, str) else answer
    examples = text.chat([*messages, message], tools)
    if not examples:
        raise SpaceError(
            f"The answer {words_of(message)[:60]!r} does not fit behind its question.", wanted="A longer length."
        )
    example = examples[-1]
    start = len(text.prompt(messages, tools))
    return [int(token) for token in example.ids[start:]]


def evaluate_likelihood(
    model: Any,
    text: Any,
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[str] | Mapping[str, Mapping[str, Any]],
    metrics: Mapping[str, Any],
    *,
    folder: str | Path,
    name: str,
    per_token: bool = False,
    say: Callable[[str], str] = str,
    too_long: str = "error",
    ask: Ask | None = None,
    shown: Shown | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Answer every row by the likeliest of the labels and write it down like any evaluation (evals/files.py).

    labels     the answers there are, as the model would have to write them; or {words: message} where messages call tools
    per_token  compare mean instead of summed log p
    say        label -> whole answer, as  lambda label: '{"intent": "%s"}' % label
    too_long   as for `evaluate`
    A line also has "logprob" (of the choice, the labels' shares taken as all there is) and "runner_up".
    """
    rows = [as_question(row, text) for row in rows]
    if not rows or len(set(labels)) < 2:
        raise DataError(
            f"{len(rows)} rows, {len(set(labels))} different labels.", wanted="At least one row and two labels."
        )
    check_rows(rows, metrics)
    calls = labels if isinstance(labels, Mapping) else {}
    labels = list(dict.fromkeys(labels))
    said = [label if label in calls else say(label) for label in labels]
    asked = [ask(row) if ask else row["messages"] for row in rows]
    prompts = [text.prompt(messages, row.get("tools")) for messages, row in zip(asked, rows)]
    written = [calls.get(label, answer) for label, answer in zip(labels, said)]
    answers = [answer_ids(text, asked[0], answer, rows[0].get("tools")) for answer in written]
    # the question must not change how an answer is cut into tokens; checked on the last row, whose prompt differs most often
    if [answer_ids(text, asked[-1], answer, rows[-1].get("tools")) for answer in written[:3]] != answers[:3]:
        raise DataError(
            "The template writes the same answer differently after different questions.", fix="Use generation."
        )
    most, context = max(map(len, answers)), getattr(model, "context", None)
    fitting = fit_prompts(prompts, rows, most, context, shorten=text.shortened, too_long=too_long)
    prompts, rows = fitting.prompts, [rows[place] for place in fitting.kept]
    asked = [asked[place] for place in fitting.kept]
    started = time.perf_counter()
    found = likelihoods(model, prompts, answers, shown=shown)
    seconds = time.perf_counter() - started
    scores = found.sums / found.tokens if per_token else found.sums
    shares = found.shares()
    lines = []
    for place, row in enumerate(rows):
        best, second = np.argsort(-scores[place], kind="stable")[:2].tolist()
        lines.append(
            {
                "id": row.get("id"),
                "origin": row.get("origin"),
                "prompt": shown_prompt(asked[place]),
                "answer": row.get("answer"),
                "prediction": said[best],
                **score_line(metrics, said[best], row),
                "logprob": float(np.log(max(shares[place, best], 1e-300))),
                "runner_up": said[second],
                "prompt_tokens": len(prompts[place]),
            }
        )
    return write_evaluation(
        Path(folder),
        name,
        lines,
        {
            "metrics": summarise(metrics, lines),
            "likelihood": {"labels": len(labels), "per_token": per_token, "prompt_read_once": found.shared},
            "model": {"name": str(getattr(model, "name", "")), "hash": fingerprint(model.net)},
            "cost": {"tokens_per_answer": 0, "seconds_per_answer": seconds / len(rows)},
            **fitting.facts,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **(facts or {}),
        },
    )
