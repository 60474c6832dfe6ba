-- Refreshing materialised views that migrations make.

-- name: analyse_little
-- A concurrent refresh analyses the new rows and the difference, thirty thousand rows of each by default: a fifth of its
-- work, for a plan that needs no more than how many there are. Until the transaction ends.
SET LOCAL default_statistics_target = 10

-- name: refresh_view
-- Readers go on while it runs; two refreshes of a view take turns. Relies on a unique index of the view.
REFRESH MATERIALIZED VIEW CONCURRENTLY {view}

-- name: fill_view
-- The first time: a view that was never filled cannot be read, so that nobody is blocked, nor refreshed concurrently.
REFRESH MATERIALIZED VIEW {view}

-- name: count_view
SELECT count(*) FROM {view}
