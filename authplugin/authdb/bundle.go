package authdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sallyport/internal/acl"
	"sallyport/internal/loadable"
)

// entryPoint is what SecurityAgent looks up in a plug-in.
const entryPoint = "AuthorizationPluginCreate"

// executable is the bundle's code.
const executable = "Contents/MacOS/Sallyport"

// CheckBundle says what is wrong with the plug-in: whether macOS would load it, and
// nobody but root can change it. It runs programs; nothing is changed.
func (r *Rights) CheckBundle(ctx context.Context) error {
	return r.bundle(ctx, r.checkFiles, r.checkArchitecture, r.checkSignature, r.dryLoad)
}

// lookAtBundle is what can be told of it without a program.
func (r *Rights) lookAtBundle(ctx context.Context) error {
	return r.bundle(ctx, r.checkFiles, r.checkArchitecture)
}

func (r *Rights) bundle(ctx context.Context, checks ...func(context.Context) error) error {
	for _, check := range checks {
		if err := check(ctx); err != nil {
			return fmt.Errorf("%s: %w", r.Bundle, err)
		}
	}
	return nil
}

// checkFiles: everything in the bundle, and each directory above it, is root's, and no
// link leads elsewhere.
func (r *Rights) checkFiles(context.Context) error {
	if !filepath.IsAbs(r.Bundle) {
		return errors.New("its path is not absolute")
	}
	for dir := filepath.Dir(r.Bundle); ; dir = filepath.Dir(dir) {
		st, err := os.Lstat(dir)
		switch {
		case err != nil:
			return err
		case !st.IsDir():
			return fmt.Errorf("%s is a link", dir)
		}
		mode := st.Mode()
		if mode&fs.ModeSticky != 0 {
			mode &^= 0o022 // everybody but its owner keeps their own there
		}
		if err := r.closed(dir, mode, ownerOf(st)); err != nil {
			return err
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	found := false
	err := filepath.WalkDir(r.Bundle, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if path == r.Bundle && !st.IsDir() && st.Mode()&fs.ModeSymlink == 0 {
			return errors.New("it is no directory")
		}
		if !st.IsDir() && !st.Mode().IsRegular() {
			return fmt.Errorf("%s is a link or no file", path)
		}
		found = found || path == filepath.Join(r.Bundle, executable) && st.Mode().IsRegular()
		return r.closed(path, st.Mode(), ownerOf(st))
	})
	if err == nil && !found {
		err = fmt.Errorf("there is no %s in it", executable)
	}
	return err
}

// accessList is a variable for tests.
var accessList = acl.Check

// closed: nobody but root can change it.
func (r *Rights) closed(path string, mode fs.FileMode, uid int) error {
	switch {
	case uid != 0 && uid != r.Owner:
		return fmt.Errorf("%s belongs to uid %d, not to root", path, uid)
	case mode&fs.ModeSymlink == 0 && mode.Perm()&0o022 != 0:
		return fmt.Errorf("%s can be changed by others than root (mode %#o)", path, mode.Perm())
	}
	return accessList(path)
}

// checkArchitecture: the code is a bundle for this processor that has the entry point.
func (r *Rights) checkArchitecture(context.Context) error {
	return loadable.Check(filepath.Join(r.Bundle, executable), entryPoint)
}

// teamID is how Apple names who signs ("TeamIdentifier" in codesign(1)).
var teamID = regexp.MustCompile(`(?m)^TeamIdentifier=([A-Z0-9]{10})$`)

// checkSignature: the bundle is whole, and signed by the team that has signed the
// agent. A signature without a team (ad hoc) satisfies codesign, but SecurityAgent
// does not load such a bundle, and nobody would log in.
func (r *Rights) checkSignature(ctx context.Context) error {
	out, err := r.call(ctx, nil, codesignTool, "--display", "--verbose=2", r.Program)
	if err != nil {
		return fmt.Errorf("the agent's own signature cannot be read: %w", err)
	}
	team := teamID.FindSubmatch(out.Stderr)
	if team == nil {
		return fmt.Errorf("the agent (%s) is signed by no team, and neither would this be; macOS's login window loads only what a developer's team has signed", r.Program)
	}
	requirement := fmt.Sprintf(`=anchor apple generic and certificate leaf[subject.OU] = "%s"`, team[1])
	_, err = r.call(ctx, nil, codesignTool, "--verify", "--strict", "--deep", "--test-requirement", requirement, r.Bundle)
	return err
}

// DryLoad is the hidden command that loads the plug-in in a process of its own.
var DryLoad = []string{"authdb", "dry-load"}

// loaded is what that says when all is well: an exit code alone could be anybody's.
const loaded = "loaded"

// dryLoad loads the plug-in, in another process: what goes wrong in it goes wrong
// there.
func (r *Rights) dryLoad(ctx context.Context) error {
	out, err := r.call(ctx, nil, r.Program, append(slices.Clone(DryLoad), r.Bundle)...)
	if err != nil {
		return fmt.Errorf("it does not load: %w", err)
	}
	if strings.TrimSpace(string(out.Stdout)) != loaded {
		return errors.New("it does not load: the dry load said nothing")
	}
	return nil
}

// DryLoadHere loads the plug-in in this process and says the word for it.
func (r *Rights) DryLoadHere(bundle string) (string, error) {
	if r.Load == nil {
		return "", errors.New("this build cannot load plug-ins")
	}
	if err := r.Load(filepath.Join(bundle, executable)); err != nil {
		return "", err
	}
	return loaded, nil
}
