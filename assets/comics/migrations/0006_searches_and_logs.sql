-- comics 0006: What users searched for, and what the services logged

-- migrate: up
CREATE TABLE comics.search_history (
  search_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  searched_at      timestamptz NOT NULL,
  created_at       timestamptz NOT NULL DEFAULT now(),
  result_count     integer NOT NULL DEFAULT 0 CHECK (result_count >= 0),
  duration_ms      integer CHECK (duration_ms >= 0),
  user_id          uuid REFERENCES comics.users,
  session_id       uuid REFERENCES comics.user_sessions ON DELETE SET NULL,
  publisher_id     uuid REFERENCES comics.publishers,
  series_id        uuid REFERENCES comics.series,
  clicked_comic_id uuid REFERENCES comics.comics,
  query            text NOT NULL,
  normalised_query text GENERATED ALWAYS AS (lower(btrim(query))) STORED,
  filters          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(filters) = 'object')
);
COMMENT ON TABLE comics.search_history IS 'What users searched for';
COMMENT ON COLUMN comics.search_history.user_id IS 'Null for visitors who did not sign in';
COMMENT ON COLUMN comics.search_history.session_id IS 'Null once the session is past its retention';
COMMENT ON COLUMN comics.search_history.publisher_id IS 'The publisher the search was narrowed to';
COMMENT ON COLUMN comics.search_history.series_id IS 'The series the search was narrowed to';
COMMENT ON COLUMN comics.search_history.clicked_comic_id IS 'The comic that was opened from the results';
CREATE INDEX search_history_by_user ON comics.search_history (user_id, searched_at DESC) WHERE user_id IS NOT NULL;
CREATE INDEX search_history_by_time ON comics.search_history (searched_at);
CREATE INDEX search_history_by_query ON comics.search_history (normalised_query, searched_at DESC);
CREATE INDEX search_history_without_results ON comics.search_history (searched_at DESC) INCLUDE (normalised_query) WHERE result_count = 0;
CREATE INDEX search_history_by_session ON comics.search_history (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX search_history_by_publisher ON comics.search_history (publisher_id) WHERE publisher_id IS NOT NULL;
CREATE INDEX search_history_by_series ON comics.search_history (series_id) WHERE series_id IS NOT NULL;
CREATE INDEX search_history_by_comic ON comics.search_history (clicked_comic_id, searched_at DESC) WHERE clicked_comic_id IS NOT NULL;

CREATE TABLE comics.system_logs (
  log_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  logged_at      timestamptz NOT NULL,
  created_at     timestamptz NOT NULL DEFAULT now(),
  user_id        uuid REFERENCES comics.users ON DELETE SET NULL,
  session_id     uuid REFERENCES comics.user_sessions ON DELETE SET NULL,
  correlation_id uuid,
  level          text NOT NULL CHECK (level IN ('debug', 'info', 'warning', 'error', 'critical')),
  component      text NOT NULL CHECK (component <> ''),
  message        text NOT NULL,
  context        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(context) = 'object')
);
COMMENT ON TABLE comics.system_logs IS 'What the price guide''s own services logged';
COMMENT ON COLUMN comics.system_logs.correlation_id IS 'Common to all that one request caused';
-- Logs arrive in the order of their time, so block ranges find a period at a hundredth of a btree's size.
CREATE INDEX system_logs_by_time ON comics.system_logs USING brin (logged_at);
CREATE INDEX system_logs_errors ON comics.system_logs (logged_at DESC) WHERE level IN ('error', 'critical');
CREATE INDEX system_logs_by_component ON comics.system_logs (component, logged_at DESC);
CREATE INDEX system_logs_by_correlation ON comics.system_logs (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX system_logs_by_user ON comics.system_logs (user_id, logged_at DESC) WHERE user_id IS NOT NULL;
CREATE INDEX system_logs_by_session ON comics.system_logs (session_id) WHERE session_id IS NOT NULL;

-- migrate: down
DROP TABLE comics.system_logs, comics.search_history;
