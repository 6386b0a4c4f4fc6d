package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/agent/cli/migrate"
)

const (
	googleFile = ".google_authenticator"
	maxDrift   = 3 // steps; the agent's bound on a learnt drift
)

func (a *app) importGoogleCommand() *cobra.Command {
	var owner string
	var allHomes, replace bool
	c := &cobra.Command{
		Use:   "google-authenticator FILE | --all-homes",
		Short: "take over ~/.google_authenticator files",
		Long: `Takes over the secret of a ~/.google_authenticator (pam_google_authenticator):
of one file, which belongs to the user who owns it unless --user says otherwise,
or of every home directory. No symbolic link is followed, and the file has to
belong to that user or to root. The last code used stays used. Emergency codes
are not taken over: they are too short; "sallyport recovery USER" makes new ones.
The files are left as they are: delete them when the move is done.`,
		Example: `  sallyport import google-authenticator --all-homes
  sallyport import google-authenticator /home/alice/.google_authenticator`,
		Args: cobra.MaximumNArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			switch {
			case allHomes && (len(args) > 0 || owner != ""):
				return badUsage("--all-homes goes with neither a file nor --user")
			case !allHomes && len(args) == 0:
				return badUsage("say which file, or --all-homes")
			}
			if owner != "" {
				if err := validUser(owner); err != nil {
					return err
				}
			}
			im, err := a.newImporter(cmd.Context(), replace)
			if err != nil {
				return err
			}
			if allHomes {
				return im.finish(im.allHomes())
			}
			return im.finish(im.oneFile(args[0], owner))
		}),
	}
	c.Flags().StringVar(&owner, "user", "", "the file is `USER`'s, whoever owns it")
	c.Flags().BoolVar(&allHomes, "all-homes", false, "every home directory of the accounts that this computer lists")
	c.Flags().BoolVar(&replace, "replace", false, "give users who are enrolled already the imported secret")
	return c
}

// oneFile takes over one file whose path the administrator gave.
func (im *importer) oneFile(path, owner string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	f, err := readOwned("", abs)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return badUsage("%v", err)
	}
	if err != nil {
		im.refuse(importResult{User: owner, File: abs, Text: err.Error()})
		return nil
	}
	defer clear(f.data)
	if owner == "" {
		u, err := user.LookupId(strconv.Itoa(f.uid))
		if err != nil {
			return badUsage("%s belongs to uid %d, which is nobody here: say whose it is: --user", clean(abs), f.uid)
		}
		// Root may keep others' files (pam_google_authenticator's user=root).
		if f.uid == 0 && filepath.Dir(abs) != filepath.Clean(u.HomeDir) {
			return badUsage("%s belongs to root and is not in root's home: say whose it is: --user", clean(abs))
		}
		owner = u.Username
	} else if err := mayOwn(owner, f.uid); err != nil {
		im.refuse(importResult{User: owner, File: abs, Text: err.Error()})
		return nil
	}
	return im.google(f.data, owner, abs)
}

// mayOwn says whether a file of this uid can be that user's: the user's own,
// root's, or the caller's.
func mayOwn(name string, uid int) error {
	if uid == 0 || uid == os.Geteuid() {
		return nil
	}
	if u, err := user.Lookup(name); err == nil && u.Uid == strconv.Itoa(uid) {
		return nil
	}
	return fmt.Errorf("the file belongs to uid %d, neither to %s nor to root", uid, name)
}

// account is one line of passwd(5).
type account struct {
	name, home string
	uid        int
}

func parsePasswd(data []byte) (accounts []account) {
	for l := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimRight(l, "\n"), ":")
		if len(f) < 7 {
			continue
		}
		uid, err := strconv.Atoi(f[2])
		if err != nil || f[0] == "" || !filepath.IsAbs(f[5]) {
			continue
		}
		accounts = append(accounts, account{name: f[0], home: f[5], uid: uid})
	}
	return accounts
}

// allHomes takes over the file of every account. What a home directory holds is
// under its user's control: only a file that is the account's own, or root's in
// a home that is the account's own, is taken.
func (im *importer) allHomes() error {
	data, err := im.app.deps.Command(im.ctx, "getent", "passwd")
	if err != nil {
		return fmt.Errorf("getent passwd: %w", err)
	}
	for _, acc := range parsePasswd(data) {
		path := filepath.Join(acc.home, googleFile)
		f, err := readOwned(acc.home, googleFile)
		if errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
			continue
		}
		if err != nil {
			im.refuse(importResult{User: acc.name, File: path, Text: err.Error()})
			continue
		}
		if f.uid != acc.uid {
			homeOwner, err := ownerOf(acc.home)
			if f.uid == 0 && err == nil && homeOwner != acc.uid {
				clear(f.data)
				continue // a home that several accounts name, such as / or /root
			}
			if f.uid != 0 || err != nil {
				clear(f.data)
				im.refuse(importResult{User: acc.name, File: path, Text: fmt.Sprintf("the file belongs to uid %d, neither to %s nor to root", f.uid, acc.name)})
				continue
			}
		}
		err = im.google(f.data, acc.name, path)
		clear(f.data)
		if err != nil {
			return err
		}
	}
	return nil
}

func (im *importer) google(data []byte, owner, path string) error {
	g, err := migrate.ParseGoogle(data)
	if err != nil {
		im.refuse(importResult{User: owner, File: path, Text: err.Error()})
		return nil
	}
	g.User = owner
	var notes []string
	if g.ScratchCodes > 0 {
		notes = append(notes, fmt.Sprintf("%s not taken over (too short); new ones: sallyport recovery %s",
			plural(g.ScratchCodes, "emergency code", "emergency codes"), quoteArg(owner)))
	}
	if g.Skew > maxDrift || g.Skew < -maxDrift {
		notes = append(notes, fmt.Sprintf("the phone's clock is %d steps off; at most %d are allowed: set it right", g.Skew, maxDrift))
	}
	return im.add(g.Entry, "google-authenticator", importResult{File: path, Text: strings.Join(notes, "; ")})
}
