"""What a plan can change: the choices that memory and time hang on, as plain values."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setup:
    """A run as the planner sees it.

    adapter      as in a project file: a name, or {name: settings}
    length       tokens of the longest Example of a Unit; pass_tokens: most tokens of one forward pass
    batch_size   Units in a step, over all devices
    checkpointing  False, True or selective, as in a project file
    base         how the frozen base is held: "" (in full), int8, nf4, streamed; the rest as in a project file under train
    """

    adapter: Any
    precision: str
    checkpointing: bool | str
    length: int
    pass_tokens: int
    batch_size: int = 16
    optimizer: str = "adamw"
    base: str = ""
    states: str = "fp32"
    update_in_backward: bool = False
    offload: str = "none"
    offload_states: str = "none"

    @property
    def adapter_name(self) -> str:
        return self.adapter if isinstance(self.adapter, str) else next(iter(self.adapter))

    def words(self) -> str:
        """In a line: `qlora, bf16, checkpointing, 2,048 tokens a pass of rows up to 2,048`."""
        parts = [self.adapter_name, self.precision]
        parts += [f"base {self.base}"] if self.base else []
        parts += {False: [], "selective": ["selective checkpointing"], True: ["checkpointing"]}[self.checkpointing]
        parts += [] if self.optimizer == "adamw" else [self.optimizer]
        parts += ["8-bit states"] if self.states == "8bit" else []
        parts += ["updates in the backward pass"] if self.update_in_backward else []
        parts += [] if self.offload == "none" else [f"activations on {self.offload}"]
        parts += [] if self.offload_states == "none" else [f"optimiser states on {self.offload_states}"]
        return ", ".join(parts) + f", {self.pass_tokens:,} tokens a pass of rows up to {self.length:,}"
