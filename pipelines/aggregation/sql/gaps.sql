-- Gaps in a series, between the rows next to those that landing days touched. All of it runs in one transaction, after
-- touch_groups of aggregation.sql: touched_groups holds (the series' columns, gap_from: a touched step).

-- name: create_spans
-- The stretch of each series, month by month, in which gaps may have changed: from the last row before what was touched
-- to the first after it. Relies on an index on (the series' columns, time).
CREATE TEMP TABLE touched_spans ON COMMIT DROP AS
SELECT {span_by}, coalesce(before.step, span.low) AS low, coalesce(after.step, span.high) AS high
FROM (SELECT {by}, min(gap_from) AS low, max(gap_from) AS high FROM touched_groups WHERE {is_named}
      GROUP BY {by}, date_trunc('month', gap_from)) AS span
LEFT JOIN LATERAL (SELECT {step_of} AS step FROM {source} AS source
                   WHERE {same_series} AND {time} < span.low AND {is_current}
                   ORDER BY {time} DESC LIMIT 1) AS before ON true
LEFT JOIN LATERAL (SELECT {step_of} AS step FROM {source} AS source
                   WHERE {same_series} AND {time} >= span.high + {step} AND {is_current}
                   ORDER BY {time} LIMIT 1) AS after ON true

-- name: create_fresh_gaps
-- The gaps within the stretches; stretches that overlap find the same ones.
CREATE TEMP TABLE fresh_gaps ON COMMIT DROP AS
SELECT DISTINCT {by}, step + {step} AS gap_from, next_step AS gap_to,
       (extract(epoch FROM next_step - step) / extract(epoch FROM {step}::interval))::bigint - 1 AS missing_count
FROM (SELECT {by}, step, lead(step) OVER (PARTITION BY {by}, low, high ORDER BY step) AS next_step
      FROM (SELECT DISTINCT {span_by}, span.low, span.high, {step_of} AS step
            FROM touched_spans AS span
            JOIN {source} AS source ON {same_series} AND {time} >= span.low AND {time} < span.high + {step}
            WHERE {is_current}) AS present) AS followed
WHERE next_step > step + {step}

-- name: delete_closed_gaps
-- Gaps that reach into a stretch and are not among those found there.
DELETE FROM {gaps} AS kept USING touched_spans AS span
WHERE ROW({kept_by}) = ROW({span_by}) AND kept.gap_from <= span.high AND kept.gap_to > span.low
  AND NOT EXISTS (SELECT FROM fresh_gaps AS fresh
                  WHERE ROW({fresh_by}) = ROW({kept_by}) AND fresh.gap_from = kept.gap_from)

-- name: upsert_gaps
-- Gaps that are new or end elsewhere; the others are not written.
INSERT INTO {gaps} AS kept ({by}, gap_from, gap_to, missing_count)
SELECT {by}, gap_from, gap_to, missing_count FROM fresh_gaps
ON CONFLICT ({by}, gap_from) DO UPDATE
   SET gap_to = excluded.gap_to, missing_count = excluded.missing_count, computed_at = now()
 WHERE (kept.gap_to, kept.missing_count) IS DISTINCT FROM (excluded.gap_to, excluded.missing_count)

-- name: newest_gaps
-- The number of all gaps, and the last ones.
SELECT count(*) OVER (), {by}, gap_from, gap_to, missing_count FROM {gaps} ORDER BY gap_to DESC, {by} LIMIT %(count)s
