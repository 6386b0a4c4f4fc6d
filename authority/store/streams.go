package store

import "time"

// alive are the streams of nodes whose heart beats: $1 is since when, $2 this run.
const alive = ` FROM streams s JOIN nodes n ON n.node = s.node AND n.run = s.run WHERE (n.seen >= $1 OR n.run = $2)`

func (t *tx) aliveSince(now time.Time) int64 { return nano(now.Add(-aliveFor)) }

func (t *tx) StreamNode(device string, now time.Time) (node string, err error) {
	err = t.one([]any{&node}, `SELECT s.node`+alive+` AND s.device = $3`, t.aliveSince(now), t.run, device)
	if err == ErrNotFound {
		err = nil
	}
	return node, err
}

func (t *tx) StreamsHere() ([]string, error) {
	return all(t, func(device *string) []any { return []any{device} }, `SELECT device FROM streams WHERE run = $1`, t.run)
}

func (t *tx) Online(now time.Time) (map[string]string, error) {
	type stream struct{ device, node string }
	list, err := all(t, func(s *stream) []any { return []any{&s.device, &s.node} }, `SELECT s.device, s.node`+alive, t.aliveSince(now), t.run)
	if err != nil {
		return nil, err
	}
	online := make(map[string]string, len(list))
	for _, s := range list {
		online[s.device] = s.node
	}
	return online, nil
}

func (t *tx) Counts(now time.Time) (c Counts, err error) {
	for _, q := range []struct {
		to   *int
		sql  string
		args []any
	}{
		{&c.Devices, `SELECT COUNT(*) FROM devices WHERE revoked = 0`, nil},
		{&c.Online, `SELECT COUNT(*)` + alive, []any{t.aliveSince(now), t.run}},
		{&c.Users, `SELECT COUNT(*) FROM users`, nil},
		{&c.Phones, `SELECT COUNT(*) FROM approvers`, nil},
		{&c.PhonesPending, `SELECT COUNT(*) FROM approvers WHERE pending`, nil},
		{&c.TokensOpen, `SELECT COUNT(*) FROM tokens WHERE used = 0 AND expires > $1`, []any{nano(now)}},
	} {
		if err := t.one([]any{q.to}, q.sql, q.args...); err != nil {
			return Counts{}, err
		}
	}
	return c, nil
}
