"""Where a column comes from: landed name to table column, table column to aggregate, as the UI's lineage shows it.

Made from the catalogue alone. The lineage of rules that are Python or SQL stands beside them, in the system's folder.
https://docs.dagster.io/guides/build/assets/metadata-and-tags/column-level-lineage
"""

from collections.abc import Mapping, Sequence

import dagster as dg

from pipelines.catalog.model import Aggregate, Feed, Gaps, System

Source = tuple[dg.AssetKey, str]


def column_lineage(sources: Mapping[str, Sequence[Source]]) -> dg.TableColumnLineage:
    """Dagster's form of {column: its sources}. A source that stands twice is one: Dagster refuses a repeated one."""
    return dg.TableColumnLineage(
        {
            column: [
                dg.TableColumnDep(asset_key=key, column_name=name) for key, name in dict.fromkeys(columns)
            ]
            for column, columns in sources.items()
        }
    )


def written_lineage(system: str, columns: Mapping[str, str]) -> dg.TableColumnLineage:
    """Lineage written by hand: {"price_usd": "raw.price reference/fx_rates.rate_per_eur"}, in words of table.column."""
    sources: dict[str, list[Source]] = {}
    for column, words in columns.items():
        for word in words.split():
            table, _, name = word.rpartition(".")
            key = dg.AssetKey(table.split("/") if "/" in table else [system, table])
            sources.setdefault(column, []).append((key, name))
    return column_lineage(sources)


def landed_columns(feed: Feed) -> dg.TableSchema:
    """The columns that a feed's files are known to have, under the names that land."""
    landed = feed.landed_names
    names = [column for column in _known_columns(feed) if column not in feed.derive]
    return dg.TableSchema(
        columns=[dg.TableColumn(landed.get(column, [column])[0], type="text") for column in names]
    )


def landing_lineage(system: System, feeds: Sequence[Feed]) -> dg.TableColumnLineage:
    """Each column of a feed's table from the landed column it is read or derived from."""
    sources: dict[str, list[Source]] = {}
    for feed in feeds:
        key = dg.AssetKey(["landing", system.name, feed.name])
        landed = feed.landed_names
        derived = {column: str(call.column) for column, call in feed.derivations.items()}
        for column in _known_columns(feed):
            origin = derived.get(column, column)
            sources.setdefault(column, []).append((key, landed.get(origin, [origin])[0]))
    return column_lineage(sources)


def aggregate_lineage(system: System, aggregate: Aggregate) -> dg.TableColumnLineage:
    """Each column of an aggregate from the column it groups by or measures; a bare count is of the whole group."""
    key = dg.AssetKey([system.name, aggregate.from_])
    groups = {group.name: [(key, group.column)] for group in aggregate.groups}
    grouped = [(key, group.column) for group in aggregate.groups]
    measures = {
        name: [(key, column) for column in call.columns] or grouped for name, call in aggregate.calls.items()
    }
    return column_lineage({**groups, **measures})


def gap_lineage(system: System, gaps: Gaps) -> dg.TableColumnLineage:
    """Each column of a table of gaps from the column that tells the series or the time."""
    key = dg.AssetKey([system.name, gaps.from_])
    time = [(key, str(system.tables[gaps.from_].time))]
    series = {name: [(key, name)] for name in gaps.by}
    return column_lineage({**series, **dict.fromkeys(("gap_from", "gap_to", "missing_count"), time)})


def _known_columns(feed: Feed) -> list[str]:
    """The table columns that the catalogue says a feed fills; landed columns of the same name may be more."""
    declared = feed.table_columns or {}
    return list(dict.fromkeys([*feed.columns.values(), *feed.key, *feed.require, *declared, *feed.derive]))
