-- longbox 0008: What of a landing day each aggregate has taken in, so that a day that runs again is not computed again

-- migrate: up
CREATE TABLE longbox.taken_in (
  asset       text NOT NULL,
  landing_day date NOT NULL,
  definition  bytea NOT NULL,
  accounts    bigint[] NOT NULL,
  PRIMARY KEY (asset, landing_day)
);
COMMENT ON TABLE longbox.taken_in IS
  'Which files of a landing day a declared aggregate has in it: what it computes anew is what the others touched';
COMMENT ON COLUMN longbox.taken_in.definition IS
  'SHA-256 of the statements it was computed by and of the table''s files: an aggregate that is changed or emptied begins anew';
COMMENT ON COLUMN longbox.taken_in.accounts IS
  'A hash of the account of every file of the day in longbox.loads; rows that are replayed change it';

-- migrate: down
DROP TABLE longbox.taken_in;
