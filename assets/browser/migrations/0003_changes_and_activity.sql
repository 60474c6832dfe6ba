-- browser 0003: Changes and audited activity as they landed
--
-- Both are logs of versions that only grow: longbox.record_keys tells which version is current. They point at no user
-- and no resource, because what was done outlives those it was done to.

-- migrate: up
CREATE TABLE browser.change_log (
  raw_id        bigint GENERATED ALWAYS AS IDENTITY,
  changed_at    timestamptz NOT NULL,
  loaded_at     timestamptz NOT NULL DEFAULT now(),
  version       bigint NOT NULL,
  load_id       bigint NOT NULL,
  line          bigint NOT NULL,
  landing_day   date NOT NULL,
  key_hash      uuid NOT NULL,
  content_hash  uuid NOT NULL,
  resource_id   uuid NOT NULL,
  user_id       uuid NOT NULL,
  device_id     uuid,
  resource_type browser.resource_type NOT NULL,
  field         text NOT NULL,
  operation     text NOT NULL,
  old_value     jsonb,
  new_value     jsonb,
  PRIMARY KEY (raw_id, changed_at),
  CONSTRAINT change_has_a_version CHECK (version >= 1),
  CONSTRAINT change_has_an_operation CHECK (operation IN ('insert', 'update', 'delete')),
  CONSTRAINT change_names_its_field CHECK (field <> '')
) PARTITION BY RANGE (changed_at);
COMMENT ON TABLE browser.change_log IS 'Every version of every change of a document''s field as it landed: a log that only grows';
COMMENT ON COLUMN browser.change_log.raw_id IS 'Number of the row, without meaning';
COMMENT ON COLUMN browser.change_log.changed_at IS 'When the device made the change: of two that wrote one version, the later wins';
COMMENT ON COLUMN browser.change_log.loaded_at IS 'When the row was loaded';
COMMENT ON COLUMN browser.change_log.version IS 'The document''s version that the change made';
COMMENT ON COLUMN browser.change_log.load_id IS 'The file it came from: longbox.loads';
COMMENT ON COLUMN browser.change_log.line IS 'Line in that file';
COMMENT ON COLUMN browser.change_log.landing_day IS 'Day whose landing folder held the file';
COMMENT ON COLUMN browser.change_log.key_hash IS 'Identity of the record, as in longbox.record_keys';
COMMENT ON COLUMN browser.change_log.content_hash IS 'Identity of this version of the record';
COMMENT ON COLUMN browser.change_log.resource_id IS 'The document that was changed';
COMMENT ON COLUMN browser.change_log.user_id IS 'Who changed it';
COMMENT ON COLUMN browser.change_log.device_id IS 'On which device';
COMMENT ON COLUMN browser.change_log.resource_type IS 'What kind of document it is';
COMMENT ON COLUMN browser.change_log.field IS 'Which field of it';
COMMENT ON COLUMN browser.change_log.operation IS 'insert, update or delete';
COMMENT ON COLUMN browser.change_log.old_value IS 'The field before; null for an insert';
COMMENT ON COLUMN browser.change_log.new_value IS 'The field after; null for a delete';
CREATE INDEX change_log_by_load ON browser.change_log (load_id);
CREATE INDEX change_log_by_key ON browser.change_log (key_hash);
CREATE INDEX change_log_by_resource ON browser.change_log (resource_id, changed_at DESC);
CREATE INDEX change_log_by_user ON browser.change_log (user_id, changed_at DESC);
CREATE INDEX change_log_by_landing ON browser.change_log USING brin (landing_day) WITH (pages_per_range = 32);

CREATE TABLE browser.activity_logs (
  raw_id        bigint GENERATED ALWAYS AS IDENTITY,
  occurred_at   timestamptz NOT NULL,
  loaded_at     timestamptz NOT NULL DEFAULT now(),
  load_id       bigint NOT NULL,
  line          bigint NOT NULL,
  landing_day   date NOT NULL,
  duration_ms   integer,
  key_hash      uuid NOT NULL,
  content_hash  uuid NOT NULL,
  event_id      uuid NOT NULL,
  user_id       uuid,
  session_id    uuid,
  resource_id   uuid,
  resource_type browser.resource_type,
  action        text NOT NULL,
  ip_address    text,
  user_agent    text,
  details       jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (raw_id, occurred_at),
  CONSTRAINT activity_has_an_action CHECK (
    action IN ('CREATE', 'READ', 'UPDATE', 'DELETE', 'SCHEMA_CHANGES', 'ACCESS_DENIED')),
  CONSTRAINT activity_lasts_no_negative_time CHECK (duration_ms >= 0)
) PARTITION BY RANGE (occurred_at);
COMMENT ON TABLE browser.activity_logs IS 'Who did what to which resource, as it landed: a log that only grows';
COMMENT ON COLUMN browser.activity_logs.raw_id IS 'Number of the row, without meaning';
COMMENT ON COLUMN browser.activity_logs.occurred_at IS 'When it happened; decides the partition';
COMMENT ON COLUMN browser.activity_logs.loaded_at IS 'When the row was loaded';
COMMENT ON COLUMN browser.activity_logs.load_id IS 'The file it came from: longbox.loads';
COMMENT ON COLUMN browser.activity_logs.line IS 'Line in that file';
COMMENT ON COLUMN browser.activity_logs.landing_day IS 'Day whose landing folder held the file';
COMMENT ON COLUMN browser.activity_logs.duration_ms IS 'How long the request took';
COMMENT ON COLUMN browser.activity_logs.key_hash IS 'Identity of the record, as in longbox.record_keys';
COMMENT ON COLUMN browser.activity_logs.content_hash IS 'Identity of this version of the record';
COMMENT ON COLUMN browser.activity_logs.event_id IS 'Identity of the event, given by the service that wrote it';
COMMENT ON COLUMN browser.activity_logs.user_id IS 'Who did it; null for services';
COMMENT ON COLUMN browser.activity_logs.session_id IS 'In which session';
COMMENT ON COLUMN browser.activity_logs.resource_id IS 'To which resource; null for none';
COMMENT ON COLUMN browser.activity_logs.resource_type IS 'What kind of resource that is';
COMMENT ON COLUMN browser.activity_logs.action IS 'What was done, or was denied';
COMMENT ON COLUMN browser.activity_logs.ip_address IS 'Where the request came from, as the service wrote it';
COMMENT ON COLUMN browser.activity_logs.user_agent IS 'As the device said';
COMMENT ON COLUMN browser.activity_logs.details IS 'What else the service wrote';
CREATE INDEX activity_logs_by_load ON browser.activity_logs (load_id);
CREATE INDEX activity_logs_by_key ON browser.activity_logs (key_hash);
CREATE INDEX activity_logs_by_user ON browser.activity_logs (user_id, occurred_at DESC) WHERE user_id IS NOT NULL;
CREATE INDEX activity_logs_by_resource ON browser.activity_logs (resource_id, occurred_at DESC) WHERE resource_id IS NOT NULL;
CREATE INDEX activity_logs_denied ON browser.activity_logs (occurred_at DESC) WHERE action = 'ACCESS_DENIED';
CREATE INDEX activity_logs_by_details ON browser.activity_logs USING gin (details jsonb_path_ops);
CREATE INDEX activity_logs_by_landing ON browser.activity_logs USING brin (landing_day) WITH (pages_per_range = 32);

-- migrate: down
DROP TABLE browser.activity_logs, browser.change_log;
