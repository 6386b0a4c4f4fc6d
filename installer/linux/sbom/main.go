// Command sbom writes what the programs of the Linux packages are made of, as a
// CycloneDX document (specification 1.6, JSON). The Go modules are those that the
// linker wrote into the programs; the same programs give the same bytes.
//
//	sbom -version VERSION -time SECONDS [-static NAME@VERSION]... FILE...
package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type document struct {
	Format     string      `json:"bomFormat"`
	Spec       string      `json:"specVersion"`
	Serial     string      `json:"serialNumber"`
	Version    int         `json:"version"`
	Metadata   metadata    `json:"metadata"`
	Components []component `json:"components"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string      `json:"type"`
	Ref        string      `json:"bom-ref"`
	Name       string      `json:"name"`
	Version    string      `json:"version,omitempty"`
	Hashes     []hash      `json:"hashes,omitempty"`
	Licenses   []licence   `json:"licenses,omitempty"`
	PURL       string      `json:"purl,omitempty"`
	Properties []property  `json:"properties,omitempty"`
	Components []component `json:"components,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type licence struct {
	License struct {
		ID string `json:"id"`
	} `json:"license"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func main() {
	version := flag.String("version", "", "the `version` of what is described")
	seconds := flag.Int64("time", 0, "when it was made: the `seconds` of SOURCE_DATE_EPOCH")
	var static []string
	flag.Func("static", "a C library that is linked in: `NAME@VERSION`", func(s string) error {
		static = append(static, s)
		return nil
	})
	flag.Parse()
	b, err := write(*version, time.Unix(*seconds, 0).UTC(), static, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
	_, err = os.Stdout.Write(b)
	if err != nil {
		os.Exit(1)
	}
}

// write describes the files, each of which is named by its directory and its name:
// linux-amd64/sallyport.
func write(version string, at time.Time, static, files []string) ([]byte, error) {
	d := document{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{
		Timestamp: at.Format(time.RFC3339),
		Component: component{Type: "application", Ref: "sallyport", Name: "sallyport", Version: version},
	}}
	id := licence{}
	id.License.ID = "Apache-2.0"
	d.Metadata.Component.Licenses = []licence{id}

	parts := map[string]component{}
	all := sha256.New()
	for _, s := range static {
		name, v, ok := strings.Cut(s, "@")
		if !ok {
			return nil, fmt.Errorf("%s is no NAME@VERSION", s)
		}
		parts[s] = component{Type: "library", Ref: s, Name: name, Version: v, Properties: []property{{"sallyport:linked", "in"}}}
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b)
		all.Write(sum[:])
		name := filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path))
		d.Metadata.Component.Components = append(d.Metadata.Component.Components, component{Type: "file", Ref: name, Name: name,
			Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}}})
		if err := read(path, parts); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, c := range parts {
		d.Components = append(d.Components, c)
	}
	slices.SortFunc(d.Components, func(a, b component) int { return cmp.Compare(a.Ref, b.Ref) })
	// A UUID of what is described (RFC 9562, version 8).
	s := hex.EncodeToString(all.Sum([]byte(nil)))
	d.Serial = "urn:uuid:" + s[:8] + "-" + s[8:12] + "-8" + s[13:16] + "-8" + s[17:20] + "-" + s[20:32]
	b, err := json.MarshalIndent(d, "", "  ")
	return append(b, '\n'), err
}

// read adds what a program is made of: the modules in it, and the libraries that it
// finds on the computer.
func read(path string, parts map[string]component) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	for _, name := range needed {
		parts[name] = component{Type: "library", Ref: name, Name: name, Properties: []property{{"sallyport:linked", "from the system"}}}
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		if filepath.Ext(path) == ".so" {
			return nil // the module is C
		}
		return err
	}
	parts["go"] = component{Type: "library", Ref: "go", Name: "std", Version: info.GoVersion, PURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		purl := "pkg:golang/" + m.Path + "@" + m.Version
		// Sum is that of go.sum: a hash of the module's tree, not of one file.
		parts[purl] = component{Type: "library", Ref: purl, Name: m.Path, Version: m.Version, PURL: purl, Properties: []property{{"sallyport:go.sum", m.Sum}}}
	}
	return nil
}
