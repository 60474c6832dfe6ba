-- name: lock_fx_load
-- One load of reference rates at a time; released with the transaction. Parameter: lock_key.
SELECT pg_advisory_xact_lock(%(lock_key)s::bigint)

-- name: make_fx_stage
-- Where the file's rates wait to be compared with the table.
CREATE TEMPORARY TABLE fx_stage (currency text, rate_on date, rate_per_eur numeric) ON COMMIT DROP

-- name: copy_fx_stage
-- The file's rates in COPY's text format.
COPY pg_temp.fx_stage (currency, rate_on, rate_per_eur) FROM STDIN

-- name: merge_fx_rates
-- Adds new rates and updates changed ones; an equal rate is not touched (no dead rows on a second load).
-- Parameter: source, the file's name. Relies on the primary key (currency, rate_on).
-- Returns rates written, how many of them replaced another value, and the first day that changed.
WITH difference AS (
    SELECT stage.currency, stage.rate_on, stage.rate_per_eur, known.currency IS NOT NULL AS is_change
    FROM pg_temp.fx_stage AS stage
    LEFT JOIN reference.fx_rates AS known USING (currency, rate_on)
    WHERE known.rate_per_eur IS DISTINCT FROM stage.rate_per_eur
), written AS (
    INSERT INTO reference.fx_rates AS kept (currency, rate_on, rate_per_eur, source)
    SELECT currency, rate_on, rate_per_eur, %(source)s FROM difference
    ON CONFLICT (currency, rate_on) DO UPDATE
        SET rate_per_eur = excluded.rate_per_eur, source = excluded.source, loaded_at = now()
    RETURNING 1
)
SELECT count(*), count(*) FILTER (WHERE is_change), min(rate_on) FROM difference

-- name: ledger_fx_change
-- A published rate that was replaced stands in the ledger. Parameters: relation, changed, proof, run_id.
INSERT INTO longbox.ledger (act, relation, policy, affected_rows, proof, run_id)
VALUES ('update', %(relation)s, 'fx_rates_corrected', %(changed)s, %(proof)s, %(run_id)s)

-- name: drop_fx_stage
-- The staged rates are merged.
DROP TABLE pg_temp.fx_stage
