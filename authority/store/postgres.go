package store

import (
	"context"
	"errors"
)

func openPostgreSQL(ctx context.Context, url string, c *core) (Store, error) {
	return nil, errors.New("store: PostgreSQL comes in a moment")
}
