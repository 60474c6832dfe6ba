-- comics 0009: Price statistics are updated in place
--
-- A landing day writes two and a half periods a sale, so what a row of them costs decides what the day costs.
-- The index on the volume made every change of a row a change of all of its indexes (no HOT update): the few hundred
-- rows of one period that the other indexes find are sorted as quickly. Weeks get the index that days and months have.
-- The foreign key asked for the comic of every new row once more: its sales, of which the row is computed in the same
-- transaction, have that key. What is left to keep is that no comic goes whose statistics stand after its sales were
-- archived, which a trigger asks when a comic is deleted.

-- migrate: up
DROP INDEX comics.pricing_data_aggregated_by_volume;
CREATE INDEX pricing_data_aggregated_weeks ON comics.pricing_data_aggregated (period_start DESC, comic_id)
  WHERE period_type = 'week';
ALTER TABLE comics.pricing_data_aggregated SET (fillfactor = 90);
ALTER TABLE comics.pricing_data_aggregated DROP CONSTRAINT pricing_data_aggregated_comic_id_fkey;
CREATE FUNCTION comics.keep_comics_with_statistics() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM comics.pricing_data_aggregated AS kept WHERE kept.comic_id = old.comic_id) THEN
    RAISE foreign_key_violation USING
      MESSAGE = format('comic %s has price statistics', old.comic_id),
      HINT = 'Delete its rows of comics.pricing_data_aggregated first.';
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION comics.keep_comics_with_statistics IS
  'Stands for a foreign key of comics.pricing_data_aggregated, whose rows are too many to be asked one by one';
CREATE TRIGGER comics_with_statistics_stay AFTER DELETE ON comics.comics
  FOR EACH ROW EXECUTE FUNCTION comics.keep_comics_with_statistics();
CREATE TRIGGER comics_with_statistics_keep_their_id AFTER UPDATE OF comic_id ON comics.comics
  FOR EACH ROW WHEN (old.comic_id <> new.comic_id) EXECUTE FUNCTION comics.keep_comics_with_statistics();

-- migrate: down
DROP TRIGGER comics_with_statistics_stay ON comics.comics;
DROP TRIGGER comics_with_statistics_keep_their_id ON comics.comics;
DROP FUNCTION comics.keep_comics_with_statistics;
ALTER TABLE comics.pricing_data_aggregated ADD FOREIGN KEY (comic_id) REFERENCES comics.comics;
ALTER TABLE comics.pricing_data_aggregated RESET (fillfactor);
DROP INDEX comics.pricing_data_aggregated_weeks;
CREATE INDEX pricing_data_aggregated_by_volume
  ON comics.pricing_data_aggregated (period_type, period_start DESC, volume_usd DESC);
