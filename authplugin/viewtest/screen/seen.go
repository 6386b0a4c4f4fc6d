//go:build linux

package screen

import "slices"

// Seen is one thing on the screen, as host/look.m tells, in X's coordinates.
type Seen struct {
	Class, Text, Label                   string
	X, Y, W, H, Level                    int
	Window                               int // X's number of it
	Enabled, Editable, Selectable, Focus bool
}

// Views are what a window shows, the window itself first.
type Views []Seen

// With finds what has this text, or is of this class.
func (v Views) With(name string) (Seen, bool) {
	return v.find(func(s Seen) bool { return s.Text == name || s.Class == name })
}

// Field finds what is typed into.
func (v Views) Field() (Seen, bool) { return v.find(func(s Seen) bool { return s.Editable }) }

func (v Views) find(is func(Seen) bool) (Seen, bool) {
	i := slices.IndexFunc(v, is)
	if i < 0 {
		return Seen{}, false
	}
	return v[i], true
}
