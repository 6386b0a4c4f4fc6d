-- For other processes on this file; those on PostgreSQL have NOTIFY.
CREATE TABLE notices (
  id     INTEGER PRIMARY KEY AUTOINCREMENT,
  at     BIGINT NOT NULL,
  run    TEXT NOT NULL,
  sender TEXT NOT NULL,
  topic  TEXT NOT NULL,
  device TEXT NOT NULL,
  ref    TEXT NOT NULL
);
CREATE INDEX notices_at ON notices (at);
