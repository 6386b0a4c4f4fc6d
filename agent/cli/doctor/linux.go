package doctor

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"sallyport/internal/identity"
)

// Stat is what matters of a file.
type Stat struct {
	Mode fs.FileMode
	UID  int
}

func checkSockets(_ context.Context, e *Env) []Result {
	if e.AgentDown != "" {
		return nil // said already
	}
	var out []Result
	restart, who := "restart the agent, which sets it: systemctl restart sallyport", "see who it is: ss -xlp"
	if e.Mac != nil {
		restart, who = "restart the agent, which sets it: "+macRestart, "see who it is: sudo lsof -U"
	}
	if dir, err := e.Lstat(e.RuntimeDir); err == nil && dir.Mode.Perm()&0o022 != 0 {
		out = append(out, fail("sockets", "chmod go-w "+e.RuntimeDir,
			"%s can be written by others (%v): they could put their own sockets there", e.RuntimeDir, dir.Mode.Perm()))
	}
	for _, s := range []struct {
		path  string
		wrong func(fs.FileMode) string
	}{
		{e.LoginSocket, func(m fs.FileMode) string {
			if m != 0o666 {
				return "not 0666: programs that do not run as root, such as screen lockers, cannot ask"
			}
			return ""
		}},
		{e.AdminSocket, func(m fs.FileMode) string {
			if m&0o007 != 0 {
				return "open to everybody: only root and one group may use it"
			}
			return ""
		}},
	} {
		st, err := e.Lstat(s.path)
		if err != nil {
			out = append(out, fail("sockets", restart, "%s: %v", s.path, plainError(err)))
			continue
		}
		if st.Mode.Type() != fs.ModeSocket {
			out = append(out, fail("sockets", restart, "%s is not a socket", s.path))
			continue
		}
		if st.UID != 0 && st.UID != e.EUID {
			out = append(out, fail("sockets", "see who put it there: ls -l "+s.path, "%s belongs to uid %d, neither root nor you", s.path, st.UID))
			continue
		}
		if wrong := s.wrong(st.Mode.Perm()); wrong != "" {
			out = append(out, fail("sockets", restart, "%s has mode %#o, %s", s.path, st.Mode.Perm(), wrong))
			continue
		}
		peer, err := e.Peer(s.path)
		switch {
		case errors.Is(err, fs.ErrPermission):
			out = append(out, info("sockets", "%s is not for you (run doctor as root to check it)", s.path))
		case err != nil:
			out = append(out, fail("sockets", restart, "%s: %v", s.path, err))
		case !peer.IsRoot() && peer != identity.UID(uint32(e.EUID)):
			out = append(out, fail("sockets", who, "%s answers on %s: hooks refuse an agent that is not root's", peer, s.path))
		default:
			out = append(out, ok("sockets", "%s: mode %#o, answered by %s", s.path, st.Mode.Perm(), peer))
		}
	}
	return out
}

// plainError leaves the path out, which the text has already.
func plainError(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

func checkClock(ctx context.Context, e *Env) []Result {
	synced, err := e.Synchronised()
	if err != nil {
		answer, runErr := e.Run(ctx, "timedatectl", "show", "--property=NTPSynchronized", "--value")
		if runErr != nil {
			return []Result{info("clock", "whether it is synchronised cannot be told: %v", err)}
		}
		synced = strings.TrimSpace(string(answer)) == "yes"
	}
	if !synced {
		return []Result{warn("clock", "turn it on: timedatectl set-ntp true (or install chrony)",
			"it is not synchronised: codes are refused once it is more than about a minute off")}
	}
	return []Result{ok("clock", "synchronised")}
}

func checkSELinux(ctx context.Context, e *Env) []Result {
	enforce, err := fs.ReadFile(e.Root, "sys/fs/selinux/enforce")
	if err != nil || strings.TrimSpace(string(enforce)) != "1" {
		return nil // no SELinux, or permissive
	}
	remedy := "semodule -i /usr/share/selinux/packages/sallyport.cil; systemctl restart sallyport"
	list, err := e.Run(ctx, "semodule", "-l")
	if err != nil {
		return []Result{info("selinux", "enforcing; whether its policy knows the agent's socket cannot be told (run doctor as root)")}
	}
	for line := range strings.Lines(string(list)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == "sallyport" {
			return []Result{ok("selinux", "enforcing, with the policy module")}
		}
	}
	return []Result{fail("selinux", remedy, "enforcing, and its policy has no module for Sallyport: sshd may not reach the agent's socket")}
}

// glob is fs.Glob for patterns that are well-formed.
func glob(fsys fs.FS, patterns ...string) (out []string) {
	for _, p := range patterns {
		names, _ := fs.Glob(fsys, p)
		out = append(out, names...)
	}
	return out
}

// unitPlaces are where systemd finds the agent's unit, the stronger first.
var unitPlaces = []string{"etc/systemd/system/sallyport.service", "run/systemd/system/sallyport.service", "usr/lib/systemd/system/sallyport.service", "lib/systemd/system/sallyport.service"}

// checkUnit looks whether systemd lets the agent onto the network: the unit of a
// version without push did not, and an upgrade of the programs does not replace it.
func checkUnit(_ context.Context, e *Env) []Result {
	if e.Authority == nil {
		return nil
	}
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
