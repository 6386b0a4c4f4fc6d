package store

// Exec runs a statement within a transaction.
func Exec(t Tx, sql string, args ...any) error { return t.(*tx).exec(sql, args...) }
