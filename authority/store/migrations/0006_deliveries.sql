-- What is searched for. The order of a search is the events' own time.
ALTER TABLE events ADD COLUMN verdict TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN reason TEXT NOT NULL DEFAULT '';
DROP INDEX events_device;
DROP INDEX events_user;
CREATE INDEX events_at ON events (at, pos);
CREATE INDEX events_user ON events (user_name, at, pos);
CREATE INDEX events_device ON events (device, at, pos);
-- What most events have needs no index of its own: it is found by the time.
CREATE INDEX events_name ON events (name, at, pos) WHERE name <> 'login_attempt';
CREATE INDEX events_denied ON events (at, pos) WHERE verdict = 'deny';
CREATE INDEX events_reason ON events (reason, at, pos) WHERE reason <> '' AND reason <> 'code_accepted' AND reason <> 'push_approved' AND reason <> 'exempt' AND reason <> 'not_asked';

-- How far each computer's events are: seq is the last that is here, or that the
-- computer says it has dropped.
CREATE TABLE event_heads (
  device   TEXT NOT NULL,
  vault_id TEXT NOT NULL,
  seq      BIGINT NOT NULL,
  dropped  BIGINT NOT NULL,
  PRIMARY KEY (device, vault_id)
);
INSERT INTO event_heads (device, vault_id, seq, dropped)
  SELECT device, vault_id, MAX(seq), 0 FROM events WHERE device <> '' GROUP BY device, vault_id;

-- How far each outlet is, and which run of a node delivers until when.
CREATE TABLE deliveries (
  sink         TEXT NOT NULL PRIMARY KEY,
  pos          BIGINT NOT NULL,
  sent         BIGINT NOT NULL,
  delivered    BIGINT NOT NULL,
  missed       BIGINT NOT NULL,
  told         BIGINT NOT NULL,
  missed_at    BIGINT NOT NULL,
  node         TEXT NOT NULL,
  run          TEXT NOT NULL,
  lease        BIGINT NOT NULL,
  failed_since BIGINT NOT NULL,
  error        TEXT NOT NULL
);
