"""The measures of one group in plain Python, to hold an aggregate's table against. Pure; null values are left out."""

import math
import statistics
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from pipelines.catalog.model import Call

_RELATIVE = 1e-9
_SHARES = {"p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}


def measure_values(calls: Mapping[str, Call], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The measures by name, from a group's rows: the columns of each measure, in their order.

    `rows` stand in the order that first and last go by; what follows a row's columns is not looked at.
    """
    columns = iter(zip(*rows, strict=True))
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
        return len(set(map(_hashable, values)))
    if not values:
        return None
    if function in ("first", "last"):
        return values[0 if function == "first" else -1]
    if function in ("min", "max"):
        return (min if function == "min" else max)(values, key=_nan_last)
    if function in _SHARES:
        return _percentile(sorted(map(float, values), key=_nan_last), _SHARES[function])
    exact = _exact(values)
    if function == "sum":
        return sum(exact)
    if function == "mean":
        return sum(exact) / len(exact)
    if len(exact) < 2:
        return None
    return statistics.stdev(exact) if isinstance(exact[0], Decimal) else math.nan


def _weighted(function: str, pairs: Sequence[Sequence[Any]]) -> Any:
    if not pairs:
        return None
    exact = _exact([each for pair in pairs for each in pair])
    values, weights = exact[::2], exact[1::2]
    products = sum(value * weight for value, weight in zip(values, weights, strict=True))
    if function == "sum":
        return products
    total = sum(weights)
    return products / total if total else None


def _exact(values: Sequence[Any]) -> Sequence[Any]:
    """As decimals; as floats where one is no number or infinite, of which decimals make an error."""
    exact = [Decimal(value) for value in values]
    return exact if all(map(Decimal.is_finite, exact)) else [float(value) for value in exact]


def _nan_last(value: Any) -> tuple[bool, Any]:
    """PostgreSQL's order, in which NaN comes after all numbers."""
    return value != value, value


def _hashable(value: Any) -> Any:
    """The same for values that PostgreSQL takes for equal: NaN, JSON objects in any order of their keys."""
    if isinstance(value, dict):
        return frozenset((key, _hashable(each)) for key, each in value.items())
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if isinstance(value, bool):
        return bool, value
    return "NaN" if value != value else value


def _percentile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    if low == high:  # from here on an infinite neighbour would count
        return ordered[low]
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
