-- longbox 0001: The platform's own tables: feeds, loads, record keys, quarantine, day results, ledger
--
-- Accounts for every landed row, remembers every record that was ever accepted, and keeps the ledger of everything
-- that was ever destroyed. Rights come from the schema's default privileges; the ledger's are narrowed below.

-- migrate: up
CREATE TABLE longbox.feeds (
  feed_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  system  text NOT NULL,
  feed    text NOT NULL,
  UNIQUE (system, feed)
);
COMMENT ON TABLE longbox.feeds IS 'Feeds by number, so that millions of registry rows need not spell their names';

CREATE TABLE longbox.loads (
  load_id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  feed_id           integer NOT NULL REFERENCES longbox.feeds,
  landing_day       date NOT NULL,
  file_name         text NOT NULL,
  content_hash      bytea NOT NULL CHECK (octet_length(content_hash) = 32),
  catalogue_version text NOT NULL,
  status            text NOT NULL CHECK (status IN ('loaded', 'duplicate', 'empty', 'quarantined')),
  object_e_tag      text,
  object_bytes      bigint NOT NULL,
  content_bytes     bigint,
  landed_rows       bigint NOT NULL DEFAULT 0,
  loaded_rows       bigint NOT NULL DEFAULT 0,
  duplicate_rows    bigint NOT NULL DEFAULT 0,
  quarantined_rows  bigint NOT NULL DEFAULT 0,
  original_load_id  bigint REFERENCES longbox.loads,
  header            jsonb,
  report            jsonb NOT NULL DEFAULT '{}',
  run_id            text,
  loaded_at         timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT rows_are_accounted_for CHECK (landed_rows = loaded_rows + duplicate_rows + quarantined_rows)
);
COMMENT ON TABLE longbox.loads IS 'One row per landed file that was read: accounts for every row of it (promise 2)';
COMMENT ON COLUMN longbox.loads.landing_day IS 'The day of the folder the file was read from: the daily partition';
COMMENT ON COLUMN longbox.loads.content_hash IS 'SHA-256 of the decompressed bytes: the same file under any name or compression';
COMMENT ON COLUMN longbox.loads.catalogue_version IS 'Short hash of the feed''s definition the file was read with; a changed feed reads files anew';
COMMENT ON COLUMN longbox.loads.object_e_tag IS 'Entity tag of the stored object: tells unchanged files without reading them';
COMMENT ON COLUMN longbox.loads.original_load_id IS 'For status duplicate: the load that holds the rows';
COMMENT ON COLUMN longbox.loads.header IS 'Columns as the file names them, with dialect and encoding as found';
COMMENT ON COLUMN longbox.loads.report IS 'Facts about reading the file, such as quarantined rows by reason';
CREATE INDEX loads_by_day ON longbox.loads (feed_id, landing_day);
CREATE UNIQUE INDEX loads_one_per_content ON longbox.loads (feed_id, content_hash, catalogue_version) WHERE status = 'loaded';
CREATE UNIQUE INDEX loads_one_per_object ON longbox.loads (feed_id, landing_day, file_name, content_hash, catalogue_version);
CREATE INDEX loads_by_original ON longbox.loads (original_load_id) WHERE original_load_id IS NOT NULL;

CREATE TABLE longbox.record_keys (
  feed_id      integer NOT NULL REFERENCES longbox.feeds,
  key_hash     uuid NOT NULL,
  content_hash uuid NOT NULL,
  event_on     date NOT NULL,
  revision     bigint,
  landed_on    date NOT NULL,
  load_id      bigint NOT NULL,
  ordinal      bigint NOT NULL,
  is_current   boolean NOT NULL DEFAULT true,
  is_tombstone boolean NOT NULL DEFAULT false,
  PRIMARY KEY (feed_id, key_hash, content_hash)
) WITH (fillfactor = 90);
COMMENT ON TABLE longbox.record_keys IS
  'The registry: every version of every record ever accepted. Not partitioned, and outlives the archive, because a '
  'unique key over a partitioned table cannot span months and an archived record is no longer there to conflict with';
COMMENT ON COLUMN longbox.record_keys.key_hash IS 'Hash of the record''s key columns; without a key, of file and line';
COMMENT ON COLUMN longbox.record_keys.content_hash IS 'Hash of all its columns: same key, other content is a new version';
COMMENT ON COLUMN longbox.record_keys.event_on IS 'UTC date of the event time; decides the month the version lives in';
COMMENT ON COLUMN longbox.record_keys.revision IS 'The feed''s own order of versions, if it declares one (microseconds for timestamps)';
COMMENT ON COLUMN longbox.record_keys.landed_on IS 'Landing day of the last landing of this content';
COMMENT ON COLUMN longbox.record_keys.load_id IS 'Load of the last landing of this content';
COMMENT ON COLUMN longbox.record_keys.ordinal IS 'Line in that load: with landed_on and load_id the order "last landed wins"';
COMMENT ON COLUMN longbox.record_keys.is_current IS 'Whether this version wins; the others are superseded';
COMMENT ON COLUMN longbox.record_keys.is_tombstone IS 'Whether this version says that the record is deleted; it has no raw row';
CREATE INDEX record_keys_superseded ON longbox.record_keys (feed_id, key_hash, content_hash) WHERE NOT is_current;

CREATE TABLE longbox.tombstones (
  feed_id      integer NOT NULL REFERENCES longbox.feeds,
  key_hash     uuid NOT NULL,
  content_hash uuid NOT NULL,
  landing_day  date NOT NULL,
  load_id      bigint NOT NULL REFERENCES longbox.loads,
  line         bigint NOT NULL,
  landed_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (feed_id, key_hash, content_hash)
);
COMMENT ON TABLE longbox.tombstones IS
  'Every deletion that was ever accepted, with the file and line it came from: a log that only grows, as the raw tables '
  'are. Rows of a file that are loaded are in its raw table or here';
COMMENT ON COLUMN longbox.tombstones.content_hash IS 'Identity of this version of the record, as in longbox.record_keys';
CREATE INDEX tombstones_by_load ON longbox.tombstones (load_id);

CREATE TABLE longbox.version_switches (
  feed_id      integer NOT NULL REFERENCES longbox.feeds,
  landing_day  date NOT NULL,
  key_hash     uuid NOT NULL,
  content_hash uuid NOT NULL,
  event_on     date NOT NULL,
  PRIMARY KEY (feed_id, landing_day, key_hash, content_hash)
);
COMMENT ON TABLE longbox.version_switches IS
  'Per landing day, every version of every record that has more than one and was touched that day: what normalising '
  'the day has to look at beside the day''s own rows';

CREATE TABLE longbox.quarantine (
  quarantine_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  feed_id        integer NOT NULL REFERENCES longbox.feeds,
  load_id        bigint REFERENCES longbox.loads,
  landing_day    date NOT NULL,
  file_name      text NOT NULL,
  line           bigint,
  ordinal        bigint,
  column_name    text,
  reason         text NOT NULL,
  detail         text NOT NULL,
  remedy         text NOT NULL,
  raw_text       text,
  status         text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'replayed', 'dismissed')),
  run_id         text,
  quarantined_at timestamptz NOT NULL DEFAULT now(),
  closed_at      timestamptz
);
COMMENT ON TABLE longbox.quarantine IS 'Rows and files that were not loaded, with their text and reason; replayed once mended';
COMMENT ON COLUMN longbox.quarantine.line IS 'Line of the decompressed file, from 1; null: the whole file';
COMMENT ON COLUMN longbox.quarantine.ordinal IS 'Number of the record in the file, from 1';
COMMENT ON COLUMN longbox.quarantine.raw_text IS 'The row as it landed';
CREATE INDEX quarantine_open ON longbox.quarantine (feed_id, landing_day) WHERE status = 'open';
CREATE INDEX quarantine_by_load ON longbox.quarantine (load_id);

CREATE TABLE longbox.rejections (
  feed_id      integer NOT NULL REFERENCES longbox.feeds,
  key_hash     uuid NOT NULL,
  content_hash uuid NOT NULL,
  event_on     date NOT NULL,
  reason       text NOT NULL,
  detail       text NOT NULL,
  rule_version integer NOT NULL,
  run_id       text,
  rejected_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (feed_id, key_hash)
);
COMMENT ON TABLE longbox.rejections IS
  'Current versions that could not be normalised: a state, not a history; a row goes when its record can be normalised';
COMMENT ON COLUMN longbox.rejections.rule_version IS 'Version of the rules that refused it; newer rules try again';
CREATE INDEX rejections_by_reason ON longbox.rejections (feed_id, reason);

CREATE TABLE longbox.touched (
  table_name  text NOT NULL,
  landing_day date NOT NULL,
  group_key   text NOT NULL,
  event_on    date NOT NULL,
  PRIMARY KEY (table_name, landing_day, group_key, event_on)
);
COMMENT ON TABLE longbox.touched IS 'Which groups of a table a landing day changed; the next stage recomputes exactly these';

CREATE TABLE longbox.day_results (
  asset       text NOT NULL,
  landing_day date NOT NULL,
  outcome     text NOT NULL CHECK (outcome IN ('complete', 'incomplete', 'failed')),
  counts      jsonb NOT NULL DEFAULT '{}',
  problems    jsonb NOT NULL DEFAULT '[]',
  run_id      text,
  finished_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (asset, landing_day)
);
COMMENT ON TABLE longbox.day_results IS
  'Outcome of each stage for each landing day, so that one bad day of a range run does not sink the others';

CREATE TABLE longbox.ledger (
  entry_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  occurred_at   timestamptz NOT NULL DEFAULT now(),
  act           text NOT NULL,
  relation      text NOT NULL,
  partition_key text,
  policy        text NOT NULL,
  affected_rows bigint,
  proof         jsonb NOT NULL DEFAULT '{}',
  run_id        text,
  actor         text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE longbox.ledger IS 'Every destructive act: what, under which policy, how many rows, where the proof is, which run (promise 8). Append-only';
COMMENT ON COLUMN longbox.ledger.policy IS 'The rule or order that permitted the act';
COMMENT ON COLUMN longbox.ledger.proof IS 'Where the proof is: snapshot, checksums, counts';
COMMENT ON COLUMN longbox.ledger.actor IS 'Login user of the session, whatever role it worked as';
CREATE INDEX ledger_by_relation ON longbox.ledger (relation, occurred_at);

-- Rights keep longbox_app from changing the ledger; the trigger keeps its owner from doing so by mistake.
REVOKE UPDATE, DELETE, TRUNCATE, MAINTAIN ON longbox.ledger FROM longbox_app;

CREATE FUNCTION longbox.refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% of longbox.ledger is refused: the ledger is append-only', TG_OP
    USING ERRCODE = 'insufficient_privilege', HINT = 'Write a correcting entry instead.';
END
$$;
COMMENT ON FUNCTION longbox.refuse_ledger_change() IS 'Trigger: the ledger takes new entries only';
CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON longbox.ledger
  FOR EACH STATEMENT EXECUTE FUNCTION longbox.refuse_ledger_change();
-- Fires also where session_replication_role would silence ordinary triggers.
ALTER TABLE longbox.ledger ENABLE ALWAYS TRIGGER ledger_is_append_only;

-- migrate: down
-- Entries about anything but migrations are evidence; who wants them gone drops the database.
DO $$
BEGIN
  IF EXISTS (SELECT FROM longbox.ledger WHERE act <> 'migrate down') THEN
    RAISE EXCEPTION 'the ledger holds evidence of destructive acts and is not dropped by a migration'
      USING HINT = 'Keep the database, or drop it as a whole.';
  END IF;
END
$$;
DROP TABLE longbox.ledger, longbox.day_results, longbox.touched, longbox.rejections, longbox.quarantine,
  longbox.version_switches, longbox.tombstones, longbox.record_keys, longbox.loads, longbox.feeds;
DROP FUNCTION longbox.refuse_ledger_change();
