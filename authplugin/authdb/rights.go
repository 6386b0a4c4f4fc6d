package authdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"sallyport/internal/event"
)

// apple are the plug-ins that macOS brings.
var apple = []string{"builtin", "loginwindow", "PKINITMechanism", "HomeDirMechanism", "MCXMechanism", "CryptoTokenKit", "PSSOAuthPlugin", "KerberosAgent"}

func isApple(mechanism string) bool {
	plugin, _, _ := strings.Cut(mechanism, ":")
	return slices.Contains(apple, plugin)
}

func (r *Rights) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// Check says how the rights are. It changes nothing, and needs no root, but for what
// is remembered.
func (r *Rights) Check(ctx context.Context) Report { return r.report(ctx, r.CheckBundle) }

// Look is Check for whoever asks often: the plug-in's files are looked at, but neither
// is its signature verified nor is it loaded. Beside `security` it runs no program.
func (r *Rights) Look(ctx context.Context) Report { return r.report(ctx, r.lookAtBundle) }

func (r *Rights) report(ctx context.Context, bundle func(context.Context) error) Report {
	report := Report{OK: true}
	m, err := r.recall()
	if err != nil {
		report.Note = err.Error()
	}
	report.Installed, report.Repaired = len(m.Installed) > 0, m.Repaired
	touched := false
	for _, right := range []string{Console, Authenticate, Screensaver} {
		x := r.look(ctx, right, m)
		report.Rights = append(report.Rights, x)
		report.OK = report.OK && x.OK()
		touched = touched || x.Wanted || len(x.Ours) > 0
	}
	if touched {
		if err := bundle(ctx); err != nil {
			report.Bundle, report.OK = err.Error(), false
		}
	}
	return report
}

// look looks at one right.
func (r *Rights) look(ctx context.Context, right string, m memory) Right {
	x := Right{Right: right, Wanted: r.Wanted.has(right), State: Unknown, Ours: []string{}, Others: []string{}}
	plist, err := r.read(ctx, right)
	if err == nil && right == Screensaver {
		err = x.leads(plist, m)
	} else if err == nil {
		err = x.lists(plist)
	}
	if err != nil {
		x.Why = err.Error()
	}
	return x
}

// leads fills in what is known of a right that leads to a rule. That it leads to
// Authenticate is our doing only where we remember it.
func (x *Right) leads(plist []byte, m memory) error {
	_, name, err := ruleOf(plist)
	if err != nil {
		return err
	}
	x.Rule = name.text
	switch {
	case name.text == ruleLoginWindow:
		x.State = Unguarded
	case name.text == ruleAuthenticate && (x.Wanted || m.Rule == ""):
		x.State = Guarded
		if !x.Wanted {
			x.State = Unguarded // it asks for a password only, and is not ours
		}
	case name.text == ruleAuthenticate:
		x.State = Disorder
		return errors.New("it leads to the rule that we have put there, and is not to be guarded")
	default:
		return fmt.Errorf("%w: it leads to %q, another product's rule", ErrUnknown, name.text)
	}
	return nil
}

// lists fills in what is known of a right with mechanisms.
func (x *Right) lists(plist []byte) error {
	l, err := listOf(plist)
	if err != nil {
		return err
	}
	for _, name := range l.names() {
		if isOurs(name) {
			x.Ours = append(x.Ours, name)
		} else if !isApple(name) {
			x.Others = append(x.Others, name)
		}
	}
	switch err := inPlace(x.Right, l.names()); {
	case err == nil:
		x.State = Guarded
	case errors.Is(err, errNone):
		x.State = Unguarded
		if _, _, err := anchor(x.Right, l.names()); err != nil {
			x.State = Unknown
			return err
		}
	case errors.Is(err, errOrder):
		x.State = Disorder
		return err
	default:
		return err // ours are there, and the neighbours are not
	}
	return nil
}

// Change is what an installation or a removal would do to one right, or has done.
type Change struct {
	Right string   `json:"right"`
	Diff  []string `json:"diff"` // its lines: "-" what goes, "+" what comes
}

// Result is what came of an installation or a removal.
type Result struct {
	Changed []Change `json:"changed"`
	Note    string   `json:"note,omitempty"`
}

func resultOf(changes []change) Result {
	result := Result{Changed: []Change{}}
	for _, c := range changes {
		result.Changed = append(result.Changed, Change{c.right, diff(c.old, c.new)})
	}
	return result
}

// diff are the lines that two definitions do not share: ours, or the one that names
// the rule.
func diff(old, new []byte) []string {
	a, b := strings.Split(string(old), "\n"), strings.Split(string(new), "\n")
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	var lines []string
	for _, line := range a {
		lines = append(lines, "- "+strings.TrimSpace(line))
	}
	for _, line := range b {
		lines = append(lines, "+ "+strings.TrimSpace(line))
	}
	return lines
}

// plan reads the rights and edits them; nothing is changed yet. In those that are not
// wanted nothing of ours is to be.
func (r *Rights) plan(ctx context.Context, rights []string, wanted func(right string) bool, m memory) (changes []change, err error) {
	for _, right := range rights {
		c := change{right: right}
		if c.old, err = r.read(ctx, right); err != nil {
			return nil, err
		}
		if wanted(right) {
			c.new, err = Guard(right, c.old)
		} else {
			c.new, err = Unguard(right, c.old, m.Rule)
		}
		if err != nil && !wanted(right) && errors.Is(err, ErrUnknown) && !bytes.Contains(c.old, []byte(Prefix)) {
			continue // nothing of ours is in it
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", right, err)
		}
		if !bytes.Equal(c.old, c.new) {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// ready says why ours may not go in now.
func (r *Rights) ready(ctx context.Context) error {
	if r.Answers == nil {
		return errors.New("nobody can say whether the agent answers")
	}
	if err := r.Answers(ctx); err != nil {
		return fmt.Errorf("the agent does not answer logins: %w", err)
	}
	return r.CheckBundle(ctx)
}

// PlanInstall says what Install would do, and what would keep it from doing so.
func (r *Rights) PlanInstall(ctx context.Context) (Result, error) {
	m, err := r.recall()
	if err != nil {
		return Result{}, err
	}
	changes, err := r.plan(ctx, order, r.Wanted.has, m)
	if err == nil && r.Wanted != (Wanted{}) {
		err = r.ready(ctx)
	}
	return resultOf(changes), err
}

// ErrNotRoot says that only root changes rights.
var ErrNotRoot = errors.New("only root may change the rights")

// Install makes the rights as they are wanted: all of them, or none changes.
func (r *Rights) Install(ctx context.Context) (Result, error) {
	if os.Geteuid() != r.Owner {
		return Result{}, ErrNotRoot
	}
	unlock, err := r.lock()
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	m, err := r.recall()
	if err != nil {
		return Result{}, err
	}
	if r.Wanted != (Wanted{}) {
		if err := r.ready(ctx); err != nil {
			return Result{}, err
		}
	}
	changes, err := r.plan(ctx, order, r.Wanted.has, m)
	if err != nil {
		return Result{}, err
	}
	if err := r.keep(changes, &m); err != nil {
		return Result{}, err
	}
	if err := r.applyAll(ctx, changes); err != nil {
		return Result{}, err
	}
	m.Installed = nil
	for _, right := range order {
		if r.Wanted.has(right) {
			m.Installed = append(m.Installed, right)
		}
	}
	if !r.Wanted.Unlock {
		m.Rule = ""
	}
	if err := r.remember(m); err != nil {
		return Result{}, errors.Join(err, r.undoAll(ctx, changes))
	}
	return resultOf(changes), nil
}

// keep writes down, before anything is changed, what a removal and a person need.
func (r *Rights) keep(changes []change, m *memory) error {
	for _, c := range changes {
		// Once installed, what is there may have ours in it.
		if _, err := os.Lstat(r.Backup(c.right)); len(m.Installed) == 0 || errors.Is(err, fs.ErrNotExist) {
			if err := r.save(r.Backup(c.right), c.old); err != nil {
				return err
			}
		}
		if c.right == Screensaver && m.Rule == "" {
			m.Rule = ruleLoginWindow // Guard takes it from nowhere else
		}
	}
	return r.remember(*m)
}

// PlanRemove says what Remove would do.
func (r *Rights) PlanRemove(ctx context.Context) (Result, error) {
	m, err := r.recall()
	changes, planned := r.plan(ctx, removal(), func(string) bool { return false }, m)
	return resultOf(changes), errors.Join(err, planned)
}

// removal is the order of one: the login window first.
func removal() []string {
	rights := slices.Clone(order)
	slices.Reverse(rights)
	return rights
}

// Remove takes everything of ours out. It is what lets people in again when something
// is broken, so it asks for nothing but root, and one right that cannot be changed
// keeps none of the others.
func (r *Rights) Remove(ctx context.Context) (Result, error) {
	if os.Geteuid() != r.Owner {
		return Result{}, ErrNotRoot
	}
	var errs error
	if unlock, err := r.lock(); err == nil {
		defer unlock()
	} else if errors.Is(err, ErrBusy) {
		return Result{}, err
	} else {
		errs = errors.Join(errs, err)
	}
	m, err := r.recall()
	errs = errors.Join(errs, err)
	// From here on the agent puts nothing back.
	m.Installed = nil
	forgotten := false
	if err := r.remember(m); err != nil { // what cannot be written, as on a full disk, can be taken away
		if gone := os.Remove(r.file(memoryFile)); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			errs = errors.Join(errs, fmt.Errorf("the agent may put ours back at its next start: %w", err))
		}
		forgotten = true
	}
	var done []change
	for _, right := range removal() {
		changes, err := r.plan(ctx, []string{right}, func(string) bool { return false }, m)
		if err == nil {
			err = r.applyAll(ctx, changes)
		}
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		done = append(done, changes...)
	}
	if errs == nil && m.Rule != "" && !forgotten {
		errs = r.remember(memory{})
	}
	return resultOf(done), errs
}

// quarrel is how long the agent leaves the rights to whoever takes ours out right
// behind a repair.
const quarrel = time.Hour

// Repair puts ours back where an installation had put them and an upgrade of macOS, or
// another product, has taken them out. The agent calls it at its start. The event says
// what was found; without a name nothing was.
func (r *Rights) Repair(ctx context.Context) event.Event {
	unlock, err := r.lock()
	if errors.Is(err, ErrBusy) {
		return event.Event{} // whoever holds it is about to make them right, or to take ours out
	}
	if err == nil {
		defer unlock()
	}
	m, recalled := r.recall()
	if err := errors.Join(err, recalled); err != nil {
		return event.Event{Name: event.RightsMissing, Text: "whether the login rights hold the plug-in cannot be told: " + err.Error()}
	}
	var rights []string
	for _, right := range order {
		if slices.Contains(m.Installed, right) && r.Wanted.has(right) {
			rights = append(rights, right)
		}
	}
	if len(rights) == 0 { // never installed, removed on purpose, or not wanted any more
		return event.Event{}
	}
	missing := func(err error) event.Event {
		return event.Event{Name: event.RightsMissing, Text: "the login rights are not guarded as they were installed, and were left as they are: " + err.Error()}
	}
	changes, err := r.plan(ctx, rights, r.Wanted.has, m)
	if err != nil {
		return missing(err)
	}
	if len(changes) == 0 {
		if err := r.CheckBundle(ctx); err != nil {
			return event.Event{Name: event.PluginUnusable, Text: "nobody gets in at what the plug-in guards: " + err.Error()}
		}
		return event.Event{}
	}
	if err := r.mend(ctx, changes, m); err != nil {
		return missing(err)
	}
	var names []string
	for _, c := range changes {
		names = append(names, c.right)
	}
	return event.Event{Name: event.RightsRepaired, Text: "the plug-in's mechanisms were put back into " + strings.Join(names, ", ")}
}

// mend makes the changes of a repair, unless there is a reason not to.
func (r *Rights) mend(ctx context.Context, changes []change, m memory) error {
	if !r.MayRepair {
		return errors.New("authorization_plugin.repair is off")
	}
	if since := r.now().Sub(m.Repaired); since.Abs() < quarrel {
		return fmt.Errorf("they were repaired only %s ago: another product takes ours out", since.Abs().Round(time.Second))
	}
	if err := r.ready(ctx); err != nil {
		return err
	}
	// Remembered first: if that fails, it would be done again and again.
	before := m.Repaired
	m.Repaired = r.now().UTC()
	if err := r.keep(changes, &m); err != nil {
		return err
	}
	if err := r.applyAll(ctx, changes); err != nil {
		m.Repaired = before // nothing was put back that another product could take out
		return errors.Join(err, r.remember(m))
	}
	return nil
}
