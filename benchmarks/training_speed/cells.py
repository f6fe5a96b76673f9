"""The cells of the comparison: model size x adapter x precision x cut, and the ones with loss on answers only.

cells("headline")              four of the sixteen, each value of each factor twice
cells("10M-lora-fp32-256")     one by name
"""

from dataclasses import asdict, dataclass
from itertools import product

STEP_ROWS = 16  # rows an optimiser step for everyone, about 2k tokens


@dataclass(frozen=True)
class Cell:
    """One comparison. `answers`: loss on the last quarter of each row only; `vocab` other than 8192 goes with it."""

    size: str
    adapter: str
    precision: str
    cut: int
    vocab: int = 8192
    answers: bool = False

    @property
    def name(self) -> str:
        """As typed on the command line."""
        tail = f"-answers-{self.vocab // 1000}k" if self.answers else ""
        return f"{self.size}-{self.adapter}-{self.precision}-{self.cut}{tail}"

    @property
    def model(self) -> str:
        """Name of the model's folder."""
        return f"llama-{self.size}-{self.vocab}"

    def as_dict(self) -> dict[str, object]:
        """For the workers and the results."""
        return asdict(self)


GRID = tuple(Cell(*values) for values in product(("10M", "30M"), ("lora", "full"), ("fp32", "bf16"), (256, 1024)))
HEADLINE = (
    Cell("10M", "lora", "fp32", 256),
    Cell("10M", "full", "fp32", 1024),
    Cell("30M", "lora", "bf16", 1024),
    Cell("30M", "full", "bf16", 256),
)
ANSWERS = tuple(Cell("10M", "lora", "fp32", 256, vocab, True) for vocab in (32_000, 150_000))
SIZES = tuple(Cell(*values) for values in product(("10M", "30M", "100M"), ("lora", "full"), ("fp32",), (256,)))
SETS = {
    "headline": HEADLINE,
    "rest": tuple(cell for cell in GRID if cell not in HEADLINE),
    "answers": ANSWERS,
    "quick": HEADLINE[:1],
    "sizes": SIZES,
    "all": (*HEADLINE, *ANSWERS, *(cell for cell in GRID if cell not in HEADLINE)),
}


def cells(wanted: str) -> tuple[Cell, ...]:
    """The cells of a set, or the ones named, comma-separated."""
    named = {cell.name: cell for cell in (*SETS["all"], *SIZES)}
    chosen: list[Cell] = []
    for word in wanted.split(","):
        if word in SETS:
            chosen += SETS[word]
        elif word in named:
            chosen.append(named[word])
        else:
            raise SystemExit(f"no cell or set {word!r}; sets: {', '.join(SETS)}; cells: {', '.join(named)}")
    return tuple(dict.fromkeys(chosen))
