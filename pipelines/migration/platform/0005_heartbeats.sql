-- longbox 0005: Heartbeats: one row a minute, chained, whose running hash also stands in the store of backups

-- migrate: up
CREATE TABLE longbox.heartbeats (
  beat      bigint PRIMARY KEY,
  beat_at   timestamptz NOT NULL,
  prev_hash bytea NOT NULL,
  row_hash  bytea NOT NULL
);
COMMENT ON TABLE longbox.heartbeats IS
  'A sign of life each minute, chained; the store of backups has the same hashes, so that a restored database that lacks one shows';
COMMENT ON COLUMN longbox.heartbeats.beat IS 'Place in the chain, from 1, without holes; the oldest ones are trimmed';
COMMENT ON COLUMN longbox.heartbeats.prev_hash IS 'row_hash of the beat before; 32 zero bytes for the first';
COMMENT ON COLUMN longbox.heartbeats.row_hash IS 'SHA-256 of prev_hash, beat and beat_at: the running hash';
REVOKE UPDATE, DELETE, TRUNCATE, MAINTAIN ON longbox.heartbeats FROM longbox_app;

CREATE FUNCTION longbox.heartbeat_digest(prev_hash bytea, beat bigint, beat_at timestamptz) RETURNS bytea
  LANGUAGE sql STABLE AS $$
  SELECT sha256(prev_hash || convert_to(jsonb_build_array(beat, (extract(epoch FROM beat_at) * 1000000)::bigint)::text, 'UTF8'))
$$;
COMMENT ON FUNCTION longbox.heartbeat_digest(bytea, bigint, timestamptz) IS 'What row_hash of a heartbeat has to be';

CREATE FUNCTION longbox.chain_heartbeat() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  head record;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('longbox.heartbeats', 0));
  SELECT beat, row_hash INTO head FROM longbox.heartbeats ORDER BY beat DESC LIMIT 1;
  NEW.beat := coalesce(head.beat, 0) + 1;
  NEW.beat_at := clock_timestamp();
  NEW.prev_hash := coalesce(head.row_hash, decode(repeat('00', 32), 'hex'));
  NEW.row_hash := longbox.heartbeat_digest(NEW.prev_hash, NEW.beat, NEW.beat_at);
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION longbox.chain_heartbeat() IS 'Trigger: links a new heartbeat to the one before';
CREATE TRIGGER heartbeats_are_chained BEFORE INSERT ON longbox.heartbeats
  FOR EACH ROW EXECUTE FUNCTION longbox.chain_heartbeat();
ALTER TABLE longbox.heartbeats ENABLE ALWAYS TRIGGER heartbeats_are_chained;

-- Longer than WAL is kept: a restored table has every heartbeat of the window before its moment.
CREATE FUNCTION longbox.refuse_heartbeat_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND OLD.beat_at < clock_timestamp() - interval '20 days' THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION '% of longbox.heartbeats is refused: they are evidence for 20 days', TG_OP
    USING ERRCODE = 'insufficient_privilege', HINT = 'SELECT longbox.trim_heartbeats() removes what is older.';
END
$$;
COMMENT ON FUNCTION longbox.refuse_heartbeat_change() IS 'Trigger: heartbeats are not changed, and deleted only by age';
CREATE TRIGGER heartbeats_are_kept BEFORE UPDATE OR DELETE ON longbox.heartbeats
  FOR EACH ROW EXECUTE FUNCTION longbox.refuse_heartbeat_change();
CREATE TRIGGER heartbeats_are_not_truncated BEFORE TRUNCATE ON longbox.heartbeats
  FOR EACH STATEMENT EXECUTE FUNCTION longbox.refuse_heartbeat_change();
ALTER TABLE longbox.heartbeats ENABLE ALWAYS TRIGGER heartbeats_are_kept;
ALTER TABLE longbox.heartbeats ENABLE ALWAYS TRIGGER heartbeats_are_not_truncated;

-- Its end is never trimmed: the next heartbeat is linked to it.
CREATE FUNCTION longbox.trim_heartbeats() RETURNS bigint LANGUAGE sql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp AS $$
  WITH old AS (
    SELECT max(h.beat) AS beat FROM longbox.heartbeats AS h
    WHERE h.beat_at < clock_timestamp() - interval '21 days' AND h.beat < (SELECT max(n.beat) FROM longbox.heartbeats AS n)
  ), gone AS (
    DELETE FROM longbox.heartbeats AS h USING old WHERE h.beat <= old.beat RETURNING 1
  )
  SELECT count(*) FROM gone
$$;
COMMENT ON FUNCTION longbox.trim_heartbeats() IS 'Removes heartbeats older than 21 days, oldest first; the store still has their hashes. Returns how many';
REVOKE EXECUTE ON FUNCTION longbox.trim_heartbeats() FROM PUBLIC, longbox_reader;

CREATE FUNCTION longbox.heartbeat_faults() RETURNS TABLE (beat bigint, fault text) LANGUAGE sql STABLE AS $$
  SELECT place, CASE
      WHEN place <> coalesce(place_before + 1, place) THEN 'the heartbeat before is missing'
      WHEN prev_hash <> coalesce(hash_before, prev_hash) THEN 'the heartbeat before was changed'
      ELSE 'the heartbeat was changed'
    END
  FROM (
    SELECT h.beat AS place, h.prev_hash, h.row_hash, longbox.heartbeat_digest(h.prev_hash, h.beat, h.beat_at) AS digest,
           lag(h.beat) OVER chain AS place_before, lag(h.row_hash) OVER chain AS hash_before
    FROM longbox.heartbeats AS h
    WINDOW chain AS (ORDER BY h.beat)
  ) AS beats
  WHERE place <> coalesce(place_before + 1, place) OR prev_hash <> coalesce(hash_before, prev_hash) OR row_hash <> digest
  ORDER BY place
$$;
COMMENT ON FUNCTION longbox.heartbeat_faults() IS
  'Heartbeats at which the chain is broken; none if it is whole. That its ends are the true ones, the store says';

-- migrate: down
DROP FUNCTION longbox.heartbeat_faults();
DROP FUNCTION longbox.trim_heartbeats();
DROP TABLE longbox.heartbeats;
DROP FUNCTION longbox.refuse_heartbeat_change();
DROP FUNCTION longbox.chain_heartbeat();
DROP FUNCTION longbox.heartbeat_digest(bytea, bigint, timestamptz);
