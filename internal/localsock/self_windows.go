package localsock

import (
	"sync"

	"golang.org/x/sys/windows"

	"sallyport/internal/identity"
)

// Self is the account that this process runs as; nobody when Windows does not say.
func Self() identity.ID { return self() }

var self = sync.OnceValue(func() identity.ID {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return ""
	}
	id, err := identity.SID(user.User.Sid.String())
	if err != nil {
		return ""
	}
	return id
})
