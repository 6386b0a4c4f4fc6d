package authdb

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

const (
	// maxPlist bounds a right's definition; Apple's have 2 KB.
	maxPlist = 256 << 10
	maxDepth = 16
)

// doctype is all that may stand before a property list: a document type of one's own
// could define entities.
var doctype = regexp.MustCompile(`^DOCTYPE plist PUBLIC "-//Apple( Computer)?//DTD PLIST 1\.0//EN" "http://www\.apple\.com/DTDs/PropertyList-1\.0\.dtd"$`)

// value is one element of a property list (plist(5)), and where in the text it is.
type value struct {
	kind  string // the element's name
	text  string // of a leaf
	keys  []string
	items []*value // of an array; of a dict, by keys

	start, end     int // the element, tags included
	inner, innerTo int // what is between its tags
}

// of is the value of a key, nil when there is none.
func (v *value) of(key string) *value {
	if i := slices.Index(v.keys, key); i >= 0 {
		return v.items[i]
	}
	return nil
}

// parse reads an XML property list as `security authorizationdb read` prints one: a
// dict. What that never prints, and that reads differently to different parsers, is
// refused.
func parse(plist []byte) (*value, error) {
	switch {
	case len(plist) > maxPlist:
		return nil, fmt.Errorf("the property list is over %d bytes", maxPlist)
	case bytes.HasPrefix(plist, []byte("bplist")):
		return nil, errors.New("the property list is a binary one")
	case bytes.Contains(plist, []byte("<!--")), bytes.Contains(plist, []byte("<![")):
		return nil, errors.New("the property list holds a comment or a CDATA section")
	}
	p := &parser{d: xml.NewDecoder(bytes.NewReader(plist))}
	root, err := p.document()
	if err != nil {
		return nil, fmt.Errorf("the property list, at byte %d: %w", p.d.InputOffset(), err)
	}
	return root, nil
}

type parser struct {
	d  *xml.Decoder
	at int // where the last token began
}

func (p *parser) next() (xml.Token, error) {
	p.at = int(p.d.InputOffset())
	t, err := p.d.Token()
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	return t, err
}

// document is the whole text: a declaration, a document type, a plist of one dict.
func (p *parser) document() (*value, error) {
	var root *value
	for typed := false; ; {
		t, err := p.next()
		if errors.Is(err, io.ErrUnexpectedEOF) && root != nil {
			return root, nil
		}
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.ProcInst:
			if t.Target != "xml" || p.at != 0 {
				return nil, errors.New("a processing instruction")
			}
		case xml.Directive:
			if typed || root != nil || !doctype.Match(t) {
				return nil, errors.New("another document type than a property list's")
			}
			typed = true
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, errors.New("text outside of the property list")
			}
		case xml.StartElement:
			if root != nil || t.Name.Local != "plist" || t.Name.Space != "" || len(t.Attr) != 1 ||
				t.Attr[0].Name != (xml.Name{Local: "version"}) || t.Attr[0].Value != "1.0" {
				return nil, errors.New("not one plist of version 1.0")
			}
			if root, err = p.only(); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("an unexpected %T", t)
		}
	}
}

// only is the one element in plist, a dict, and plist's end.
func (p *parser) only() (*value, error) {
	all, err := p.elements(0)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 || all[0].kind != "dict" {
		return nil, errors.New("the plist is not one dict")
	}
	return all[0], nil
}

// elements are those up to the end of the element that they are in.
func (p *parser) elements(depth int) (all []*value, err error) {
	if depth > maxDepth {
		return nil, errors.New("it is nested too deeply")
	}
	for {
		t, err := p.next()
		if err != nil {
			return nil, err
		}
		switch t := t.(type) {
		case xml.EndElement:
			return all, nil
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, errors.New("text between elements")
			}
		case xml.StartElement:
			if len(t.Attr) > 0 || t.Name.Space != "" {
				return nil, fmt.Errorf("%s with an attribute", t.Name.Local)
			}
			v := &value{kind: t.Name.Local, start: p.at, inner: int(p.d.InputOffset())}
			if err := p.content(v, depth); err != nil {
				return nil, err
			}
			all = append(all, v)
		default:
			return nil, fmt.Errorf("an unexpected %T", t)
		}
	}
}

// content is what is in v, up to its end.
func (p *parser) content(v *value, depth int) (err error) {
	switch v.kind {
	case "array", "dict":
		if v.items, err = p.elements(depth + 1); err == nil && v.kind == "dict" {
			err = v.pair()
		}
		if err == nil && v.kind == "array" && slices.ContainsFunc(v.items, func(i *value) bool { return i.kind == "key" }) {
			err = errors.New("a key in an array")
		}
	case "key", "string", "integer", "real", "true", "false", "date", "data":
		v.text, err = p.leaf()
		if v.kind != "string" && v.kind != "key" {
			v.text = strings.Join(strings.Fields(v.text), "")
		}
	default:
		err = fmt.Errorf("an element %q", v.kind)
	}
	v.innerTo, v.end = p.at, int(p.d.InputOffset())
	return err
}

func (p *parser) leaf() (string, error) {
	var b strings.Builder
	for {
		t, err := p.next()
		if err != nil {
			return "", err
		}
		switch t := t.(type) {
		case xml.EndElement:
			return b.String(), nil
		case xml.CharData:
			b.Write(t)
		default:
			return "", fmt.Errorf("an unexpected %T in a value", t)
		}
	}
}

// pair makes keys and values of what is in a dict.
func (v *value) pair() error {
	var values []*value
	for i, item := range v.items {
		switch {
		case (item.kind == "key") != (i%2 == 0):
			return errors.New("a dict that is not keys and values in turn")
		case i%2 == 1:
			values = append(values, item)
		case slices.Contains(v.keys, item.text):
			return fmt.Errorf("the key %q twice", item.text)
		default:
			v.keys = append(v.keys, item.text)
		}
	}
	if len(values) != len(v.keys) {
		return errors.New("a key without a value")
	}
	v.items = values
	return nil
}

// same says whether two values mean the same; in the outermost dict some keys do not
// count.
func same(a, b *value, but ...string) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.kind != b.kind || a.text != b.text {
		return false
	}
	if a.kind != "dict" {
		return slices.EqualFunc(a.items, b.items, func(a, b *value) bool { return same(a, b) })
	}
	keys := map[string]bool{}
	for _, k := range slices.Concat(a.keys, b.keys) {
		keys[k] = true
	}
	for _, k := range but {
		delete(keys, k)
	}
	for k := range maps.Keys(keys) {
		if !same(a.of(k), b.of(k)) {
			return false
		}
	}
	return true
}
