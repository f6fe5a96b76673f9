"""Who we are compared with: each peer's worker and the options tried before its best one is timed.

PEERS["litgpt"].layouts      how rows are laid out in batches; all are tried
PEERS["litgpt"].precisions   ways of doing a cell's precision; the first is tried with each layout, the others with the best layout

A worker runs in the peer's own environment (`setup.sh NAME`) and knows what the names mean.
"""

from dataclasses import dataclass, field

_WEIGHTS_OR_AUTOCAST = {"fp32": ("fp32",), "bf16": ("weights", "autocast", "weights+autocast")}


@dataclass(frozen=True)
class Peer:
    """A worker module of this package and what it can be asked for."""

    module: str
    layouts: tuple[str, ...]
    precisions: dict[str, tuple[str, ...]] = field(default_factory=lambda: _WEIGHTS_OR_AUTOCAST)
    clip: float | None = 1.0  # of the gradient's norm, None where its loop has none


PEERS = {
    "trl": Peer("peer_trl", ("group_by_length", "group_by_length_8x2", "padding_free", "packing", "padded")),
    "hf": Peer("peer_hf", ("group_by_length", "group_by_length_8x2", "padded")),
    "litgpt": Peer(
        "peer_litgpt",
        ("padded", "padded_8x2", "padded_4x4"),
        {"fp32": ("32-true",), "bf16": ("bf16-true", "bf16-mixed")},
        clip=None,
    ),
    "llamafactory": Peer(
        "peer_llamafactory",
        ("group_by_length", "group_by_length_8x2", "neat_packing", "padded"),
        {"fp32": ("fp32",), "bf16": ("bf16",)},  # its pure_bf16 refuses a machine without a GPU
    ),
}
