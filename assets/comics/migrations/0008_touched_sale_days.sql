-- comics 0008: What aggregating has still to take in is named by sale day, not by month
--
-- Aggregation deletes from longbox.touched what it has taken in. What it took in before it did so goes here; what is
-- pending, by month, becomes the days of that month.

-- migrate: up
DELETE FROM longbox.touched AS pending
USING longbox.day_results AS normalised, longbox.day_results AS aggregated
WHERE pending.table_name = 'comics.pricing_data_normalized'
  AND (normalised.asset, normalised.landing_day) = ('comics/pricing_data_normalized', pending.landing_day)
  AND (aggregated.asset, aggregated.landing_day) = ('comics/pricing_data_aggregated', pending.landing_day)
  AND aggregated.outcome = 'complete' AND aggregated.finished_at > normalised.finished_at;
INSERT INTO longbox.touched (table_name, landing_day, group_key, event_on)
SELECT table_name, landing_day, group_key, event_on + later
FROM longbox.touched, generate_series(1, 30) AS later
WHERE table_name = 'comics.pricing_data_normalized'
  AND date_trunc('month', event_on + later) = date_trunc('month', event_on)
ON CONFLICT DO NOTHING;
COMMENT ON COLUMN longbox.touched.event_on IS 'The day on which a row of the group changed';

-- migrate: down
COMMENT ON COLUMN longbox.touched.event_on IS NULL;
INSERT INTO longbox.touched (table_name, landing_day, group_key, event_on)
SELECT DISTINCT table_name, landing_day, group_key, date_trunc('month', event_on)::date
FROM longbox.touched WHERE table_name = 'comics.pricing_data_normalized'
ON CONFLICT DO NOTHING;
DELETE FROM longbox.touched
WHERE table_name = 'comics.pricing_data_normalized' AND event_on <> date_trunc('month', event_on)::date;
