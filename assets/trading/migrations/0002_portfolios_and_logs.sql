-- trading 0002: What portfolios hold, and what the services log
--
-- The trading services write both; no file lands for them.

-- migrate: up
CREATE FUNCTION trading.keep_timestamps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.created_at := OLD.created_at;
  NEW.updated_at := now();
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION trading.keep_timestamps() IS 'Trigger: created_at never changes, updated_at is the last change, whatever the writer says';

CREATE TABLE trading.portfolio_snapshots (
  taken_at     timestamptz NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  portfolio_id uuid NOT NULL,
  account_id   uuid NOT NULL,
  cash_value   numeric(20,2) NOT NULL CHECK (cash_value <> 'NaN'),
  total_value  numeric(20,2) NOT NULL CHECK (total_value <> 'NaN'),
  currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  positions    jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(positions) = 'array'),
  PRIMARY KEY (portfolio_id, taken_at)
) PARTITION BY RANGE (taken_at);
COMMENT ON TABLE trading.portfolio_snapshots IS 'What a portfolio held and was worth at a moment';
COMMENT ON COLUMN trading.portfolio_snapshots.taken_at IS 'The moment; decides the partition';
COMMENT ON COLUMN trading.portfolio_snapshots.created_at IS 'When the row was written';
COMMENT ON COLUMN trading.portfolio_snapshots.updated_at IS 'When the row was last changed';
COMMENT ON COLUMN trading.portfolio_snapshots.portfolio_id IS 'The portfolio';
COMMENT ON COLUMN trading.portfolio_snapshots.account_id IS 'Whose it is: export and erasure follow it';
COMMENT ON COLUMN trading.portfolio_snapshots.cash_value IS 'Cash, in currency; may be negative on margin';
COMMENT ON COLUMN trading.portfolio_snapshots.total_value IS 'Cash and positions, in currency';
COMMENT ON COLUMN trading.portfolio_snapshots.currency IS 'Currency of the values';
COMMENT ON COLUMN trading.portfolio_snapshots.positions IS 'Symbol, quantity and price of each position';
CREATE INDEX portfolio_snapshots_by_account ON trading.portfolio_snapshots (account_id, taken_at DESC);
CREATE INDEX portfolio_snapshots_by_time ON trading.portfolio_snapshots USING brin (taken_at);

CREATE TABLE trading.system_logs (
  logged_at  timestamptz NOT NULL DEFAULT now(),
  log_id     bigint GENERATED ALWAYS AS IDENTITY,
  level      text NOT NULL CHECK (level IN ('debug', 'info', 'warning', 'error', 'critical')),
  component  text NOT NULL CHECK (component <> ''),
  message    text NOT NULL,
  context    jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(context) = 'object'),
  PRIMARY KEY (log_id, logged_at)
) PARTITION BY RANGE (logged_at);
COMMENT ON TABLE trading.system_logs IS 'What the trading services logged';
COMMENT ON COLUMN trading.system_logs.logged_at IS 'When it happened; decides the partition';
COMMENT ON COLUMN trading.system_logs.log_id IS 'Number of the entry';
COMMENT ON COLUMN trading.system_logs.level IS 'debug, info, warning, error or critical';
COMMENT ON COLUMN trading.system_logs.component IS 'Service that logged it';
COMMENT ON COLUMN trading.system_logs.message IS 'What happened';
COMMENT ON COLUMN trading.system_logs.context IS 'Facts beside the message';
CREATE INDEX system_logs_by_component ON trading.system_logs (component, logged_at DESC);
CREATE INDEX system_logs_faults ON trading.system_logs (logged_at DESC) WHERE level IN ('error', 'critical');

CREATE TRIGGER portfolio_snapshots_timestamps BEFORE UPDATE ON trading.portfolio_snapshots
  FOR EACH ROW EXECUTE FUNCTION trading.keep_timestamps();

-- migrate: down
DROP TABLE trading.system_logs, trading.portfolio_snapshots;
DROP FUNCTION trading.keep_timestamps();
