"""One run over the workers of a Ray cluster: Ray Train starts the processes and tells them where to meet; the run is tunesmith's own.

    python examples/ray/train.py tunesmith.yaml /shared/runs/big --workers 4
    python examples/ray/train.py --resume /shared/runs/big --workers 2      # any number of workers goes on with it

The project's data and the run folder lie on a disk that all machines see. Needs the extra cluster: pip install 'tunesmith[cluster]'
"""

import argparse
import os
from pathlib import Path
from typing import Any


def of_a_worker(settings: dict[str, Any]) -> None:
    """What each worker does: torchrun's variables from Ray's context, then the same call as everywhere."""
    import socket

    import ray
    import ray.train

    import tunesmith

    context = ray.train.get_context()
    os.environ.update(
        RANK=str(context.get_world_rank()), WORLD_SIZE=str(context.get_world_size()), LOCAL_RANK=str(context.get_local_rank())
    )  # fmt: skip
    board = Path(settings["folder"]).with_suffix(f".meet-{settings['attempt']}")
    if context.get_world_rank() == 0:  # the first says where it listens, in a file that all machines see
        with socket.socket() as free:
            free.bind(("", 0))
            port = free.getsockname()[1]
        part = board.with_suffix(".part")
        part.write_text(f"{ray.util.get_node_ip_address()} {port}")
        part.rename(board)
    address, port = _when_there(board)
    os.environ.update(MASTER_ADDR=address, MASTER_PORT=port)
    if settings["resume"]:
        tunesmith.train(resume=settings["folder"], quiet=context.get_world_rank() > 0)
    else:
        tunesmith.train(settings["project"], out=settings["folder"], quiet=context.get_world_rank() > 0)
    if context.get_world_rank() == 0:
        board.unlink()


def _when_there(board: Path, *, seconds: float = 120.0) -> list[str]:
    import time

    until = time.monotonic() + seconds
    while not board.exists():
        if time.monotonic() > until:
            raise TimeoutError(
                f"the first worker did not say in {board} where it listens; is the folder on a shared disk?"
            )
        time.sleep(0.1)
    return board.read_text().split()


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
        from ray.train.data_parallel_trainer import DataParallelTrainer
    except ImportError:
        parser.error("Ray is not installed. Install the extra: pip install 'tunesmith[cluster]'")
    DataParallelTrainer(
        of_a_worker,
        train_loop_config={
            "project": given.project and str(Path(given.project).resolve()), "folder": str(Path(given.resume or given.folder).resolve()),
            "resume": bool(given.resume), "attempt": os.getpid(),
        },
        scaling_config=ScalingConfig(num_workers=given.workers, use_gpu=given.gpu),
    ).fit()  # fmt: skip


if __name__ == "__main__":
    main()
