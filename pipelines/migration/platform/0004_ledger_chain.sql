-- longbox 0004: The ledger is a chain: each entry carries the hash of the one before

-- migrate: up
-- A position without holes, because identities have them: a rolled-back insert must not look like a removed entry.
ALTER TABLE longbox.ledger
  ADD COLUMN chain_position bigint,
  ADD COLUMN prev_hash bytea,
  ADD COLUMN row_hash bytea;
COMMENT ON COLUMN longbox.ledger.chain_position IS 'Place in the chain, from 1, without holes';
COMMENT ON COLUMN longbox.ledger.prev_hash IS 'row_hash of the entry before; 32 zero bytes for the first';
COMMENT ON COLUMN longbox.ledger.row_hash IS 'SHA-256 of prev_hash and of every other column of this entry';

CREATE FUNCTION longbox.ledger_digest(entry longbox.ledger) RETURNS bytea LANGUAGE sql STABLE
  SET TimeZone = 'UTC' AS $$
  SELECT sha256(entry.prev_hash || convert_to(jsonb_build_array(
    entry.chain_position, entry.entry_id, (extract(epoch FROM entry.occurred_at) * 1000000)::bigint, entry.act,
    entry.relation, entry.partition_key, entry.policy, entry.affected_rows, entry.proof, entry.run_id, entry.actor
  )::text, 'UTF8'))
$$;
COMMENT ON FUNCTION longbox.ledger_digest(longbox.ledger) IS 'What row_hash of an entry has to be';

-- The lock lets one transaction at a time add entries, so that each sees the committed head. The position is unique
-- besides: a transaction whose snapshot is older than the head fails instead of forking the chain.
CREATE FUNCTION longbox.chain_ledger_entry() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  head record;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('longbox.ledger', 0));
  SELECT chain_position, row_hash INTO head FROM longbox.ledger ORDER BY chain_position DESC LIMIT 1;
  NEW.chain_position := coalesce(head.chain_position, 0) + 1;
  NEW.prev_hash := coalesce(head.row_hash, decode(repeat('00', 32), 'hex'));
  NEW.row_hash := longbox.ledger_digest(NEW);
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION longbox.chain_ledger_entry() IS 'Trigger: links a new entry to the one before';

-- Entries from before the chain are linked in their order; only here, and only once, is an entry changed.
ALTER TABLE longbox.ledger DISABLE TRIGGER ledger_is_append_only;
DO $$
DECLARE
  entry longbox.ledger;
  place bigint := 0;
  before bytea := decode(repeat('00', 32), 'hex');
BEGIN
  FOR entry IN SELECT * FROM longbox.ledger ORDER BY entry_id LOOP
    place := place + 1;
    entry.chain_position := place;
    entry.prev_hash := before;
    before := longbox.ledger_digest(entry);
    UPDATE longbox.ledger SET chain_position = place, prev_hash = entry.prev_hash, row_hash = before
    WHERE entry_id = entry.entry_id;
  END LOOP;
END
$$;
ALTER TABLE longbox.ledger ENABLE ALWAYS TRIGGER ledger_is_append_only;
ALTER TABLE longbox.ledger
  ALTER COLUMN chain_position SET NOT NULL,
  ALTER COLUMN prev_hash SET NOT NULL,
  ALTER COLUMN row_hash SET NOT NULL,
  ADD CONSTRAINT ledger_chain_position_key UNIQUE (chain_position);
CREATE TRIGGER ledger_is_chained BEFORE INSERT ON longbox.ledger
  FOR EACH ROW EXECUTE FUNCTION longbox.chain_ledger_entry();
ALTER TABLE longbox.ledger ENABLE ALWAYS TRIGGER ledger_is_chained;

CREATE FUNCTION longbox.ledger_faults() RETURNS TABLE (chain_position bigint, fault text) LANGUAGE sql STABLE AS $$
  SELECT place, CASE
      WHEN place <> coalesce(place_before, 0) + 1 THEN 'the entry before is missing'
      WHEN prev_hash <> coalesce(hash_before, decode(repeat('00', 32), 'hex')) THEN 'the entry before was changed'
      ELSE 'the entry was changed'
    END
  FROM (
    SELECT l.chain_position AS place, l.prev_hash, l.row_hash, longbox.ledger_digest(l) AS digest,
           lag(l.chain_position) OVER chain AS place_before, lag(l.row_hash) OVER chain AS hash_before
    FROM longbox.ledger AS l
    WINDOW chain AS (ORDER BY l.chain_position)
  ) AS entries
  WHERE place <> coalesce(place_before, 0) + 1
     OR prev_hash <> coalesce(hash_before, decode(repeat('00', 32), 'hex')) OR row_hash <> digest
  ORDER BY place
$$;
COMMENT ON FUNCTION longbox.ledger_faults() IS
  'Entries at which the chain is broken; none if it is whole. That its end is the true one, the heads in the store say';

-- migrate: down
DROP FUNCTION longbox.ledger_faults();
DROP TRIGGER ledger_is_chained ON longbox.ledger;
DROP FUNCTION longbox.chain_ledger_entry();
DROP FUNCTION longbox.ledger_digest(longbox.ledger);
ALTER TABLE longbox.ledger DROP COLUMN chain_position, DROP COLUMN prev_hash, DROP COLUMN row_hash;
