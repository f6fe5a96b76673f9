"""Several saved adapters on one base in one process, switched per call.

    model, use = on_one_base({"faq": "runs/train-1", "sql": "runs/train-2"})
    with use("faq"): generate(model, prompts, max_tokens=40)
    with use("sql"): generate(model, prompts, max_tokens=40)
    generate(model, prompts, max_tokens=40)                       # the base alone

The base's weights are there once: stand-in layers hold the base's own tensors, and what an adapter saved whole (norms, heads,
layers) lies beside them. Switching puts modules in their places and copies nothing. One call at a time: two threads must not
use two adapters of one base at once.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tunesmith.adapters.store import CONFIG, load_base, put_on, read_files
from tunesmith.core.errors import ModelError
from tunesmith.core.names import nearest
from tunesmith.model.load import Model

Places = dict[tuple[nn.Module, str], nn.Module | None]  # (a module of the base, a child's name) -> what stands there


@dataclass(frozen=True, eq=False)
class _Parts:
    """What an adapter puts where, what stands there without it, and what the model says of itself with it."""

    places: Places
    bare: Places
    said: Mapping[str, Any]


def on_one_base(
    folders: Mapping[str, str | Path], *, dtype: str = "fp32", device: str = "cpu", base: str | None = None
) -> tuple[Model, Callable[[str], AbstractContextManager[Model]]]:
    """The base of all adapters in `folders` (adapter or run folders, by the names they are called here), and `use(name)`.

    Raises ModelError when they stand on different bases, or one brings tokens that the base has not.
    """
    found = {name: _adapter_folder(Path(folder)) for name, folder in folders.items()}
    if not found:
        raise ModelError("there is no adapter to put on a base", wanted="{name: folder of an adapter or a run}.")
    files = {name: read_files(folder) for name, folder in found.items()}
    first = next(iter(found))
    for name, (config, _, facts) in files.items():
        other = [key for key in ("kind", "labels", "base") if facts.get(key) != files[first][2].get(key)]
        if base is None and config.get("base_model_name_or_path") != files[first][0].get("base_model_name_or_path"):
            other = ["base_model_name_or_path"]
        if other:
            bases = [str(files[one][0].get("base_model_name_or_path")) for one in (first, name)]
            told = f": {bases[0]} and {bases[1]}" if other == ["base_model_name_or_path"] else ""
            raise ModelError(
                f"the adapters {first} and {name} do not stand on one base: they differ in {', '.join(other)}{told}",
                wanted="Adapters that were trained on the same model, loaded the same way.",
                fix="If these are copies of one model, as two runs trained from one LoRA run have (each merged it into its own base/), "
                f"say which is used: base={bases[0]!r}"
                if told
                else "",
            )
    model = load_base(found[first], dtype=dtype, device=device, base=base)
    size = model.tokenizer.vocab_size
    plain = _said(model)
    parts: dict[str, _Parts] = {}
    for name, folder in found.items():
        before = {module: dict(module._modules) for module in model.net.modules()}
        put_on(model, folder, *files[name])
        model.name = str(folder)
        if model.tokenizer.vocab_size != size:
            raise ModelError(
                f"the adapter {name} brings tokens that its base has not, which would change the base of the others",
                fix="Open it alone, or merge it first.",
            )
        changed = [
            (module, child)
            for module, children in before.items()
            for child in {*children, *module._modules}
            if module._modules.get(child) is not children.get(child)
        ]
        places: Places = {(module, child): module._modules.get(child) for module, child in changed}
        bare: Places = {(module, child): before[module].get(child) for module, child in changed}
        parts[name] = _Parts(places, bare, _said(model))
        _place(model, bare, plain)
    model.net.requires_grad_(False)
    on: list[str] = []  # the adapters in use, the outermost first; the last one stands on the base

    def turn(leave: str | None, enter: str | None) -> None:
        if leave is not None:
            _place(model, parts[leave].bare, plain)
        if enter is not None:
            _place(model, parts[enter].places, parts[enter].said)

    @contextmanager
    def use(name: str) -> Iterator[Model]:
        """The model with the adapter `name` on; the one that was on before comes back after."""
        if name not in parts:
            raise ModelError(
                f"there is no adapter {name!r} on this base",
                wanted=f"One of {', '.join(nearest(name, parts) or parts)}.",
            )
        former = on[-1] if on else None
        turn(former, name)
        on.append(name)
        try:
            yield model
        finally:
            on.pop()
            turn(name, former)

    return model, use


def _adapter_folder(folder: Path) -> Path:
    inner = folder / "adapter"
    return inner if not (folder / CONFIG).exists() and (inner / CONFIG).exists() else folder


def _said(model: Model) -> dict[str, Any]:
    """What changes of a model besides its modules when an adapter is put on."""
    tied = getattr(model.net.config, "tie_word_embeddings", None)
    return {"adapter": model.adapter, "proof": model.proof, "name": model.name, "tied": tied}


def _place(model: Model, places: Places, said: Mapping[str, Any]) -> None:
    """Put modules in their places; None takes one away."""
    for (module, child), wanted in places.items():
        if wanted is None:
            module._modules.pop(child, None)
        else:
            module._modules[child] = wanted
    model.adapter, model.proof, model.name = said["adapter"], said["proof"], said["name"]
    if said["tied"] is not None:
        model.net.config.tie_word_embeddings = said["tied"]  # type: ignore[union-attr]
