"""Optional listeners on the events of a run: tensorboard, mlflow, wandb. events.jsonl is written in any case.

fit(..., listeners=loggers(["tensorboard"], folder))
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunesmith.core.errors import ProjectError
from tunesmith.core.runs import RunFolder

Listener = Callable[[Mapping[str, Any]], object]
LAST = ("end", "stopped", "error")  # the events after which nothing comes: what is open is closed


def loggers(names: Sequence[str], folder: RunFolder) -> list[Listener]:
    """One listener a name. Raises ProjectError naming the extra when the package is not installed."""
    makers = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
    made = []
    for name in names:
        try:
            made.append(makers[name](folder))
        except ImportError as error:
            raise ProjectError(f"log: {name} is not installed ({error}).", fix='pip install "tunesmith[log]"') from None
    return made


def scalars(event: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a step or evaluation, named train/... and dev/...; nothing for other events."""
    if event["kind"] == "step":
        keys = ("loss", "lr", "grad_norm", "tokens_per_second", "memory_bytes", "epoch")
        return {f"train/{key}": float(event[key]) for key in keys if key in event}
    if event["kind"] == "eval":
        return {"dev/loss": float(event["dev_loss"]), **{f"dev/{k}": float(v) for k, v in event["figures"].items()}}
    return {}


def _tensorboard(folder: RunFolder) -> Listener:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder.file("tensorboard")))

    def listen(event: Mapping[str, Any]) -> None:
        for name, value in scalars(event).items():
            writer.add_scalar(name, value, event["step"])
        if event["kind"] in LAST:
            writer.close()

    return listen


def _mlflow(folder: RunFolder) -> Listener:
    import mlflow

    mlflow.set_tracking_uri(folder.file("mlflow").resolve().as_uri())
    mlflow.start_run(run_name=folder.path.name)

    def listen(event: Mapping[str, Any]) -> None:
        if values := scalars(event):
            mlflow.log_metrics(values, step=event["step"])
        if event["kind"] in LAST:
            mlflow.end_run("FAILED" if event["kind"] == "error" else "FINISHED")

    return listen


def _wandb(folder: RunFolder) -> Listener:
    import wandb

    run = wandb.init(project="tunesmith", name=folder.path.name, dir=str(folder.path))

    def listen(event: Mapping[str, Any]) -> None:
        if values := scalars(event):
            run.log(values, step=event["step"])
        if event["kind"] in LAST:
            run.finish(exit_code=int(event["kind"] == "error"))

    return listen
