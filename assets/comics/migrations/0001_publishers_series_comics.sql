-- comics 0001: What is sold: publishers, series and comics
--
-- Ids are not drawn but derived (sha256 of the natural key, see the normalisation rules): the same sale makes the same
-- comic in any order of arrival and on any machine. Fixed-width columns stand before variable ones, eight-byte ones
-- first, so that rows carry no padding.

-- migrate: up
CREATE FUNCTION comics.keep_timestamps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.created_at := OLD.created_at;
  NEW.updated_at := now();
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION comics.keep_timestamps() IS 'Trigger: created_at never changes, updated_at is the last change, whatever the writer says';

CREATE FUNCTION comics.grade_band(grade numeric) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
  WHEN grade IS NULL THEN 'ungraded'
  WHEN grade >= 9.8 THEN '9.8-10'
  WHEN grade >= 9.0 THEN '9.0-9.6'
  WHEN grade >= 8.0 THEN '8.0-8.5'
  WHEN grade >= 6.0 THEN '6.0-7.5'
  WHEN grade >= 4.0 THEN '4.0-5.5'
  WHEN grade >= 2.0 THEN '2.0-3.5'
  ELSE '0.5-1.8'
END;
COMMENT ON FUNCTION comics.grade_band(numeric) IS 'Grade on the 10-point scale to the band that prices are compared within';

CREATE TABLE comics.publishers (
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now(),
  publisher_id        uuid PRIMARY KEY,
  parent_publisher_id uuid REFERENCES comics.publishers,
  founded_year        smallint CHECK (founded_year BETWEEN 1800 AND 2200),
  publisher_key       text NOT NULL UNIQUE,
  name                text NOT NULL CHECK (name <> ''),
  country             text CHECK (country ~ '^[A-Z]{2}$'),
  metadata            jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  CONSTRAINT publisher_is_not_its_own_parent CHECK (parent_publisher_id <> publisher_id)
);
COMMENT ON TABLE comics.publishers IS 'Publishers of comics, one row each however their name is spelled';
COMMENT ON COLUMN comics.publishers.publisher_key IS 'The name without case, spaces and punctuation: what two spellings share';
COMMENT ON COLUMN comics.publishers.parent_publisher_id IS 'For an imprint: the house it belongs to';
CREATE INDEX publishers_by_parent ON comics.publishers (parent_publisher_id) WHERE parent_publisher_id IS NOT NULL;
CREATE INDEX publishers_name_trigram ON comics.publishers USING gin (lower(name) gin_trgm_ops);

CREATE TABLE comics.series (
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now(),
  series_id           uuid PRIMARY KEY,
  publisher_id        uuid REFERENCES comics.publishers,
  continues_series_id uuid REFERENCES comics.series,
  start_year          integer CHECK (start_year BETWEEN 1800 AND 2200),
  end_year            integer,
  series_key          text NOT NULL UNIQUE,
  name                text NOT NULL CHECK (name <> ''),
  name_search         tsvector GENERATED ALWAYS AS (to_tsvector('simple'::regconfig, name)) STORED,
  metadata            jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  CONSTRAINT series_ends_after_it_starts CHECK (end_year >= start_year),
  CONSTRAINT series_does_not_continue_itself CHECK (continues_series_id <> series_id)
);
COMMENT ON TABLE comics.series IS 'Series of comics, one row each whatever the case, spaces and punctuation of their title';
COMMENT ON COLUMN comics.series.series_key IS 'The title without case, spaces and punctuation';
COMMENT ON COLUMN comics.series.continues_series_id IS 'The volume before this one';
CREATE INDEX series_by_publisher ON comics.series (publisher_id, start_year);
CREATE INDEX series_by_predecessor ON comics.series (continues_series_id) WHERE continues_series_id IS NOT NULL;
CREATE INDEX series_name_search ON comics.series USING gin (name_search);
CREATE INDEX series_name_trigram ON comics.series USING gin (lower(name) gin_trgm_ops);

CREATE TABLE comics.comics (
  created_at          timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now(),
  comic_id            uuid PRIMARY KEY,
  series_id           uuid NOT NULL REFERENCES comics.series,
  variant_of_comic_id uuid REFERENCES comics.comics,
  year                integer CHECK (year BETWEEN 1800 AND 2200),
  is_variant          boolean GENERATED ALWAYS AS (variant <> '') STORED,
  comic_key           text NOT NULL UNIQUE,
  issue_number        text NOT NULL,
  issue_sort          numeric,
  variant             text NOT NULL DEFAULT '',
  title               text NOT NULL CHECK (title <> ''),
  title_search        tsvector GENERATED ALWAYS AS (
    setweight(to_tsvector('simple'::regconfig, title), 'A') ||
    setweight(to_tsvector('simple'::regconfig, variant), 'C')) STORED,
  metadata            jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  CONSTRAINT comic_is_not_a_variant_of_itself CHECK (variant_of_comic_id <> comic_id)
);
COMMENT ON TABLE comics.comics IS 'Issues of a series, variants apart; made when a sale first names them';
COMMENT ON COLUMN comics.comics.comic_key IS 'Natural key: series, issue, variant and what else tells two comics apart; comic_id is derived from it';
COMMENT ON COLUMN comics.comics.issue_number IS 'Canonical: 300, 1/2, 1.MU, Annual 3';
COMMENT ON COLUMN comics.comics.issue_sort IS 'The number in issue_number, for ordering; null when there is none';
COMMENT ON COLUMN comics.comics.variant IS 'Cover or printing that tells it from the plain issue; empty for that';
COMMENT ON COLUMN comics.comics.title IS 'As shown: series, issue, variant, year';
COMMENT ON COLUMN comics.comics.title_search IS 'Words of the title (A) and variant (C); simple: names are not stemmed';
CREATE INDEX comics_by_series_and_issue ON comics.comics (series_id, issue_sort, issue_number);
CREATE INDEX comics_by_parent ON comics.comics (variant_of_comic_id) WHERE variant_of_comic_id IS NOT NULL;
CREATE INDEX comics_by_year ON comics.comics (year, series_id) WHERE year IS NOT NULL;
CREATE INDEX comics_title_search ON comics.comics USING gin (title_search);
CREATE INDEX comics_title_trigram ON comics.comics USING gin (lower(title) gin_trgm_ops);
CREATE INDEX comics_metadata ON comics.comics USING gin (metadata jsonb_path_ops);

CREATE TRIGGER publishers_timestamps BEFORE UPDATE ON comics.publishers
  FOR EACH ROW EXECUTE FUNCTION comics.keep_timestamps();
CREATE TRIGGER series_timestamps BEFORE UPDATE ON comics.series
  FOR EACH ROW EXECUTE FUNCTION comics.keep_timestamps();
CREATE TRIGGER comics_timestamps BEFORE UPDATE ON comics.comics
  FOR EACH ROW EXECUTE FUNCTION comics.keep_timestamps();

-- migrate: down
DROP TABLE comics.comics, comics.series, comics.publishers;
DROP FUNCTION comics.grade_band(numeric);
DROP FUNCTION comics.keep_timestamps();
