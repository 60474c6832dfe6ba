"""Which column of comics comes from which, for the rules that are Python and SQL. The UI shows it per column.

Kept by hand beside the rules: `column: its sources`, each as `table.column` of this system or `system/table.column`.
A test asserts that every column named here exists. What a system.yaml declares has its lineage from there.
"""

_TITLE = "pricing_data_raw.title"
_CONDITION = f"pricing_data_raw.condition {_TITLE}"

MATCHED = {
    "publishers": {"publisher_id": _TITLE, "publisher_key": _TITLE, "name": _TITLE},
    "series": {
        "series_id": _TITLE,
        "series_key": _TITLE,
        "name": _TITLE,
        "start_year": _TITLE,
        "publisher_id": "publishers.publisher_id",
    },
    "comics": {
        "comic_id": _TITLE,
        "series_id": "series.series_id",
        "comic_key": _TITLE,
        "issue_number": _TITLE,
        "variant": _TITLE,
        "year": _TITLE,
        "title": _TITLE,
    },
}

_AS_LANDED = "key_hash content_hash source_marketplace source_record_id sold_at sale_date price currency"
NORMALISED = {
    **{name: f"pricing_data_raw.{name}" for name in _AS_LANDED.split()},
    "comic_id": f"{_TITLE} comics.comic_id",
    "price_usd": "pricing_data_raw.price pricing_data_raw.currency pricing_data_raw.sale_date "
    "reference/fx_rates.rate_per_eur",
    "fx_rate": "reference/fx_rates.rate_per_eur",
    "fx_rate_on": "reference/fx_rates.rate_on",
    "grade": _CONDITION,
    "grade_band": _CONDITION,
    "grade_reason": _CONDITION,
    "grader": _CONDITION,
    "is_firm_grade": _CONDITION,
    "is_lot": _TITLE,
    "lot_size": _TITLE,
}

_PRICE = "pricing_data_normalized.price_usd pricing_data_normalized.is_outlier"
AGGREGATED = {
    "comic_id": "pricing_data_normalized.comic_id",
    "grade_band": "pricing_data_normalized.grade_band",
    "period_start": "pricing_data_normalized.sale_date",
    "sale_count": "pricing_data_normalized.comic_id pricing_data_normalized.is_outlier",
    "outlier_count": "pricing_data_normalized.is_outlier",
    "cross_listed_count": "pricing_data_normalized.is_cross_listed",
    **{f"{name}_usd": _PRICE for name in ["volume", "min", "p25", "median", "p75", "max", "mean", "stddev"]},
}

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
    "market_prices": {
        "comic_id": "pricing_data_aggregated.comic_id",
        "grade_band": "pricing_data_aggregated.grade_band",
        "current_price_usd": "pricing_data_aggregated.median_usd pricing_data_aggregated.sale_count",
        "sale_count_30d": "pricing_data_aggregated.sale_count",
        "sale_count_90d": "pricing_data_aggregated.sale_count",
        "volume_30d_usd": "pricing_data_aggregated.volume_usd",
        "low_90d_usd": "pricing_data_aggregated.min_usd",
        "high_90d_usd": "pricing_data_aggregated.max_usd",
        "last_sale_on": "pricing_data_aggregated.period_start",
        "change_30d_ratio": "pricing_data_aggregated.median_usd pricing_data_aggregated.sale_count",
        "as_of": "pricing_data_aggregated.period_start",
    },
    "collection_values": {
        "collection_id": "collections.collection_id",
        "user_id": "collections.user_id",
        "value_usd": "market_prices.current_price_usd collection_items.quantity",
        "gain_usd": "market_prices.current_price_usd collection_items.price_paid",
        "as_of": "market_prices.as_of",
    },
    "trending_comics": {
        "comic_id": "pricing_data_aggregated.comic_id",
        "title": "comics.title",
        "sale_count_7d": "pricing_data_aggregated.sale_count",
        "volume_7d_usd": "pricing_data_aggregated.volume_usd",
        "trend_score": "pricing_data_aggregated.sale_count",
        "as_of": "pricing_data_aggregated.period_start",
    },
    "market_insights": {
        "comic_id": "market_prices.comic_id",
        "grade_band": "market_prices.grade_band",
        "label": "comics.title series.name",
        "value": "market_prices.change_30d_ratio market_prices.volume_30d_usd",
        "sale_count": "market_prices.sale_count_30d",
        "volume_usd": "market_prices.volume_30d_usd",
    },
}
