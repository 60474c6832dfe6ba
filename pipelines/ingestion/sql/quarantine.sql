-- The quarantine: what is open, what it said, and its replay.

-- name: list_quarantine
-- Relies on quarantine (feed_id, landing_day) where status is open.
SELECT q.quarantine_id, f.system || '/' || f.feed, q.landing_day, q.file_name, q.line, q.column_name, q.reason, q.detail,
       q.remedy, q.status, left(q.raw_text, 200)
FROM longbox.quarantine q JOIN longbox.feeds f USING (feed_id)
WHERE (%(feed)s::text IS NULL OR f.system || '/' || f.feed = %(feed)s)
  AND (%(reason)s::text IS NULL OR q.reason = %(reason)s)
  AND (%(status)s::text IS NULL OR q.status = %(status)s)
  AND (%(landing_day)s::date IS NULL OR q.landing_day = %(landing_day)s)
ORDER BY q.quarantine_id
LIMIT %(limit)s

-- name: count_quarantine
SELECT f.system || '/' || f.feed, q.reason, count(*)
FROM longbox.quarantine q JOIN longbox.feeds f USING (feed_id)
WHERE q.status = %(status)s
GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2

-- name: show_quarantined
SELECT q.quarantine_id, f.system || '/' || f.feed, q.landing_day, q.file_name, q.line, q.column_name, q.reason, q.detail,
       q.remedy, q.status, q.raw_text
FROM longbox.quarantine q JOIN longbox.feeds f USING (feed_id)
WHERE q.quarantine_id = %(quarantine_id)s

-- name: dismiss_quarantined
UPDATE longbox.quarantine SET status = 'dismissed', closed_at = now()
WHERE quarantine_id = ANY (%(ids)s) AND status = 'open'

-- name: loads_to_replay
SELECT DISTINCT q.load_id
FROM longbox.quarantine q JOIN longbox.feeds f USING (feed_id)
WHERE f.system || '/' || f.feed = %(feed)s AND q.status = 'open' AND q.line IS NOT NULL
  AND (%(ids)s::bigint[] IS NULL OR q.quarantine_id = ANY (%(ids)s))
ORDER BY q.load_id

-- name: load_to_replay
-- A file that landed again on a later day is judged by that day: what was of the future is no longer.
SELECT l.landing_day, l.file_name, l.content_hash, l.header,
       (SELECT max(again.landing_day) FROM longbox.loads again
        WHERE again.feed_id = l.feed_id AND again.content_hash = l.content_hash)
FROM longbox.loads l WHERE l.load_id = %(load_id)s

-- name: rows_to_replay
SELECT quarantine_id, ordinal, line, reason, raw_text FROM longbox.quarantine
WHERE load_id = %(load_id)s AND status = 'open' AND line IS NOT NULL
  AND (%(ids)s::bigint[] IS NULL OR quarantine_id = ANY (%(ids)s))
ORDER BY ordinal
FOR UPDATE

-- name: judge_again
-- The row stays: what is wrong with it under today's rules.
UPDATE longbox.quarantine
SET column_name = %(column)s, reason = %(reason)s, detail = %(detail)s, remedy = %(remedy)s
WHERE quarantine_id = %(quarantine_id)s

-- name: close_replayed
UPDATE longbox.quarantine SET status = 'replayed', closed_at = now() WHERE quarantine_id = ANY (%(ids)s)

-- name: account_replay
UPDATE longbox.loads
SET loaded_rows = loaded_rows + %(loaded)s, duplicate_rows = duplicate_rows + %(duplicate)s,
    quarantined_rows = quarantined_rows - %(loaded)s - %(duplicate)s
WHERE load_id = %(load_id)s
