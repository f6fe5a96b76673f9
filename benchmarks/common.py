"""What every benchmark needs: where the data lies, which machine this is, and one results file each.

TUNESMITH_DATA=/where/the/data/is python -m benchmarks.base_model
"""

import hashlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def data_folder(*parts: str) -> Path:
    """A folder or file below TUNESMITH_DATA; benchmarks/data.md says what belongs there and where to get it."""
    root = os.environ.get("TUNESMITH_DATA")
    if not root:
        raise SystemExit("Set TUNESMITH_DATA to the folder that holds corpus/ and data/ (see benchmarks/data.md).")
    path = Path(root, *parts)
    if not path.exists():
        raise SystemExit(f"{path} is missing (see benchmarks/data.md).")
    return path


def sha256(*paths: Path) -> str:
    """One hash over files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def processor() -> str:
    """The processor's name and what it can do with bf16."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    flags = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in text]
    return " ".join([name or platform.machine(), *flags])


def machine() -> dict[str, Any]:
    """Hardware and versions, for the results; of Tunesmith the hash of its code, too: figures of older code are known as such."""
    import torch
    import transformers

    from tunesmith import __version__
    from tunesmith.core.runs import code_hash

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tunesmith": f"{__version__} {code_hash()[:12]}",
    }


def read_results(name: str) -> dict[str, Any]:
    """What an earlier run wrote, {} when there is nothing."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write_results(name: str, content: dict[str, Any]) -> Path:
    """Write benchmarks/results/NAME.json whole, with date and machine."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    part = path.with_suffix(".part")
    stamp = {"date": time.strftime("%Y-%m-%d %H:%M:%S"), "machine": machine()}
    stamped = {**stamp, **{name: value for name, value in content.items() if name not in stamp}}  # not the last run's
    part.write_text(json.dumps(stamped, indent=1, ensure_ascii=False) + "\n")
    part.replace(path)
    return path


def table(columns: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
