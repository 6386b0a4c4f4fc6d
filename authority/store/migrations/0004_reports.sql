-- What each computer said last of itself.
CREATE TABLE reports (
  device         TEXT NOT NULL PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
  at             BIGINT NOT NULL,
  os             TEXT NOT NULL,
  state          TEXT NOT NULL,
  problems       TEXT NOT NULL,
  people         BIGINT NOT NULL,
  offline_ready  BIGINT NOT NULL,
  left_out       BIGINT NOT NULL,
  events_waiting BIGINT NOT NULL,
  events_dropped BIGINT NOT NULL,
  policy_version BIGINT NOT NULL
);

-- And of each person's means to log in there. A row for each, as one of many changes
-- with each login.
CREATE TABLE report_people (
  device       TEXT NOT NULL REFERENCES reports (device) ON DELETE CASCADE,
  id           TEXT NOT NULL,
  user_name    TEXT NOT NULL,
  locked_until BIGINT NOT NULL,
  facts        TEXT NOT NULL,
  PRIMARY KEY (device, id)
);
CREATE INDEX report_people_user ON report_people (user_name, device);
CREATE INDEX report_people_locked ON report_people (device, locked_until) WHERE locked_until > 0;

-- What each computer said last of what was signed for it.
CREATE TABLE item_answers (
  device    TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
  kind      TEXT NOT NULL,
  user_name TEXT NOT NULL,
  version   BIGINT NOT NULL,
  refused   TEXT NOT NULL,
  at        BIGINT NOT NULL,
  PRIMARY KEY (device, kind, user_name)
);
CREATE INDEX item_answers_refused ON item_answers (device) WHERE refused <> '';
