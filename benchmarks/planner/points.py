"""Published peaks, what they were measured on, and the table of what the planner says of them; see public.py."""

import statistics
from typing import Any

PHI = {
    "model_type": "phi", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 32,
    "vocab_size": 51200, "max_position_embeddings": 2048, "hidden_act": "gelu_pytorch_tanh",
}  # fmt: skip
STABLELM = {
    "model_type": "gpt_neox", "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 16, "num_attention_heads": 32,
    "vocab_size": 50688, "max_position_embeddings": 4096,
}  # fmt: skip
MODELS: dict[str, tuple[Any, int]] = {  # what it is, tokens of the longest row
    "phi-1.5": (PHI, 1044), "StableLM-3B": (STABLELM, 1034), "Llama-2-7B": ("Llama-2-7B", 1304), "Llama-2-13B": ("Llama-2-13B", 1304),
}  # fmt: skip
# (model, rows a micro-batch, 4-bit weights): GB published
POINTS = {
    ("phi-1.5", 1, None): 4.82, ("phi-1.5", 1, 4.5): 3.78, ("phi-1.5", 1, 4.127): 3.72, ("phi-1.5", 2, None): 6.76,
    ("phi-1.5", 4, None): 10.68, ("StableLM-3B", 1, None): 9.69, ("StableLM-3B", 1, 4.5): 6.35, ("StableLM-3B", 1, 4.127): 6.19,
    ("StableLM-3B", 2, None): 12.10, ("StableLM-3B", 4, None): 16.92,
    ("Llama-2-7B", 1, None): 21.30, ("Llama-2-7B", 2, None): 29.07, ("Llama-2-7B", 1, 4.5): 14.14, ("Llama-2-7B", 1, 4.127): 13.84,
    ("Llama-2-13B", 1, None): 38.12, ("Llama-2-13B", 1, 4.5): 23.14, ("Llama-2-13B", 1, 4.127): 22.55,
}  # fmt: skip
HEAD = "model         rows  bits   published   planned   error"


def row(point: dict[str, Any]) -> str:
    """A line of the table."""
    error = f"{100 * (point['planned'] / point['published'] - 1):+6.1f} %"
    return f"{point['model']:<12} {point['rows']:>5} {point['bits']:>5} {point['published']:>9.2f} {point['planned']:>9.2f}  {error}"


def show(found: dict[str, Any]) -> str:
    """A results file as a table of text."""
    return f"```\n{table(found['points'])}\n```"


def table(points: list[dict[str, Any]]) -> str:
    """A line a point, then median and worst."""
    errors = [abs(point["planned"] / point["published"] - 1) for point in points]
    last = f"median error {100 * statistics.median(errors):.1f} %, worst {100 * max(errors):.1f} %"
    return "\n".join([HEAD, *map(row, points), last])
