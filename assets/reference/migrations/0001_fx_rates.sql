-- reference 0001: Exchange rates of the European Central Bank

-- migrate: up
CREATE TABLE reference.fx_rates (
  currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
  rate_on      date NOT NULL,
  rate_per_eur numeric NOT NULL CHECK (rate_per_eur > 0 AND rate_per_eur < 'Infinity'),
  source       text NOT NULL,
  loaded_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (currency, rate_on)
);
COMMENT ON TABLE reference.fx_rates IS
  'Units of a currency for one euro, by the day of publication. No rows for weekends and holidays: the reader falls back';
COMMENT ON COLUMN reference.fx_rates.currency IS 'ISO 4217 code; TRL and TRY, ROL and RON are different currencies';
COMMENT ON COLUMN reference.fx_rates.source IS 'The file the rate was read from';
CREATE INDEX fx_rates_by_day ON reference.fx_rates (rate_on);

-- migrate: down
DROP TABLE reference.fx_rates;
