"""Floor 4, the shelf of adapters: what of a model is trained. One file a kind; `store` saves and opens them."""

from typing import Any


def open_run(name: Any, **settings: Any) -> Any:
    """A model ready to answer, from a run folder, adapter, model folder or name. See adapters/store.py."""
    from tunesmith.adapters.store import open_run as opened

    return opened(name, **settings)
