CREATE TABLE operators (
  name    TEXT NOT NULL PRIMARY KEY,
  role    TEXT NOT NULL,
  created BIGINT NOT NULL
);

CREATE TABLE operator_keys (
  credential_id BYTEA NOT NULL PRIMARY KEY,
  operator      TEXT NOT NULL REFERENCES operators (name) ON DELETE CASCADE,
  public_key    BYTEA,
  label         TEXT NOT NULL,
  synced        BOOLEAN NOT NULL,
  counter       BIGINT NOT NULL,
  created       BIGINT NOT NULL,
  used          BIGINT NOT NULL
);
CREATE INDEX operator_keys_operator ON operator_keys (operator, created);

CREATE TABLE operator_invitations (
  hash     BYTEA NOT NULL PRIMARY KEY,
  operator TEXT NOT NULL REFERENCES operators (name) ON DELETE CASCADE,
  created  BIGINT NOT NULL,
  expires  BIGINT NOT NULL
);
CREATE INDEX operator_invitations_operator ON operator_invitations (operator);

CREATE TABLE operator_sessions (
  hash     BYTEA NOT NULL PRIMARY KEY,
  operator TEXT NOT NULL REFERENCES operators (name) ON DELETE CASCADE,
  created  BIGINT NOT NULL,
  seen     BIGINT NOT NULL
);
CREATE INDEX operator_sessions_operator ON operator_sessions (operator);

-- What may be used once: a login's challenge, a form. Kept until it would have ended.
CREATE TABLE operator_used (
  id   BYTEA NOT NULL PRIMARY KEY,
  ends BIGINT NOT NULL
);
CREATE INDEX operator_used_ends ON operator_used (ends);

CREATE TABLE operator_requests (
  id       TEXT NOT NULL PRIMARY KEY,
  operator TEXT NOT NULL REFERENCES operators (name) ON DELETE CASCADE,
  action   TEXT NOT NULL,
  input    BYTEA,
  created  BIGINT NOT NULL,
  expires  BIGINT NOT NULL,
  approver TEXT NOT NULL
);
CREATE INDEX operator_requests_expires ON operator_requests (expires);
