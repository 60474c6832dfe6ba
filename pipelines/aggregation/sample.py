"""The measures of one group in plain Python, to hold an aggregate's table against. Pure; null values are left out."""

import math
import statistics
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipelines.catalog.model import Call

_RELATIVE = 1e-9
_SHARES = {"p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}


def measure_values(
    calls: Mapping[str, Call], rows: Sequence[Sequence[Any]], *, order_width: int = 0
) -> dict[str, Any]:
    """The measures by name, from a group's rows: the columns of each measure, in their order, then what orders rows.

    `order_width`: how many values at the end of a row say which is first.
    """
    ordered = sorted(rows, key=lambda row: tuple(row[len(row) - order_width :])) if order_width else rows
    columns = iter(zip(*ordered, strict=True)) if ordered else iter(())
    found: dict[str, Any] = {}
    for name, call in calls.items():
        if call.column is None:
            found[name] = len(rows)
            continue
        read = [next(columns, ()) for _ in call.columns]
        values = [each for each in zip(*read, strict=True) if None not in each]
        if call.weight is None:
            found[name] = _measure(call.function, [value for (value,) in values])
        else:
            found[name] = _weighted(call.function, values)
    return found


def same_value(stands: Any, fresh: Any) -> bool:
    """Whether the table's value is the recomputed one; numbers within 1e-9 of their size."""
    if isinstance(stands, (int, float, Decimal)) and isinstance(fresh, (int, float, Decimal)):
        if math.isnan(stands) or math.isnan(fresh):
            return math.isnan(stands) and math.isnan(fresh)
        return math.isclose(stands, fresh, rel_tol=_RELATIVE, abs_tol=1e-12)
    return bool(stands == fresh)


def _measure(function: str, values: Sequence[Any]) -> Any:
    if function == "count_distinct":
        return len(set(values))
    if not values:
        return None
    if function in ("first", "last"):
        return values[0 if function == "first" else -1]
    if function in ("min", "max"):
        return min(values) if function == "min" else max(values)
    if function in _SHARES:
        return _percentile(sorted(map(float, values)), _SHARES[function])
    exact = [Decimal(value) for value in values]
    if function == "sum":
        return sum(exact)
    if function == "mean":
        return sum(exact) / len(exact)
    return statistics.stdev(exact) if len(exact) > 1 else None


def _weighted(function: str, pairs: Sequence[Sequence[Any]]) -> Any:
    products = [Decimal(value) * Decimal(weight) for value, weight in pairs]
    weights = sum(Decimal(weight) for _, weight in pairs)
    if function == "sum":
        return sum(products) if products else None
    return sum(products) / weights if weights else None


def _percentile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
