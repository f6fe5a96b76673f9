"""Every table of what was measured, made from `results/`: the documentation shows them, and so does this.

python -m benchmarks.tables                 all of them
python -m benchmarks.tables growth fit      some
"""

import importlib
import sys

from benchmarks.common import RESULTS, read_results

# results file -> the module whose show(results) -> str tells it
TABLES = {
    "banking77": "banking77",
    "base_model": "base_model",
    "methods": "methods.__main__",
    "reward_hacking": "reward_hacking",
    "training_speed": "training_speed.__main__",
    "training_peers": "training_speed.__main__",
    "method_speed": "method_speed.__main__",
    "method_speed_avx2": "method_speed.__main__",
    "generation": "generation",
    "ablation": "ablation.__main__",
    "ablation_fp32": "ablation.__main__",
    "lean_forward": "lean_forward",
    "growth": "growth",
    "planner": "planner.__main__",
    "planner_public": "planner.points",
    "plan_seconds": "plan_seconds",
    "fit": "fit",
    "larger_batch": "larger_batch",
    "layer_streaming": "layer_streaming",
    "kill_resume": "kill_resume",
}


def table(name: str) -> str:
    """What was measured last, when and where. "Not measured yet." when nothing was."""
    found = read_results(name)
    if not found:
        return "Not measured yet."
    told = importlib.import_module(f"benchmarks.{TABLES[name]}").show(found)
    machine = ", ".join(f"{key} {value}" for key, value in found.get("machine", {}).items())
    return f"{told}\n\nMeasured {' '.join(filter(None, (found.get('date'), 'on:', machine)))}."


def main() -> None:
    """Print the tables asked for."""
    names = sys.argv[1:] or list(TABLES)
    if unknown := set(names) - set(TABLES):
        raise SystemExit(
            f"no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)} (results lie in {RESULTS})"
        )
    print("\n\n".join(f"## {name}\n\n{table(name)}" for name in names))


if __name__ == "__main__":
    main()
