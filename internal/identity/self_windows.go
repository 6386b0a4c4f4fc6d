package identity

import (
	"sync"

	"golang.org/x/sys/windows"
)

// Self is the account that this process runs as; nobody when Windows does not say.
func Self() ID { return self() }

var self = sync.OnceValue(func() ID {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return ""
	}
	id, err := SID(user.User.Sid.String())
	if err != nil {
		return ""
	}
	return id
})
