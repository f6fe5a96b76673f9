"""What both sides measure in the same way: time per step, tokens, memory above the loaded model. Needs numpy only.

meter = Meter()           # right after the model is loaded and everything is imported
...
meter.step(tokens, loss)  # after each optimiser step, non-padding tokens of the step
meter.report()            # steps after the first two, which warm up
"""

import ctypes
import gc
import threading
import time
from pathlib import Path

import numpy as np

WARM_UP_STEPS = 2


def resident_mb() -> float:
    """Memory the process holds now."""
    return _status("VmRSS")


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def gemm_gflops(seconds: float = 0.5) -> float:
    """Median speed of an fp32 1024-cube product: how quiet the machine was when a run began and ended."""
    import torch

    a = torch.ones(1024, 1024)
    out, taken, end = a @ a, [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        torch.mm(a, a, out=out)
        taken.append(time.perf_counter() - started)
    return 2 * 1024**3 / float(np.median(taken)) / 1e9


class Meter:
    """Clock and memory of one run."""

    def __init__(self) -> None:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what loading left behind is not the run's
        self.base_mb = resident_mb()
        self.sampled_mb = self.base_mb
        self._stop = threading.Event()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # sets the kernel's high-water mark back to now
            self.exact = True
        except OSError:
            self.exact = False
            threading.Thread(target=self._sample, daemon=True).start()
        self.steps: list[tuple[float, int, float]] = []
        self.started = time.perf_counter()

    def _sample(self) -> None:
        while not self._stop.wait(0.02):
            self.sampled_mb = max(self.sampled_mb, resident_mb())

    def step(self, tokens: int, loss: float = float("nan")) -> None:
        """An optimiser step has ended."""
        self.steps.append((time.perf_counter(), int(tokens), float(loss)))

    def report(self) -> dict[str, object]:
        """Tokens/s without the warm-up steps, its 20-80 % spread over steps, memory and losses."""
        self._stop.set()
        peak = _status("VmHWM") if self.exact else max(self.sampled_mb, resident_mb())
        if len(self.steps) <= WARM_UP_STEPS:
            raise RuntimeError(f"only {len(self.steps)} steps, need more than {WARM_UP_STEPS} to measure anything")
        times = np.array([moment for moment, _, _ in self.steps])
        tokens = np.array([count for _, count, _ in self.steps])
        losses = np.array([loss for _, _, loss in self.steps])
        seconds = np.diff(times)[WARM_UP_STEPS - 1 :]
        timed = tokens[WARM_UP_STEPS:]
        rates = timed / seconds
        half = slice(len(losses) // 2, None)
        return {
            "tokens_per_second": float(timed.sum() / seconds.sum()),
            "step_rate_low": float(np.quantile(rates, 0.2)),
            "step_rate_high": float(np.quantile(rates, 0.8)),
            "seconds": float(seconds.sum()),
            "start_up_seconds": float(times[0] - self.started),
            "tokens": int(tokens.sum()),
            "tokens_timed": int(timed.sum()),
            "steps": len(self.steps),
            "base_mb": self.base_mb,
            "peak_mb": peak,
            "above_model_mb": peak - self.base_mb,
            "memory_exact": self.exact,
            "late_loss": float(np.average(losses[half], weights=tokens[half])),
            "last_loss": float(losses[-1]),
            "losses": [float(loss) for loss in losses[:40]],
        }
