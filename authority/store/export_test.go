package store

// Exec runs a statement within a transaction.
func Exec(t Tx, sql string, args ...any) error { return t.(*tx).exec(sql, args...) }

// Bound has lists end, and a search for a text pause, after so many rows.
func Bound(s Store, n int) {
	switch s := s.(type) {
	case *sqliteStore:
		s.maxList, s.maxLooked = n, n
	case *pgStore:
		s.maxList, s.maxLooked = n, n
	}
}

// Statements is how many fn runs within a transaction.
func Statements(t Tx, fn func(Tx) error) (int, error) {
	p := &planned{querier: t.(*tx).q}
	err := fn(&tx{core: t.(*tx).core, q: p})
	return len(p.statements), err
}
