"""`push: me/support-intents`: the result of a run, on the Hugging Face hub.

    opened("me/support-intents")                   before training: the repository is there and may be written to
    pushed("me/support-intents", run, result)      after it: weights, configuration and a card in one commit; its address

The repository is made private; its owner opens it. The key is read by the hub's library from HF_TOKEN or its own login, never by us.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunesmith.core.errors import ProjectError


def opened(name: str) -> None:
    """Make the repository where it is missing, so that a wrong name, key or network is told before hours of training."""
    from huggingface_hub import HfApi

    def ask() -> None:
        HfApi().auth_check(_made(name), write=True)

    _asked(name, ask, "Training has not begun.")


def pushed(name: str, run: Any, result: Path) -> str:
    """Upload a run's result, its project file and a card; what is in the repository under other names stays."""
    from huggingface_hub import CommitOperationAdd, HfApi

    files = {path.name: path for path in sorted(result.iterdir()) if path.is_file() and path.name != "README.md"}
    files["tunesmith.yaml"] = run.file("project.yaml")
    changes = [CommitOperationAdd(path_in_repo=to, path_or_fileobj=str(path)) for to, path in files.items()]
    changes.append(CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=card(name, run).encode()))
    said = f"The run is finished and kept in {run.path}; train --resume {run.path} uploads it again."
    commit = _asked(
        name, lambda: HfApi().create_commit(_made(name), changes, commit_message=f"Tunesmith: {run.path.name}"), said
    )
    return str(commit.commit_url)


def card(name: str, run: Any) -> str:
    """The README of the repository: what it is made from, how it was trained and how it scored, from the run's own files."""
    from tunesmith.core.project import read_project

    project, manifest = read_project(run.file("project.yaml")), run.manifest()
    base, method, adapter = project["model"], *(next(iter(project[part])) for part in ("method", "adapter"))
    front = [
        "library_name: peft" if (run.path / "adapter").is_dir() else "library_name: transformers",
        "tags: [tunesmith]",
    ]
    if not Path(base).exists() and "/" in base:
        front.append(f"base_model: {base}")
    outcome = manifest.get("outcome", {})
    lines = [
        "---",
        *front,
        "---",
        f"# {name.split('/')[-1]}",
        "",
        f"{base}, tuned by {method} with {adapter} (Tunesmith).",
    ]
    told = {"steps": "Steps", "tokens": "Tokens", "best_dev_loss": "Best dev loss", "last_loss": "Last training loss"}
    lines += ["", *(f"- {words}: {outcome[key]:,.6g}" for key, words in told.items() if outcome.get(key) is not None)]
    return "\n".join([*lines, "", "`tunesmith.yaml` holds every setting.", ""])


def _made(name: str) -> str:
    """The repository's whole name, me/support-intents: the hub puts its owner before a name without one."""
    from huggingface_hub import HfApi

    return str(HfApi().create_repo(name, private=True, exist_ok=True).repo_id)


def _asked(name: str, ask: Callable[[], Any], kept: str) -> Any:
    from huggingface_hub import errors

    try:
        return ask()
    except (OSError, ValueError, getattr(errors, "HTTPError", OSError)) as error:
        raise ProjectError(
            f"push: {name}: the hub said no: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}",
            wanted="A repository of yours, as me/support-intents; HF_TOKEN with the right to write; a network.",
            fix=kept,
        ) from None
