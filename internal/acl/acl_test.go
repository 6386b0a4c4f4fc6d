package acl

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestAListThatGivesOrCannotBeReadIsRefused(t *testing.T) {
	const path = "/Library/Application Support/Sallyport/state"
	if err := verdict(path, false, nil); err != nil {
		t.Error(err)
	}
	if err := verdict(path, true, nil); err == nil || !strings.Contains(err.Error(), `chmod -N "`+path+`"`) {
		t.Errorf("%v", err)
	}
	for _, gives := range []bool{false, true} {
		if err := verdict(path, gives, fs.ErrPermission); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v", err)
		}
	}
}
