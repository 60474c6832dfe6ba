-- chain 0001: Backfill jobs, feedback on insights, metrics
--
-- Feedback and metrics are logs of versions that only grow: longbox.record_keys tells which version is current, and so
-- keeps the one opinion a user and insight that a unique key over a partitioned table could not.

-- migrate: up
CREATE FUNCTION chain.keep_timestamps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.created_at := OLD.created_at;
  NEW.updated_at := now();
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION chain.keep_timestamps() IS 'Trigger: created_at never changes, updated_at is the last change, whatever the writer says';

CREATE TABLE chain.backfill_jobs (
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now(),
  started_at     timestamptz,
  finished_at    timestamptz,
  job_id         uuid NOT NULL DEFAULT gen_random_uuid(),
  requested_by   uuid,
  from_block     bigint NOT NULL CHECK (from_block >= 0),
  to_block       bigint NOT NULL,
  done_blocks    bigint NOT NULL DEFAULT 0 CHECK (done_blocks >= 0),
  lock_version   integer NOT NULL DEFAULT 1 CHECK (lock_version >= 1),
  chain_name     text NOT NULL CHECK (chain_name <> ''),
  status         text NOT NULL DEFAULT 'queued',
  error_message  text,
  parameters     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(parameters) = 'object'),
  progress_ratio numeric(5,4) GENERATED ALWAYS AS (least(1, done_blocks::numeric / greatest(1, to_block - from_block + 1))) STORED,
  PRIMARY KEY (job_id, created_at),
  CONSTRAINT job_range_is_not_empty CHECK (to_block >= from_block),
  CONSTRAINT job_has_a_status CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
  CONSTRAINT job_that_runs_says_since_when CHECK (status <> 'running' OR started_at IS NOT NULL),
  CONSTRAINT job_that_ended_says_when CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
  CONSTRAINT job_that_failed_says_why CHECK (status <> 'failed' OR error_message IS NOT NULL)
) PARTITION BY RANGE (created_at);
COMMENT ON TABLE chain.backfill_jobs IS 'Backfills of chain data, under way or done';
COMMENT ON COLUMN chain.backfill_jobs.created_at IS 'When it was asked for; decides the partition';
COMMENT ON COLUMN chain.backfill_jobs.updated_at IS 'Last change of this row';
COMMENT ON COLUMN chain.backfill_jobs.started_at IS 'When work on it began';
COMMENT ON COLUMN chain.backfill_jobs.finished_at IS 'When it ended, well or not';
COMMENT ON COLUMN chain.backfill_jobs.job_id IS 'Identity of the job';
COMMENT ON COLUMN chain.backfill_jobs.requested_by IS 'Who asked for it; null for the service itself';
COMMENT ON COLUMN chain.backfill_jobs.from_block IS 'First block';
COMMENT ON COLUMN chain.backfill_jobs.to_block IS 'Last block, inclusive';
COMMENT ON COLUMN chain.backfill_jobs.done_blocks IS 'Blocks done so far';
COMMENT ON COLUMN chain.backfill_jobs.lock_version IS 'Grows with every change: a writer names the one it read';
COMMENT ON COLUMN chain.backfill_jobs.chain_name IS 'Which chain';
COMMENT ON COLUMN chain.backfill_jobs.status IS 'queued, running, completed, failed or cancelled';
COMMENT ON COLUMN chain.backfill_jobs.error_message IS 'Why it failed';
COMMENT ON COLUMN chain.backfill_jobs.parameters IS 'How it was asked for';
COMMENT ON COLUMN chain.backfill_jobs.progress_ratio IS 'Share of its blocks that are done, 0 to 1';
CREATE INDEX backfill_jobs_open ON chain.backfill_jobs (created_at) WHERE status IN ('queued', 'running');
CREATE INDEX backfill_jobs_by_status ON chain.backfill_jobs (status, created_at DESC);
CREATE INDEX backfill_jobs_by_chain ON chain.backfill_jobs (chain_name, from_block);
CREATE INDEX backfill_jobs_by_requester ON chain.backfill_jobs (requested_by, created_at DESC) WHERE requested_by IS NOT NULL;
CREATE TRIGGER backfill_jobs_timestamps BEFORE UPDATE ON chain.backfill_jobs
  FOR EACH ROW EXECUTE FUNCTION chain.keep_timestamps();

CREATE TABLE chain.insight_feedback (
  raw_id        bigint GENERATED ALWAYS AS IDENTITY,
  submitted_at  timestamptz NOT NULL,
  updated_at    timestamptz,
  loaded_at     timestamptz NOT NULL DEFAULT now(),
  load_id       bigint NOT NULL,
  line          bigint NOT NULL,
  landing_day   date NOT NULL,
  key_hash      uuid NOT NULL,
  content_hash  uuid NOT NULL,
  user_id       uuid NOT NULL,
  insight_id    uuid NOT NULL,
  rating        smallint,
  is_flagged    boolean NOT NULL DEFAULT false,
  comment       text,
  rating_count  integer GENERATED ALWAYS AS ((rating IS NOT NULL)::integer) STORED,
  flag_count    integer GENERATED ALWAYS AS (is_flagged::integer) STORED,
  comment_count integer GENERATED ALWAYS AS ((coalesce(comment, '') <> '')::integer) STORED,
  PRIMARY KEY (raw_id, submitted_at),
  CONSTRAINT rating_is_one_to_five CHECK (rating BETWEEN 1 AND 5),
  CONSTRAINT feedback_says_something CHECK (rating IS NOT NULL OR is_flagged OR coalesce(comment, '') <> '')
) PARTITION BY RANGE (submitted_at);
COMMENT ON TABLE chain.insight_feedback IS 'Every version of every opinion on an insight as it landed: a log that only grows';
COMMENT ON COLUMN chain.insight_feedback.raw_id IS 'Number of the row, without meaning';
COMMENT ON COLUMN chain.insight_feedback.submitted_at IS 'When the user first said it; decides the partition';
COMMENT ON COLUMN chain.insight_feedback.updated_at IS 'When this version was said: the later one wins';
COMMENT ON COLUMN chain.insight_feedback.loaded_at IS 'When the row was loaded';
COMMENT ON COLUMN chain.insight_feedback.load_id IS 'The file it came from: longbox.loads';
COMMENT ON COLUMN chain.insight_feedback.line IS 'Line in that file';
COMMENT ON COLUMN chain.insight_feedback.landing_day IS 'Day whose landing folder held the file';
COMMENT ON COLUMN chain.insight_feedback.key_hash IS 'Identity of the record, as in longbox.record_keys';
COMMENT ON COLUMN chain.insight_feedback.content_hash IS 'Identity of this version of the record';
COMMENT ON COLUMN chain.insight_feedback.user_id IS 'Whose opinion it is';
COMMENT ON COLUMN chain.insight_feedback.insight_id IS 'Which insight it is about';
COMMENT ON COLUMN chain.insight_feedback.rating IS '1 (useless) to 5 (excellent); null if only flagged or commented';
COMMENT ON COLUMN chain.insight_feedback.is_flagged IS 'Whether the user calls the insight wrong';
COMMENT ON COLUMN chain.insight_feedback.comment IS 'In the user''s words';
COMMENT ON COLUMN chain.insight_feedback.rating_count IS '1 with a rating, so that sums count them';
COMMENT ON COLUMN chain.insight_feedback.flag_count IS '1 if flagged, so that sums count them';
COMMENT ON COLUMN chain.insight_feedback.comment_count IS '1 with a comment, so that sums count them';
CREATE INDEX insight_feedback_by_load ON chain.insight_feedback (load_id);
CREATE INDEX insight_feedback_by_key ON chain.insight_feedback (key_hash);
CREATE INDEX insight_feedback_by_insight ON chain.insight_feedback (insight_id, submitted_at DESC);
CREATE INDEX insight_feedback_by_user ON chain.insight_feedback (user_id, submitted_at DESC);
CREATE INDEX insight_feedback_flagged ON chain.insight_feedback (insight_id) WHERE is_flagged;

CREATE VIEW chain.current_insight_feedback AS
SELECT feedback.user_id, feedback.insight_id, feedback.rating, feedback.is_flagged, feedback.comment, feedback.submitted_at,
       feedback.updated_at
FROM chain.insight_feedback AS feedback
WHERE NOT EXISTS (SELECT FROM longbox.record_keys AS version
                  WHERE version.feed_id = (SELECT feed_id FROM longbox.feeds WHERE system = 'chain' AND feed = 'feedback')
                    AND version.key_hash = feedback.key_hash AND version.content_hash = feedback.content_hash
                    AND NOT version.is_current);
COMMENT ON VIEW chain.current_insight_feedback IS 'The opinions that stand: one a user and insight';

CREATE TABLE chain.system_metrics (
  raw_id       bigint GENERATED ALWAYS AS IDENTITY,
  measured_at  timestamptz NOT NULL,
  loaded_at    timestamptz NOT NULL DEFAULT now(),
  value        double precision NOT NULL,
  load_id      bigint NOT NULL,
  line         bigint NOT NULL,
  landing_day  date NOT NULL,
  key_hash     uuid NOT NULL,
  content_hash uuid NOT NULL,
  metric_name  text NOT NULL,
  host         text NOT NULL,
  unit         text,
  labels       jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (raw_id, measured_at),
  CONSTRAINT metric_has_a_name CHECK (metric_name <> '' AND host <> ''),
  CONSTRAINT metric_value_is_finite CHECK (value > '-Infinity' AND value < 'Infinity')
) PARTITION BY RANGE (measured_at);
COMMENT ON TABLE chain.system_metrics IS 'Measurements of the service''s parts as they landed: a log that only grows';
COMMENT ON COLUMN chain.system_metrics.raw_id IS 'Number of the row, without meaning';
COMMENT ON COLUMN chain.system_metrics.measured_at IS 'When it was measured; decides the partition';
COMMENT ON COLUMN chain.system_metrics.loaded_at IS 'When the row was loaded';
COMMENT ON COLUMN chain.system_metrics.value IS 'What was measured, in its unit';
COMMENT ON COLUMN chain.system_metrics.load_id IS 'The file it came from: longbox.loads';
COMMENT ON COLUMN chain.system_metrics.line IS 'Line in that file';
COMMENT ON COLUMN chain.system_metrics.landing_day IS 'Day whose landing folder held the file';
COMMENT ON COLUMN chain.system_metrics.key_hash IS 'Identity of the record, as in longbox.record_keys';
COMMENT ON COLUMN chain.system_metrics.content_hash IS 'Identity of this version of the record';
COMMENT ON COLUMN chain.system_metrics.metric_name IS 'What is measured';
COMMENT ON COLUMN chain.system_metrics.host IS 'Where';
COMMENT ON COLUMN chain.system_metrics.unit IS 'Unit of the value';
COMMENT ON COLUMN chain.system_metrics.labels IS 'What else tells the measurement from others';
CREATE INDEX system_metrics_by_load ON chain.system_metrics (load_id);
CREATE INDEX system_metrics_by_key ON chain.system_metrics (key_hash);
CREATE INDEX system_metrics_by_name ON chain.system_metrics (metric_name, host, measured_at DESC);
CREATE INDEX system_metrics_by_time ON chain.system_metrics USING brin (measured_at);

-- migrate: down
DROP VIEW chain.current_insight_feedback;
DROP TABLE chain.system_metrics, chain.insight_feedback, chain.backfill_jobs;
DROP FUNCTION chain.keep_timestamps();
