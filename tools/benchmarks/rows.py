"""The rows of the table: rates, memory, and their ratios round by round.

Must not know how contenders are run.
"""

from __future__ import annotations

from statistics import median
from typing import Any, Dict, Iterator, List

from benchmarks.works import Comparison, Contender, Work

COLUMNS = ["work", "contender", "precision", "images_per_s", "lowest", "highest"]
COLUMNS += ["peak_mb", "seconds", "ratio", "target", "memory_ratio", "memory_target"]

# The largest difference between a contender's probabilities and the first one's in
# float32. Chosen here: the probabilities of all images lie within 0.006 of one another
# (the nets are random), engines in float32 differed by 2e-8, those in bfloat16 by 1e-4.
TOLERANCES = {"f32": 1e-6, "bf16": 1e-3}

Results = Dict[str, List[Dict[str, Any]]]  # of each round, by contender


class DifferentOutputsError(Exception):
    """A contender's probabilities are not those of the first one."""


def rows(name: str, work: Work, results: Results) -> Iterator[dict[str, Any]]:
    """Yield the row of each contender, and behind it those of its comparisons.

    Args:
        name: Of the work.
        work: Its contenders and comparisons.
        results: Of each round, with `rate`, `peak_mb` and `outputs`.

    Raises:
        DifferentOutputsError: Two contenders did not compute the same.
        ValueError: A comparison is of two precisions and is not named as one.
    """
    check_outputs(name, work, results)
    for contender in work.contenders:
        yield _rate_row(name, contender, results[contender.name])
        for comparison in work.comparisons:
            if comparison.other == contender.name:
                yield _ratio_row(name, work, comparison, results)


def _rate_row(
    work: str, contender: Contender, rounds: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the row of one contender over all rounds."""
    rates = sorted(result["rate"] for result in rounds)
    return {
        "work": work,
        "contender": contender.name,
        "precision": contender.precision,
        "images_per_s": round(median(rates), 2),
        "lowest": round(rates[0], 2),
        "highest": round(rates[-1], 2),
        "peak_mb": round(median(result["peak_mb"] for result in rounds)),
    }


def _ratio_row(
    name: str, work: Work, comparison: Comparison, results: Results
) -> dict[str, Any]:
    """Return the medians, over rounds, of the ratios of rate and of peak memory."""
    label = work.ratio_name(comparison)
    pairs = list(zip(results[comparison.xenon], results[comparison.other]))
    # A peak is one process's: what loads or packs may have several, and the memory of a
    # matrix product is no bound.
    runs_nets = any(c.precision for c in work.contenders)
    has_memory = runs_nets and comparison.other != "limit"

    def ratio(key: str) -> float:
        return round(median(xenon[key] / other[key] for xenon, other in pairs), 2)

    return {
        "work": name,
        "contender": label,
        "ratio": ratio("rate"),
        "target": comparison.target,
        "memory_ratio": ratio("peak_mb") if has_memory else None,
        "memory_target": comparison.memory_target,
    }


def check_outputs(name: str, work: Work, results: Results) -> None:
    """Check that all contenders computed the same, each to its precision's tolerance.

    Raises:
        DifferentOutputsError: Some probabilities differ, or their number.
    """
    expected = results[work.contenders[0].name][0]["outputs"]
    for contender in work.contenders:
        for outputs in (result["outputs"] for result in results[contender.name]):
            if not expected or outputs is None:
                continue
            message = f"{name}: the probabilities of {contender.name} differ "
            if len(expected) != len(outputs):
                raise DifferentOutputsError(
                    f"{message}in number: {len(outputs)}, not {len(expected)}"
                )
            difference = max(abs(a - b) for a, b in zip(expected, outputs))
            tolerance = TOLERANCES[contender.precision]
            if difference > tolerance:
                raise DifferentOutputsError(
                    f"{message}by {difference:.2g}, more than {tolerance:g}"
                )


def seconds_row(contender: str, seconds: list[float], target: float) -> dict[str, Any]:
    """Return the median and the target, in seconds, of a row of `start`."""
    return {
        "work": "start",
        "contender": contender,
        "seconds": round(median(seconds), 2),
        "target": target,
    }


def markdown(table: list[dict[str, Any]]) -> str:
    """Return rows as a table in Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in table:
        cells = ("" if row.get(c) is None else str(row[c]) for c in COLUMNS)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
