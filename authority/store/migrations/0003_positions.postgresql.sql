CREATE SEQUENCE event_positions;
