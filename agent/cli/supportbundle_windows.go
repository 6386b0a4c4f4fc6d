package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"sallyport/agent/cli/doctor"
	"sallyport/internal/config"
	"sallyport/internal/winreg"
)

// versionCommands say what system this is.
var versionCommands = [][]string{{"cmd.exe", "/c", "ver"}}

func (a *app) platformParts(ctx context.Context, since time.Time) []bundlePart {
	return []bundlePart{
		{name: "log.txt", what: "the Event Log, Application, source Sallyport", log: true, get: func() (string, error) {
			// timediff(): "Consuming Events", Windows Event Log.
			return a.program(ctx, "wevtutil.exe", "qe", "Application", "/f:text", "/rd:true", "/c:"+bundleLines,
				fmt.Sprintf("/q:*[System[Provider[@Name='Sallyport'] and TimeCreated[timediff(@SystemTime) <= %d]]]", a.deps.Now().Sub(since).Milliseconds()))
		}},
		{name: "registry.txt", what: "our policies, and how the credential provider is registered", get: a.registry},
		{name: "service.txt", what: "the service's state", get: func() (string, error) {
			s, err := a.windows().Service()
			if err != nil || s == nil {
				return "", errors.Join(err, errors.New("it is not registered"))
			}
			return fmt.Sprintf("running %v, automatic %v, account %s, restarted after a failure %v\ncommand %s\n", s.Running, s.Automatic, s.Account, s.Restarts, s.Command), nil
		}},
	}
}

// registry is every key of ours.
func (a *app) registry() (string, error) {
	var b strings.Builder
	var failed error
	for _, path := range append([]string{config.PoliciesKey, config.ProviderKey}, doctor.ProviderKeys()...) {
		k, err := a.windows().Key(path)
		failed = errors.Join(failed, err)
		switch {
		case err != nil:
		case k == nil:
			_, _ = fmt.Fprintf(&b, "%s: is not there\n", path)
		default:
			printKey(&b, path, k)
		}
	}
	return b.String(), failed
}

func printKey(b *strings.Builder, path string, k *winreg.Key) {
	_, _ = fmt.Fprintf(b, "%s\n", clean(path))
	for _, v := range k.Values {
		var shown string
		if list, err := v.Texts(); err == nil {
			shown = fmt.Sprintf("%q", list)
		} else if text, err := v.Text(); err == nil {
			shown = fmt.Sprintf("%q", text)
		} else if n, err := v.Number(); err == nil {
			shown = fmt.Sprint(n)
		} else {
			shown = fmt.Sprintf("%d bytes of another type", len(v.Data))
		}
		_, _ = fmt.Fprintf(b, "  %s = %s\n", clean(v.Name), clean(shown))
	}
	for _, sub := range k.Keys {
		printKey(b, path+`\`+sub.Name, &sub.Key)
	}
}

// fileOwner: who owns what and who may is for doctor to say.
func fileOwner(fs.FileInfo) string { return "-" }
