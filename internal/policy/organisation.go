package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Unreadable stands for central rules that cannot be read, or say something that
// this version does not know: everybody who is not exempt is required, as whom
// they would have named cannot be told.
func Unreadable() Rules { return Rules{Ask: askUnreadable} }

// Parse reads the organisation's rules, JSON. Members that are not known are an
// error: they may require something.
func Parse(text []byte) (Rules, error) {
	var r Rules
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&r)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows the rules")
		}
	}
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return Unreadable(), fmt.Errorf("the organisation's policy: %w", err)
	}
	return r, nil
}
