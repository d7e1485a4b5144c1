"""Figures and how they are printed: a table, or a JSON line each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; floor and peers, by name, were measured in the same run and unit."""

    benchmark: str
    case: str
    value: float
    unit: str
    floor: float | None = None
    peers: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)


def as_json(figures: Sequence[Figure]) -> str:
    """A line each; `peer` is the first of the peers, null where there is none."""
    return "\n".join(json.dumps({**asdict(figure), "peer": _first(figure.peers)}) for figure in figures)


def _first(peers: Mapping[str, float]) -> float | None:
    return next(iter(peers.values()), None)


def as_table(figures: Sequence[Figure]) -> str:
    """A table for each group of figures that share their settings, which stand below it."""
    tables = groupby(figures, key=lambda figure: figure.settings)
    return "\n\n".join(_table(list(group), settings) for settings, group in tables)


def _table(figures: Sequence[Figure], settings: Mapping[str, object]) -> str:
    peers = [*dict.fromkeys(name for figure in figures for name in figure.peers)]
    rows = [("case", "value", "unit", "floor", "of floor", *peers)]
    for figure in figures:
        ratio = f"{figure.value / figure.floor:.2f}" if figure.floor else ""
        beside = (_number(figure.peers.get(name)) for name in peers)
        rows.append((figure.case, _number(figure.value), figure.unit, _number(figure.floor), ratio, *beside))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, ", ".join(f"{name} {value}" for name, value in settings.items())])


def _number(value: float | None) -> str:
    """Two places where they tell something."""
    return "" if value is None else f"{value:,.{2 if value < 10 else 1}f}"
