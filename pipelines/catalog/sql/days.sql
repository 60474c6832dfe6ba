-- name: record_days
-- Notes what became of landing days at an asset; the newest run has the word. Primary key (asset, landing_day).
INSERT INTO longbox.day_results (asset, landing_day, outcome, counts, problems, run_id, finished_at)
SELECT %(asset)s, day, %(outcome)s, %(counts)s, %(problems)s, %(run_id)s, now()
FROM unnest(%(days)s::date[]) AS day ORDER BY day
ON CONFLICT (asset, landing_day) DO UPDATE
SET outcome = excluded.outcome, counts = excluded.counts, problems = excluded.problems, run_id = excluded.run_id,
    finished_at = excluded.finished_at

-- name: lock_days
-- One run at a time combines the parts of a day; goes with the transaction. In order, so that two runs never cross.
SELECT pg_advisory_xact_lock(hashtextextended('longbox day ' || %(asset)s || day::text, 0))
FROM (SELECT day FROM unnest(%(days)s::date[]) AS day ORDER BY day) AS ordered

-- name: combine_days
-- Days of an asset with several parts: the worst outcome, counts summed, problems all named. Primary key (asset, landing_day).
INSERT INTO longbox.day_results (asset, landing_day, outcome, counts, problems, run_id, finished_at)
SELECT %(asset)s, day,
       CASE WHEN bool_or(outcome = 'failed') THEN 'failed'
            WHEN bool_or(outcome = 'incomplete') THEN 'incomplete' ELSE 'complete' END,
       (SELECT coalesce(jsonb_object_agg(name, total), '{}')
        FROM (SELECT entry.key AS name, sum(entry.value::bigint)::bigint AS total
              FROM longbox.day_results AS part, jsonb_each_text(part.counts) AS entry
              WHERE part.asset = ANY (%(parts)s) AND part.landing_day = day GROUP BY entry.key) AS totals),
       (SELECT coalesce(jsonb_agg(problem), '[]')
        FROM longbox.day_results AS part, jsonb_array_elements(part.problems) AS problem
        WHERE part.asset = ANY (%(parts)s) AND part.landing_day = day),
       %(run_id)s, now()
FROM unnest(%(days)s::date[]) AS day LEFT JOIN longbox.day_results ON asset = ANY (%(parts)s) AND landing_day = day
GROUP BY day ORDER BY day
ON CONFLICT (asset, landing_day) DO UPDATE
SET outcome = excluded.outcome, counts = excluded.counts, problems = excluded.problems, run_id = excluded.run_id,
    finished_at = excluded.finished_at

-- name: failed_days
-- Which of the days failed at an asset. Primary key (asset, landing_day).
SELECT landing_day FROM longbox.day_results
WHERE asset = %(asset)s AND landing_day = ANY(%(days)s) AND outcome = 'failed'
