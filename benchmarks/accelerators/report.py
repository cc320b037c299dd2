"""Rows of ``accelerators.programs`` as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tables import Row, number, percent, table

from accelerators import targets


def markdown(rows: Sequence[Row]) -> str:
    """Return one table for each target, number of devices and precision, under a line that names it."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((row["target"], row["precision"]), []).append(row)
    parts = []
    for (target, precision), group in groups.items():
        chip = targets.parse(target).chip
        parts.append(
            f"{target}, {precision}: {chip.title}, {number(chip.memory / 1e9)} GB, {number(chip.bandwidth / 1e9)} GB/s, "
            f"{number(chip.peak(precision) / 1e12)} TFLOP/s.\n\n{_table(group)}"
        )
    return "\n\n".join(parts)


def _table(rows: Sequence[Row]) -> str:
    def column(show) -> list[str]:
        return ["-" if row["failure"] else show(row) for row in rows]

    return table(
        {
            "model": [_name(row) for row in rows],
            "batch": [str(row["batch_size"]) for row in rows],
            "devices": column(lambda row: f"{row['devices']}{_divided(row)}"),
            "compiles, s": [row["failure"] or number(row["compile_seconds"]) for row in rows],
            "arguments + temporaries, MB": column(
                lambda row: f"{number(row['argument_bytes'] / 1e6)} + {number(row['temporary_bytes'] / 1e6)}"
            ),
            "of memory": column(lambda row: percent(row["memory_share"])),
            "GFLOP a step": column(lambda row: number(row["flops"] / 1e9)),
            "MB a step": column(lambda row: number(row["moved"] / 1e6)),
            "roofline, µs": column(lambda row: f"{number(row['roofline_seconds'] * 1e6)} ({row['bound']})"),
            "compiler, µs": column(lambda row: number(row["compiler_seconds"] and row["compiler_seconds"] * 1e6)),
            "kernels a step": column(lambda row: f"{row['kernels']:,}"),
            "fusions, library": column(
                lambda row: f"{row['kinds'].get('fusion', 0):,}, {row['kinds'].get('library', 0):,}"
            ),
            "convolutions, grouped": column(lambda row: f"{row['convolutions']}, {row['grouped']}"),
            "loops": column(lambda row: str(row["loops"])),
            "copies, MB": column(lambda row: number(row["copies"] / 1e6)),
            "padding": column(lambda row: number(row["padding"], "x")),
            "collectives, MB": column(_collectives),
            "donated": column(_donated),
            "host": column(lambda row: ", ".join(row["host"]) or "none"),
        }
    )


def _name(row: Row) -> str:
    stage = "" if row["stage"] in (row["model"], "model") else f", {row['stage']}"
    members = f" x {row['population']}" if row["population"] > 1 else ""
    return f"{row['model']}{stage}{members}"


def _divided(row: Row) -> str:
    return f" ({row['placement']})" if row["placement"] else ""


def _collectives(row: Row) -> str:
    calls = row["collective_calls"]
    return (
        ", ".join(f"{calls[kind]} {kind} {number(size / 1e6)}" for kind, size in row["collectives"].items()) or "none"
    )


def _donated(row: Row) -> str:
    return "all" if row["donated"] == row["donated_of"] else f"{row['donated']} of {row['donated_of']}"
