package store

// Finish is what Update does on PostgreSQL before it commits.
func Finish(t Tx) error { return t.(*tx).finish() }
