"""One run over the workers of a Ray cluster: Ray Train starts the processes and lets them meet; the run is tunesmith's own.

    python examples/ray/train.py tunesmith.yaml /shared/runs/big --workers 4
    python examples/ray/train.py --resume /shared/runs/big --workers 2      # any number of workers goes on with it

The project's data and the run folder lie on a disk that all machines see. Needs the extra cluster: pip install 'tunesmith[cluster]'
"""

import argparse
from pathlib import Path
from typing import Any

WEEK = 7 * 24 * 3600  # seconds a worker may wait for the others: a pause may be long


def of_a_worker(settings: dict[str, Any]) -> None:
    """What each worker does: Ray has set torchrun's variables and joined them, so it is the same call as everywhere."""
    import ray.train

    import tunesmith

    quiet = ray.train.get_context().get_world_rank() > 0
    if settings["resume"]:
        tunesmith.train(resume=settings["folder"], quiet=quiet)
    else:
        tunesmith.train(settings["project"], out=settings["folder"], quiet=quiet)


def main() -> None:
    """Read the arguments and start the workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", nargs="?", help="the project file of a new run")
    parser.add_argument("folder", nargs="?", help="its run folder, on a shared disk")
    parser.add_argument("--resume", help="the folder of a run to go on with")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpu", action="store_true", help="one GPU a worker")
    given = parser.parse_args()
    if not given.resume and not given.folder:
        parser.error("a new run needs a project file and a folder")
    try:
        from ray.train import ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError:
        parser.error("Ray is not installed. Install the extra: pip install 'tunesmith[cluster]'")
    settings = {
        "project": given.project and str(Path(given.project).resolve()),
        "folder": str(Path(given.resume or given.folder).resolve()),
        "resume": bool(given.resume),
    }
    TorchTrainer(
        of_a_worker,
        train_loop_config=settings,
        torch_config=TorchConfig(backend="nccl" if given.gpu else "gloo", timeout_s=WEEK),
        scaling_config=ScalingConfig(num_workers=given.workers, use_gpu=given.gpu),
    ).fit()


if __name__ == "__main__":
    main()
