UPDATE events SET verdict = COALESCE(CAST(json AS TEXT) ->> 'verdict', ''), reason = COALESCE(CAST(json AS TEXT) ->> 'reason', '') WHERE json_valid(CAST(json AS TEXT));
CREATE TRIGGER events_append_only BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are only ever added'); END;
