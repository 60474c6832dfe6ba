-- comics 0002: Sale prices: as landed, normalised, aggregated
--
-- Raw and normalised prices are partitioned by the month of the sale. No default partition: a row without its month
-- is an error that is mended (pipelines.catalog.partitions), not a row in the wrong place. No foreign key points at
-- them, because a referenced partition cannot be detached.

-- migrate: up
CREATE TABLE comics.pricing_data_raw (
  raw_id             bigint GENERATED ALWAYS AS IDENTITY,
  sold_at            timestamptz NOT NULL,
  listing_updated_at timestamptz,
  loaded_at          timestamptz NOT NULL DEFAULT now(),
  load_id            bigint NOT NULL,
  line               bigint NOT NULL,
  sale_date          date NOT NULL,
  landing_day        date NOT NULL,
  quantity           integer,
  key_hash           uuid NOT NULL,
  content_hash       uuid NOT NULL,
  price              numeric(12,2) NOT NULL,
  source_marketplace text NOT NULL,
  source_record_id   text NOT NULL,
  title              text NOT NULL,
  condition          text,
  currency           text NOT NULL,
  seller_name        text,
  listing_url        text,
  sale_format        text,
  attributes         jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (raw_id, sale_date),
  CONSTRAINT price_is_positive CHECK (price > 0 AND price <> 'NaN'),
  CONSTRAINT sale_date_is_the_utc_date CHECK (sale_date = (sold_at AT TIME ZONE 'UTC')::date)
) PARTITION BY RANGE (sale_date);
COMMENT ON TABLE comics.pricing_data_raw IS
  'Every version of every sale as it landed, unchanged, with the file and line it came from: a log that only grows. '
  'A row is current unless longbox.record_keys says its version is superseded';
COMMENT ON COLUMN comics.pricing_data_raw.listing_updated_at IS 'The marketplace''s own time of the version: the later one wins';
COMMENT ON COLUMN comics.pricing_data_raw.sale_date IS 'UTC date of sold_at; decides the partition';
COMMENT ON COLUMN comics.pricing_data_raw.key_hash IS 'Identity of the record, as in longbox.record_keys';
COMMENT ON COLUMN comics.pricing_data_raw.content_hash IS 'Identity of this version of the record';
COMMENT ON COLUMN comics.pricing_data_raw.load_id IS 'The file it came from: longbox.loads';
COMMENT ON COLUMN comics.pricing_data_raw.line IS 'Line in that file';
COMMENT ON COLUMN comics.pricing_data_raw.attributes IS 'What else the marketplace said, as it said it';
CREATE INDEX pricing_data_raw_by_load ON comics.pricing_data_raw (load_id);
CREATE INDEX pricing_data_raw_by_key ON comics.pricing_data_raw (key_hash);
-- Rows of a landing day lie together on disk, so block ranges suffice.
CREATE INDEX pricing_data_raw_by_landing ON comics.pricing_data_raw USING brin (landing_day) WITH (pages_per_range = 32);

CREATE TABLE comics.pricing_data_normalized (
  sold_at            timestamptz NOT NULL,
  normalised_at      timestamptz NOT NULL DEFAULT now(),
  sale_date          date NOT NULL,
  fx_rate_on         date,
  rule_version       integer NOT NULL,
  lot_size           integer,
  key_hash           uuid NOT NULL,
  content_hash       uuid NOT NULL,
  comic_id           uuid REFERENCES comics.comics,
  is_firm_grade      boolean NOT NULL DEFAULT false,
  is_lot             boolean NOT NULL DEFAULT false,
  is_cross_listed    boolean NOT NULL DEFAULT false,
  is_outlier         boolean NOT NULL DEFAULT false,
  price              numeric(12,2) NOT NULL,
  price_usd          numeric(14,2) NOT NULL,
  fx_rate            numeric,
  grade              numeric(3,1),
  currency           text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  grade_band         text NOT NULL,
  grade_reason       text,
  grader             text,
  source_marketplace text NOT NULL,
  source_record_id   text NOT NULL,
  PRIMARY KEY (key_hash, sale_date),
  CONSTRAINT price_is_positive CHECK (price > 0 AND price <> 'NaN'),
  CONSTRAINT price_usd_is_not_negative CHECK (price_usd >= 0 AND price_usd <> 'NaN'),
  CONSTRAINT fx_rate_is_positive CHECK (fx_rate > 0 AND fx_rate <> 'NaN'),
  CONSTRAINT grade_is_on_the_scale CHECK (grade BETWEEN 0.3 AND 10),
  CONSTRAINT grade_band_is_known CHECK (
    grade_band IN ('9.8-10', '9.0-9.6', '8.0-8.5', '6.0-7.5', '4.0-5.5', '2.0-3.5', '0.5-1.8', 'ungraded')),
  CONSTRAINT without_a_grade_ungraded CHECK ((grade IS NULL) = (grade_band = 'ungraded')),
  CONSTRAINT lot_size_is_of_lots CHECK (lot_size IS NULL OR (is_lot AND lot_size > 0)),
  CONSTRAINT one_comic_unless_a_lot CHECK (is_lot OR comic_id IS NOT NULL)
) PARTITION BY RANGE (sale_date);
COMMENT ON TABLE comics.pricing_data_normalized IS
  'The valid version of each sale in US dollars, with the comic, grade and lot read from its text';
COMMENT ON COLUMN comics.pricing_data_normalized.comic_id IS 'Null for lots only';
COMMENT ON COLUMN comics.pricing_data_normalized.fx_rate IS 'The rate that turned price into price_usd';
COMMENT ON COLUMN comics.pricing_data_normalized.fx_rate_on IS 'Day of the rate used: the sale''s day or the last published one before it';
COMMENT ON COLUMN comics.pricing_data_normalized.grade_reason IS 'Why the grade is what it is, or why there is none';
COMMENT ON COLUMN comics.pricing_data_normalized.is_firm_grade IS 'Whether one grade was claimed: false for "or better", ranges and guesses';
COMMENT ON COLUMN comics.pricing_data_normalized.is_cross_listed IS 'The same sale is also reported by another marketplace';
COMMENT ON COLUMN comics.pricing_data_normalized.is_outlier IS 'Left out of statistics by the robust rule of its window; set by aggregation, which knows the neighbours';
COMMENT ON COLUMN comics.pricing_data_normalized.rule_version IS 'Version of the rules that read it; changed rules re-normalise what they touch';
CREATE INDEX pricing_data_normalized_by_comic ON comics.pricing_data_normalized (comic_id, sale_date DESC);
CREATE INDEX pricing_data_normalized_by_comic_and_band ON comics.pricing_data_normalized (comic_id, grade_band, sale_date DESC)
  INCLUDE (price_usd) WHERE NOT is_lot;
CREATE INDEX pricing_data_normalized_by_source ON comics.pricing_data_normalized (source_marketplace, source_record_id);
CREATE INDEX pricing_data_normalized_lots ON comics.pricing_data_normalized (sale_date) WHERE is_lot;

CREATE TABLE comics.pricing_data_aggregated (
  computed_at        timestamptz NOT NULL DEFAULT now(),
  period_start       date NOT NULL,
  sale_count         integer NOT NULL CHECK (sale_count >= 0),
  outlier_count      integer NOT NULL DEFAULT 0 CHECK (outlier_count >= 0),
  cross_listed_count integer NOT NULL DEFAULT 0 CHECK (cross_listed_count >= 0),
  comic_id           uuid NOT NULL REFERENCES comics.comics,
  grade_band         text NOT NULL,
  period_type        text NOT NULL CHECK (period_type IN ('day', 'week', 'month')),
  volume_usd         numeric NOT NULL CHECK (volume_usd >= 0),
  min_usd            numeric,
  p25_usd            numeric,
  median_usd         numeric,
  p75_usd            numeric,
  max_usd            numeric,
  mean_usd           numeric,
  stddev_usd         numeric,
  PRIMARY KEY (comic_id, grade_band, period_type, period_start),
  CONSTRAINT grade_band_is_known CHECK (
    grade_band IN ('9.8-10', '9.0-9.6', '8.0-8.5', '6.0-7.5', '4.0-5.5', '2.0-3.5', '0.5-1.8', 'ungraded')),
  CONSTRAINT prices_are_ordered CHECK (
    min_usd <= p25_usd AND p25_usd <= median_usd AND median_usd <= p75_usd AND p75_usd <= max_usd),
  CONSTRAINT period_starts_on_its_first_day CHECK (
    period_type = 'day'
    OR period_type = 'week' AND extract(isodow FROM period_start) = 1
    OR period_type = 'month' AND extract(day FROM period_start) = 1)
);
COMMENT ON TABLE comics.pricing_data_aggregated IS
  'Statistics of sales per comic, grade band and day, week (from Monday) or month; outliers counted but left out';
COMMENT ON COLUMN comics.pricing_data_aggregated.sale_count IS 'Sales in the statistics: lots and outliers are not among them';
COMMENT ON COLUMN comics.pricing_data_aggregated.stddev_usd IS 'Sample standard deviation; null for a single sale';
CREATE INDEX pricing_data_aggregated_days ON comics.pricing_data_aggregated (period_start DESC, comic_id) WHERE period_type = 'day';
CREATE INDEX pricing_data_aggregated_months ON comics.pricing_data_aggregated (period_start DESC, comic_id) WHERE period_type = 'month';
CREATE INDEX pricing_data_aggregated_by_volume ON comics.pricing_data_aggregated (period_type, period_start DESC, volume_usd DESC);

-- migrate: down
DROP TABLE comics.pricing_data_aggregated, comics.pricing_data_normalized, comics.pricing_data_raw;
