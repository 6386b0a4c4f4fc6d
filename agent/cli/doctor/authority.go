package doctor

import (
	"context"
	"io/fs"
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

// unitPlaces are where systemd finds the agent's unit, the stronger first.
var unitPlaces = []string{"etc/systemd/system/sallyport.service", "run/systemd/system/sallyport.service", "usr/lib/systemd/system/sallyport.service", "lib/systemd/system/sallyport.service"}

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
	out = append(out, checkUnit(e)...)
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

// checkUnit looks whether systemd lets the agent onto the network: the unit of a
// version without push did not, and an upgrade of the programs does not replace it.
func checkUnit(e *Env) []Result {
	files := glob(e.Root, "etc/systemd/system/sallyport.service.d/*.conf")
	for _, name := range unitPlaces {
		if _, err := fs.Stat(e.Root, name); err == nil {
			files = append([]string{name}, files...)
			break
		}
	}
	// systemd.exec(5): several lines add up, an empty one takes back those before.
	families, where := "", ""
	for _, name := range files {
		text, err := fs.ReadFile(e.Root, name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if key != "RestrictAddressFamilies" {
				continue
			}
			if where = name; value == "" {
				families, where = "", ""
			}
			families += " " + value
		}
	}
	if where == "" || strings.Contains(families, "AF_INET") {
		return nil
	}
	return []Result{fail("authority", "sallyport service uninstall && sallyport service install && sallyport service start",
		"/%s lets the agent have no network (RestrictAddressFamilies): it is of a version without push", where)}
}
