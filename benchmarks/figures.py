"""Figures and how they are printed: a table, or a JSON line each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; floor and peer were measured in the same run and unit, None where there is none."""

    benchmark: str
    case: str
    value: float
    unit: str
    floor: float | None = None
    peer: float | None = None
    settings: Mapping[str, object] = field(default_factory=dict)


def as_json(figures: Sequence[Figure]) -> str:
    return "\n".join(json.dumps(asdict(figure)) for figure in figures)


def as_table(figures: Sequence[Figure]) -> str:
    """A table for each group of figures that share their settings, which stand below it."""
    tables = groupby(figures, key=lambda figure: figure.settings)
    return "\n\n".join(_table(list(group), settings) for settings, group in tables)


def _table(figures: Sequence[Figure], settings: Mapping[str, object]) -> str:
    rows = [("case", "value", "unit", "floor", "of floor", "peer")]
    for figure in figures:
        ratio = f"{figure.value / figure.floor:.2f}" if figure.floor else ""
        numbers = _number(figure.value), figure.unit, _number(figure.floor), ratio, _number(figure.peer)
        rows.append((figure.case, *numbers))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, ", ".join(f"{name} {value}" for name, value in settings.items())])


def _number(value: float | None) -> str:
    """Two places where they tell something."""
    return "" if value is None else f"{value:,.{2 if value < 10 else 1}f}"
