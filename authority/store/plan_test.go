package store

import (
	"fmt"
	"strings"
)

// Plan is how SQLite would do a search.
func Plan(t Tx, q EventQuery) (plan string, err error) {
	var at *place
	if q.Cursor != "" {
		p, err := parsePlace(q.Cursor)
		if err != nil {
			return "", err
		}
		at = &p
	}
	text, args := searchSQL(q, strings.Join(q.Names, ""), at, 50)
	var id, parent, unused int64
	var line string
	err = t.(*tx).q.query(func(r scanner) error {
		err := r.Scan(&id, &parent, &unused, &line)
		plan += line + "\n"
		return err
	}, `EXPLAIN QUERY PLAN `+text, args...)
	return strings.TrimSuffix(plan, "\n"), err
}

// Remigrate takes the database back before the migrations of these numbers, as far as
// they are about events, and runs them again.
func Remigrate(t Tx, kind string, numbers ...string) error {
	back := []string{`DROP TRIGGER events_append_only`, `DROP TABLE event_heads`, `DROP TABLE deliveries`, `DROP INDEX events_at`, `DROP INDEX events_name`,
		`DROP INDEX events_denied`, `DROP INDEX events_reason`, `ALTER TABLE events DROP COLUMN verdict`, `ALTER TABLE events DROP COLUMN reason`}
	if kind == kindPostgreSQL {
		back[0] += ` ON events`
		back = append(back, `DROP FUNCTION events_append_only`)
	}
	for _, number := range numbers {
		entries, err := migrations.ReadDir("migrations")
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), number) || strings.Count(e.Name(), ".") == 2 && !strings.Contains(e.Name(), "."+kind+".") {
				continue
			}
			b, err := migrations.ReadFile("migrations/" + e.Name())
			if err != nil {
				return err
			}
			for s := range strings.SplitSeq(dialects[kind].Replace(string(b)), ";\n") {
				if s = strings.TrimSpace(s); s != "" {
					back = append(back, s)
				}
			}
		}
	}
	for _, s := range back {
		if err := Exec(t, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}
