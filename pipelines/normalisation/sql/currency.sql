-- name: convert_to_usd
-- For each (currency, sale date), in the order given: the last day on which the ECB published both the currency and
-- the dollar, at most fallback_days before the sale date, with both rates per euro; whether the currency is known at
-- all; the newest day published. EUR is the base: 1 on every day that has a dollar rate.
-- Parameters: currencies text[], sale_dates date[], fallback_days int.
-- Relies on the primary key (currency, rate_on) of reference.fx_rates: one short index range a pair.
SELECT pair.ordinal, quote.rate_on, quote.usd_per_eur, quote.units_per_eur,
       pair.currency = 'EUR'
           OR EXISTS (SELECT FROM reference.fx_rates AS any_day WHERE any_day.currency = pair.currency) AS is_known,
       newest.rate_on AS newest_on
FROM unnest(%(currencies)s::text[], %(sale_dates)s::date[]) WITH ORDINALITY AS pair (currency, sale_date, ordinal)
CROSS JOIN (SELECT max(rate_on) AS rate_on FROM reference.fx_rates WHERE currency = 'USD') AS newest
LEFT JOIN LATERAL (
    SELECT dollar.rate_on, dollar.rate_per_eur AS usd_per_eur,
           CASE WHEN pair.currency = 'EUR' THEN 1 ELSE own.rate_per_eur END AS units_per_eur
    FROM reference.fx_rates AS dollar
    LEFT JOIN reference.fx_rates AS own ON own.currency = pair.currency AND own.rate_on = dollar.rate_on
    WHERE dollar.currency = 'USD'
      AND dollar.rate_on BETWEEN pair.sale_date - %(fallback_days)s::int AND pair.sale_date
      AND (pair.currency = 'EUR' OR own.rate_on IS NOT NULL)
    ORDER BY dollar.rate_on DESC
    LIMIT 1
) AS quote ON true
ORDER BY pair.ordinal
