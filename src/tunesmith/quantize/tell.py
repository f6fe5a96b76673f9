"""The report of a quantisation as a person reads it.

    print(told(report))

`report` is what quantize.json holds.
"""

from collections.abc import Mapping
from typing import Any


def told(report: Mapping[str, Any]) -> str:
    """Where it lies, bytes, what changed, what stayed and why, in this order."""
    lines = [f"{report['kind']}: {report['layers']} matrices of {report['model']} in {report['out']}", ""]
    lines += _sizes(report) + [""]
    lines += _changed(report)
    lines += _scores(report.get("scores") or {})
    lines += ["", "Left as they are:"]
    lines += [f"  {kept['parameters']:>12,}  {kept['why']}" for kept in report["kept"]]
    worst = list(report["errors"].items())[:3]
    lines += [
        "Largest errors of a weight, |W - W'| / |W|: " + ", ".join(f"{name} {100 * e:.2g} %" for name, e in worst)
    ]
    return "\n".join(lines)


def _sizes(report: Mapping[str, Any]) -> list[str]:
    whole = report["bytes"]["16-bit"]
    lines = [f"{'bytes':<10}{'matrices':>16}{'of which scales':>18}{'all weights':>16}{'of 16-bit':>12}"]
    for name, row in report["bytes"].items():
        more = row["scales"] + row["tables"]
        share = f"{row['matrices'] / whole['matrices']:.2f} / {row['total'] / whole['total']:.2f}"
        lines.append(f"{name:<10}{row['matrices']:>16,}{more:>18,}{row['total']:>16,}{share:>12}")
    disk = report["on_disk"]
    lines.append(
        f"on disk: {disk['file']:,} = {disk['matrices']:,} packed + {disk['rest']:,} the rest ({report['precision']}) + "
        f"{disk['headers']:,} names"
    )
    if report.get("kv_cache_per_token"):
        lines.append(
            f"besides, answering keeps {report['kv_cache_per_token']:,} bytes a token (keys and values, 16-bit)"
        )
    return lines


def _changed(report: Mapping[str, Any]) -> list[str]:
    found, where = report["change"], report["measured_on"]
    if "perplexity_before" not in found:
        same = f"the same label on {100 * found['same_choice']:.1f} %"
        return [f"On {found['rows']:,} rows ({where}): KL(before || after) {_span(found, 'kl')} nats, {same}"]
    ratio = f"x {found['perplexity_ratio']:.4f}"
    if found["ratio_low"] is not None:
        ratio += f" (95 % {found['ratio_low']:.4f} to {found['ratio_high']:.4f})"
    return [
        f"On {found['tokens']:,} tokens of {found['texts']:,} texts ({where}):",
        f"  perplexity            {found['perplexity_before']:.4f} -> {found['perplexity_after']:.4f}, {ratio}",
        f"  KL(before || after)   {_span(found, 'kl')} nats a token; 99 % below {found['kl_99']:.3g}, most {found['kl_most']:.3g}",
        f"  same likeliest token  {100 * found['same_choice']:.2f} %",
        f"  largest logit change  {found['largest_logit_change']:.3g}",
    ]


def _span(found: Mapping[str, Any], name: str) -> str:
    low, high = found[f"{name}_low"], found[f"{name}_high"]
    return f"{found[name]:.3g}" + (f" (95 % {low:.3g} to {high:.3g})" if low is not None else "")


def _scores(scores: Mapping[str, Any]) -> list[str]:
    if "comparisons" not in scores:
        return [f"No task score: {scores['why']}"] if scores.get("why") else []
    return [f"On the {scores['split']} rows:"] + [
        f"  {one['metric']}: {one['verdict']}" for one in scores["comparisons"]
    ]
