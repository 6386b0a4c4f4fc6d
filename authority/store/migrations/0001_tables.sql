CREATE TABLE settings (
  key   TEXT NOT NULL PRIMARY KEY,
  value BYTEA
);

CREATE TABLE pings (
  node TEXT NOT NULL PRIMARY KEY,
  at   BIGINT NOT NULL
);

CREATE TABLE tokens (
  hash    BYTEA NOT NULL PRIMARY KEY,
  users   TEXT NOT NULL,
  serial  TEXT NOT NULL,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  by_name TEXT NOT NULL,
  device  TEXT NOT NULL,
  used    BIGINT NOT NULL
);
CREATE INDEX tokens_expires ON tokens (expires);

CREATE TABLE devices (
  id          TEXT NOT NULL PRIMARY KEY,
  name        TEXT NOT NULL,
  serial      TEXT NOT NULL,
  platform    TEXT NOT NULL,
  version     TEXT NOT NULL,
  sealing_key BYTEA,
  users       TEXT NOT NULL,
  key_hash    BYTEA,
  expires     BIGINT NOT NULL,
  created     BIGINT NOT NULL,
  seen        BIGINT NOT NULL,
  revoked     BIGINT NOT NULL,
  why         TEXT NOT NULL,
  vault_id    TEXT NOT NULL,
  generation  BIGINT NOT NULL
);
CREATE INDEX devices_name ON devices (name, id);

CREATE TABLE device_users (
  device    TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
  user_name TEXT NOT NULL,
  PRIMARY KEY (device, user_name)
);
CREATE INDEX device_users_user ON device_users (user_name, device);

CREATE TABLE users (
  name    TEXT NOT NULL PRIMARY KEY,
  created BIGINT NOT NULL
);

CREATE TABLE approvers (
  id            TEXT NOT NULL PRIMARY KEY,
  credential_id BYTEA NOT NULL,
  public_key    BYTEA,
  phone         TEXT NOT NULL,
  synced        BOOLEAN NOT NULL,
  user_name     TEXT NOT NULL,
  device        TEXT NOT NULL,
  pending       BOOLEAN NOT NULL,
  counter       BIGINT NOT NULL,
  created       BIGINT NOT NULL
);
CREATE UNIQUE INDEX approvers_credential ON approvers (credential_id);
CREATE INDEX approvers_user ON approvers (user_name, created, id);

CREATE TABLE sessions (
  hash         BYTEA NOT NULL PRIMARY KEY,
  approver     TEXT NOT NULL REFERENCES approvers (id) ON DELETE CASCADE,
  subscription BYTEA,
  created      BIGINT NOT NULL,
  seen         BIGINT NOT NULL
);
CREATE INDEX sessions_approver ON sessions (approver, seen);

CREATE TABLE challenges (
  id             TEXT NOT NULL PRIMARY KEY,
  device         TEXT NOT NULL,
  user_name      TEXT NOT NULL,
  resource       TEXT NOT NULL,
  bytes          BYTEA,
  credential_ids TEXT NOT NULL,
  created        BIGINT NOT NULL,
  expires        BIGINT NOT NULL,
  answer         BYTEA,
  answered       BIGINT NOT NULL,
  outcome        TEXT NOT NULL,
  ended          BIGINT NOT NULL
);
CREATE INDEX challenges_user ON challenges (user_name, expires);
CREATE INDEX challenges_device ON challenges (device, expires) WHERE ended = 0;
CREATE INDEX challenges_expires ON challenges (expires);

CREATE TABLE push_states (
  user_name TEXT NOT NULL,
  device    TEXT NOT NULL,
  state     BYTEA,
  PRIMARY KEY (user_name, device)
);

CREATE TABLE enrolments (
  id           TEXT NOT NULL PRIMARY KEY,
  user_name    TEXT NOT NULL,
  device       TEXT NOT NULL,
  secret       BYTEA,
  created      BIGINT NOT NULL,
  expires      BIGINT NOT NULL,
  registration BYTEA,
  mac          BYTEA,
  session      BYTEA,
  done         BOOLEAN NOT NULL,
  accepted     BOOLEAN NOT NULL,
  reason       TEXT NOT NULL
);
CREATE INDEX enrolments_device ON enrolments (device, expires) WHERE NOT done;
CREATE INDEX enrolments_user ON enrolments (user_name) WHERE NOT done;
CREATE INDEX enrolments_expires ON enrolments (expires);

CREATE TABLE items (
  device    TEXT NOT NULL,
  user_name TEXT NOT NULL,
  kind      TEXT NOT NULL,
  version   BIGINT NOT NULL,
  envelope  BYTEA,
  refused   TEXT NOT NULL,
  PRIMARY KEY (device, user_name, kind)
);

-- pos is the order in which events came to be seen, which Events reads by.
CREATE TABLE events (
  id        IDENTITY PRIMARY KEY,
  pos       BIGINT,
  device    TEXT NOT NULL,
  vault_id  TEXT NOT NULL,
  seq       BIGINT NOT NULL,
  at        BIGINT NOT NULL,
  kept      BIGINT NOT NULL,
  name      TEXT NOT NULL,
  user_name TEXT NOT NULL,
  json      BYTEA
);
CREATE UNIQUE INDEX events_seq ON events (device, vault_id, seq);
CREATE UNIQUE INDEX events_pos ON events (pos);
CREATE INDEX events_device ON events (device, pos);
CREATE INDEX events_user ON events (user_name, pos);

-- A run is one start of a node: the streams of a run that is over count for none.
CREATE TABLE nodes (
  node TEXT NOT NULL PRIMARY KEY,
  run  TEXT NOT NULL,
  seen BIGINT NOT NULL
);

CREATE TABLE streams (
  device TEXT NOT NULL PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
  node   TEXT NOT NULL,
  run    TEXT NOT NULL,
  since  BIGINT NOT NULL
);
CREATE INDEX streams_run ON streams (run);
