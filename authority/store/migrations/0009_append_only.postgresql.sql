UPDATE events SET verdict = COALESCE(substring(convert_from(json, 'UTF8') from '"verdict":"([a-z_]*)"'), ''), reason = COALESCE(substring(convert_from(json, 'UTF8') from '"reason":"([a-z_]*)"'), '');
CREATE FUNCTION events_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''events are only ever added''; END';
CREATE TRIGGER events_append_only BEFORE UPDATE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION events_append_only();
