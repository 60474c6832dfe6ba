"""Which column of comics comes from which, for the rules that are Python and SQL. The UI shows it per column.

Kept by hand beside the rules; a test asserts that every column named here exists. Lineage of what a system.yaml
declares is made from it, in `assets.lineage`.
"""

from collections.abc import Mapping

import dagster as dg

from assets.lineage import column_lineage


def _from(table: str, columns: Mapping[str, str]) -> dg.TableColumnLineage:
    """{"grade": "condition title"}: `grade` comes from those columns of comics.`table` (or of `other.column`)."""
    return column_lineage(
        {
            name: [
                (
                    dg.AssetKey(["comics", *source.split(".")[:-1]] if "." in source else ["comics", table]),
                    source.split(".")[-1],
                )
                for source in sources.split()
            ]
            for name, sources in columns.items()
        }
    )


MATCHED = {
    "publishers": _from("pricing_data_raw", {"publisher_id": "title", "publisher_key": "title", "name": "title"}),
    "series": _from(
        "pricing_data_raw",
        {"series_id": "title", "series_key": "title", "name": "title", "start_year": "title", "publisher_id": "title"},
    ),
    "comics": _from(
        "pricing_data_raw",
        {
            "comic_id": "title", "series_id": "title", "comic_key": "title", "issue_number": "title",
            "variant": "title", "year": "title", "title": "title",
        },
    ),
}  # fmt: skip

_SAME = (
    "key_hash",
    "content_hash",
    "source_marketplace",
    "source_record_id",
    "sold_at",
    "sale_date",
    "price",
    "currency",
)
NORMALISED = column_lineage(
    {
        **{name: [(dg.AssetKey(["comics", "pricing_data_raw"]), name)] for name in _SAME},
        "comic_id": [
            (dg.AssetKey(["comics", "pricing_data_raw"]), "title"),
            (dg.AssetKey(["comics", "comics"]), "comic_id"),
        ],
        "price_usd": [
            (dg.AssetKey(["comics", "pricing_data_raw"]), "price"),
            (dg.AssetKey(["comics", "pricing_data_raw"]), "currency"),
            (dg.AssetKey(["comics", "pricing_data_raw"]), "sale_date"),
            (dg.AssetKey(["reference", "fx_rates"]), "rate_per_eur"),
        ],
        "fx_rate": [(dg.AssetKey(["reference", "fx_rates"]), "rate_per_eur")],
        "fx_rate_on": [(dg.AssetKey(["reference", "fx_rates"]), "rate_on")],
        **{
            name: [(dg.AssetKey(["comics", "pricing_data_raw"]), source) for source in ("condition", "title")]
            for name in ("grade", "grade_band", "grade_reason", "grader", "is_firm_grade")
        },
        "is_lot": [(dg.AssetKey(["comics", "pricing_data_raw"]), "title")],
        "lot_size": [(dg.AssetKey(["comics", "pricing_data_raw"]), "title")],
        "is_cross_listed": [
            (dg.AssetKey(["comics", "pricing_data_raw"]), source)
            for source in ("source_marketplace", "sold_at", "price", "title")
        ],
    }
)

_PRICES = ("volume", "min", "p25", "median", "p75", "max", "mean", "stddev")
AGGREGATED = _from(
    "pricing_data_normalized",
    {
        "comic_id": "comic_id",
        "grade_band": "grade_band",
        "period_start": "sale_date",
        "sale_count": "comic_id is_outlier",
        "outlier_count": "is_outlier",
        "cross_listed_count": "is_cross_listed",
        **{f"{name}_usd": "price_usd is_outlier" for name in _PRICES},
    },
)

VIEW_DESCRIPTIONS = {
    "market_prices": "Current price of each comic and grade band, with how many sales it stands on.",
    "collection_values": "What each collection is worth at current prices.",
    "trending_comics": "The comics whose sales grew most in the last week, against the four weeks before.",
    "market_insights": "Movers, volume, sell-through and revenue: the first 50 of each.",
}
VIEW_INPUTS = {
    "collection_values": ("market_prices", "collections", "collection_items"),
    "market_insights": ("market_prices", "marketplace_listings", "marketplace_transactions", "series"),
}
VIEWS = {
    "market_prices": _from(
        "pricing_data_aggregated",
        {
            "comic_id": "comic_id", "grade_band": "grade_band", "current_price_usd": "median_usd sale_count",
            "sale_count_30d": "sale_count", "sale_count_90d": "sale_count", "volume_30d_usd": "volume_usd",
            "low_90d_usd": "min_usd", "high_90d_usd": "max_usd", "last_sale_on": "period_start",
            "change_30d_ratio": "median_usd sale_count", "as_of": "period_start",
        },
    ),
    "collection_values": _from(
        "market_prices",
        {
            "collection_id": "collections.collection_id", "user_id": "collections.user_id",
            "value_usd": "current_price_usd collection_items.quantity",
            "gain_usd": "current_price_usd collection_items.price_paid", "as_of": "as_of",
        },
    ),
    "trending_comics": _from(
        "pricing_data_aggregated",
        {
            "comic_id": "comic_id", "title": "comics.title", "sale_count_7d": "sale_count",
            "volume_7d_usd": "volume_usd", "trend_score": "sale_count", "as_of": "period_start",
        },
    ),
    "market_insights": _from(
        "market_prices",
        {
            "comic_id": "comic_id", "grade_band": "grade_band", "label": "comics.title series.name",
            "value": "change_30d_ratio volume_30d_usd", "sale_count": "sale_count_30d", "volume_usd": "volume_30d_usd",
        },
    ),
}  # fmt: skip
