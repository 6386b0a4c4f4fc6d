package doctor

import (
	"context"
	"strings"
)

// Authority is what the agent says of the authority that this computer has joined.
type Authority struct {
	URL       string
	Connected bool
	Why       string // not connected
	Refused   bool   // by the authority, on purpose
	Until     string // the certificate's end, for people
	Trust     []string
	// NoCode have a phone and no code: push is not used for them. NotAllowed have
	// one, and the authority does not list them here.
	NoCode, NotAllowed []string
}

// checkAuthority looks at what push needs, where an authority was joined.
func checkAuthority(_ context.Context, e *Env) []Result {
	a := e.Authority
	if a == nil {
		return nil
	}
	var out []Result
	if a.Connected {
		out = append(out, ok("authority", "%s is connected; this computer's certificate is good until %s", a.URL, a.Until))
	} else {
		why := ""
		if a.Why != "" {
			why = ": " + a.Why
		}
		remedy := "it is tried again by itself; look at the network and at the authority: sallyport-authority status"
		if a.Refused {
			remedy = "the authority ended it on purpose; what to do: sallyport status"
		}
		out = append(out, warn("authority", remedy,
			"%s is not connected%s. No phone rings; logins go on with codes", a.URL, why))
	}
	if len(a.NoCode) > 0 {
		out = append(out, warn("authority", "sallyport enroll USER", "a phone, and no code, have: %s. Nobody is push-only, so that they are not asked for a push", names(a.NoCode)))
	}
	if len(a.NotAllowed) > 0 {
		out = append(out, warn("authority", "at the authority: sallyport-authority device allow; or here: sallyport phones remove USER PHONE",
			"a phone, and no leave of the authority to use it here, have: %s", names(a.NotAllowed)))
	}
	for _, t := range a.Trust {
		out = append(out, info("authority", "%s", t))
	}
	return out
}

// names lists people, not all of thousands.
func names(list []string) string {
	const most = 20
	if len(list) > most {
		return strings.Join(list[:most], ", ") + ", ..."
	}
	return strings.Join(list, ", ")
}
