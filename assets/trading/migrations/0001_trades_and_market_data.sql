-- trading 0001: Trades and candles as they landed
--
-- Both are logs of versions that only grow: longbox.record_keys tells which version is current. What a feed loads is
-- judged before it is loaded (system.yaml, `rules`); the constraints here are the last line, for other writers.

-- migrate: up
CREATE TABLE trading.trades (
  raw_id       bigint GENERATED ALWAYS AS IDENTITY,
  executed_at  timestamptz NOT NULL,
  updated_at   timestamptz,
  loaded_at    timestamptz NOT NULL DEFAULT now(),
  trade_id     bigint NOT NULL,
  load_id      bigint NOT NULL,
  line         bigint NOT NULL,
  landing_day  date NOT NULL,
  key_hash     uuid NOT NULL,
  content_hash uuid NOT NULL,
  price        numeric(20,8) NOT NULL,
  quantity     numeric(20,8) NOT NULL,
  venue        text NOT NULL,
  symbol       text NOT NULL,
  side         text NOT NULL,
  attributes   jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (raw_id, executed_at),
  CONSTRAINT trade_price_is_positive CHECK (price > 0 AND price <> 'NaN'),
  CONSTRAINT trade_quantity_is_positive CHECK (quantity > 0 AND quantity <> 'NaN'),
  CONSTRAINT trade_has_a_side CHECK (side IN ('buy', 'sell')),
  CONSTRAINT trade_names_its_venue CHECK (venue <> '')
) PARTITION BY RANGE (executed_at);
COMMENT ON TABLE trading.trades IS 'Every version of every executed trade as it landed: a log that only grows';
COMMENT ON COLUMN trading.trades.raw_id IS 'Number of the row, without meaning';
COMMENT ON COLUMN trading.trades.executed_at IS 'When the venue executed it; decides the partition and the bar';
COMMENT ON COLUMN trading.trades.updated_at IS 'The venue''s own time of the version: the later one wins';
COMMENT ON COLUMN trading.trades.loaded_at IS 'When the row was loaded';
COMMENT ON COLUMN trading.trades.trade_id IS 'The venue''s number of the trade; trades of one moment follow it';
COMMENT ON COLUMN trading.trades.load_id IS 'The file it came from: longbox.loads';
COMMENT ON COLUMN trading.trades.line IS 'Line in that file';
COMMENT ON COLUMN trading.trades.landing_day IS 'Day whose landing folder held the file';
COMMENT ON COLUMN trading.trades.key_hash IS 'Identity of the record, as in longbox.record_keys';
COMMENT ON COLUMN trading.trades.content_hash IS 'Identity of this version of the record';
COMMENT ON COLUMN trading.trades.price IS 'Price of one unit, in the currency after the dash of the symbol';
COMMENT ON COLUMN trading.trades.quantity IS 'Units traded';
COMMENT ON COLUMN trading.trades.venue IS 'Exchange it was executed on';
COMMENT ON COLUMN trading.trades.symbol IS 'What was traded against what, as in BTC-USD';
COMMENT ON COLUMN trading.trades.side IS 'The side that took liquidity: buy or sell';
COMMENT ON COLUMN trading.trades.attributes IS 'What else the venue said, as it said it';
CREATE INDEX trades_by_load ON trading.trades (load_id);
CREATE INDEX trades_by_key ON trading.trades (key_hash);
CREATE INDEX trades_by_symbol ON trading.trades (symbol, executed_at DESC);
CREATE INDEX trades_by_landing ON trading.trades USING brin (landing_day) WITH (pages_per_range = 32);

CREATE TABLE trading.market_data (
  raw_id       bigint GENERATED ALWAYS AS IDENTITY,
  opened_at    timestamptz NOT NULL,
  updated_at   timestamptz,
  loaded_at    timestamptz NOT NULL DEFAULT now(),
  trade_count  bigint,
  load_id      bigint NOT NULL,
  line         bigint NOT NULL,
  landing_day  date NOT NULL,
  key_hash     uuid NOT NULL,
  content_hash uuid NOT NULL,
  open         numeric(20,8) NOT NULL,
  high         numeric(20,8) NOT NULL,
  low          numeric(20,8) NOT NULL,
  close        numeric(20,8) NOT NULL,
  volume       numeric(24,8) NOT NULL,
  venue        text NOT NULL,
  symbol       text NOT NULL,
  PRIMARY KEY (raw_id, opened_at),
  CONSTRAINT candle_prices_are_positive CHECK (open > 0 AND high > 0 AND low > 0 AND close > 0),
  CONSTRAINT candle_volume_is_not_negative CHECK (volume >= 0 AND volume <> 'NaN'),
  CONSTRAINT candle_names_its_venue CHECK (venue <> '')
) PARTITION BY RANGE (opened_at);
COMMENT ON TABLE trading.market_data IS 'Every version of every one-minute candle as it landed: a log that only grows';
COMMENT ON COLUMN trading.market_data.raw_id IS 'Number of the row, without meaning';
COMMENT ON COLUMN trading.market_data.opened_at IS 'First moment of the candle''s minute; decides the partition';
COMMENT ON COLUMN trading.market_data.updated_at IS 'The venue''s own time of the version: the later one wins';
COMMENT ON COLUMN trading.market_data.loaded_at IS 'When the row was loaded';
COMMENT ON COLUMN trading.market_data.trade_count IS 'Trades in the minute, where the venue tells';
COMMENT ON COLUMN trading.market_data.load_id IS 'The file it came from: longbox.loads';
COMMENT ON COLUMN trading.market_data.line IS 'Record in that file';
COMMENT ON COLUMN trading.market_data.landing_day IS 'Day whose landing folder held the file';
COMMENT ON COLUMN trading.market_data.key_hash IS 'Identity of the record, as in longbox.record_keys';
COMMENT ON COLUMN trading.market_data.content_hash IS 'Identity of this version of the record';
COMMENT ON COLUMN trading.market_data.open IS 'Price of the first trade of the minute';
COMMENT ON COLUMN trading.market_data.high IS 'Highest price of the minute';
COMMENT ON COLUMN trading.market_data.low IS 'Lowest price of the minute';
COMMENT ON COLUMN trading.market_data.close IS 'Price of the last trade of the minute';
COMMENT ON COLUMN trading.market_data.volume IS 'Units traded in the minute';
COMMENT ON COLUMN trading.market_data.venue IS 'Exchange whose chart it is';
COMMENT ON COLUMN trading.market_data.symbol IS 'What is traded against what, as in BTC-USD';
CREATE INDEX market_data_by_load ON trading.market_data (load_id);
CREATE INDEX market_data_by_key ON trading.market_data (key_hash);
-- Charts, and the neighbours of a touched minute when gaps are looked for.
CREATE INDEX market_data_by_series ON trading.market_data (venue, symbol, opened_at);
CREATE INDEX market_data_by_landing ON trading.market_data USING brin (landing_day) WITH (pages_per_range = 32);

-- migrate: down
DROP TABLE trading.market_data, trading.trades;
