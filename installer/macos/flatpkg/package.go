package main

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Package is what a flat package says of itself. All of its files are root's, and of
// one time, so that two packages of the same files are the same.
type Package struct {
	Identifier, Version, Location string
	Time                          time.Time
}

// component is what the component package is called in the product.
const component = "sallyport.pkg"

// packageInfo is PackageInfo, as pkgbuild(1) writes it.
type packageInfo struct {
	XMLName     xml.Name `xml:"pkg-info"`
	Relocatable bool     `xml:"relocatable,attr"`
	Identifier  string   `xml:"identifier,attr"`
	Action      string   `xml:"postinstall-action,attr"`
	Version     string   `xml:"version,attr"`
	Format      int      `xml:"format-version,attr"`
	Location    string   `xml:"install-location,attr"`
	Auth        string   `xml:"auth,attr"`
	Payload     struct {
		Files int   `xml:"numberOfFiles,attr"`
		KB    int64 `xml:"installKBytes,attr"`
	} `xml:"payload"`
	Pre  script `xml:"scripts>preinstall"`
	Post script `xml:"scripts>postinstall"`
}

type script struct {
	File string `xml:"file,attr"`
}

// Write makes the package of a root, its scripts and its distribution.
func (p Package) Write(root, scripts fs.FS, distribution []byte) ([]byte, error) {
	files, err := p.tree(root)
	if err != nil {
		return nil, err
	}
	payload, err := zipped(files)
	if err != nil {
		return nil, err
	}
	info := packageInfo{Identifier: p.Identifier, Action: "none", Version: p.Version, Format: 2, Location: p.Location, Auth: "root",
		Pre: script{"./preinstall"}, Post: script{"./postinstall"}}
	info.Payload.Files = len(files)
	for _, f := range files {
		info.Payload.KB += int64(len(f.Data)+1023) / 1024
	}
	text, err := xml.MarshalIndent(info, "", "    ")
	if err != nil {
		return nil, err
	}
	if files, err = p.tree(scripts); err != nil {
		return nil, err
	}
	run, err := zipped(files)
	if err != nil {
		return nil, err
	}
	return writeXar([]member{{"Distribution", distribution}, {component + "/PackageInfo", append([]byte(xml.Header), text...)},
		{component + "/Payload", payload}, {component + "/Scripts", run}}, p.Time)
}

// tree is a folder as an archive has it.
func (p Package) tree(root fs.FS) (files []File, err error) {
	err = fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error { // in lexical order
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if !st.IsDir() && !st.Mode().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a folder", path)
		}
		f := File{Name: "./" + path, Mode: st.Mode() & (fs.ModeDir | fs.ModePerm), Time: p.Time}
		if path == "." {
			f.Name = path
		}
		if !st.IsDir() {
			f.Data, err = fs.ReadFile(root, path)
		}
		files = append(files, f)
		return err
	})
	return files, err
}

func zipped(files []File) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	err := errors.Join(writeCpio(z, files), z.Close())
	return b.Bytes(), err
}

// Contents is what a package holds.
type Contents struct {
	Info         packageInfo
	Distribution string
	Payload      []File
	Scripts      []File
}

// Read reads a package; whatever is not as Write makes it is an error.
func Read(b []byte) (c Contents, err error) {
	members, err := readXar(b)
	if err != nil {
		return c, err
	}
	var names []string
	for _, m := range members {
		names = append(names, m.name)
		switch strings.TrimPrefix(m.name, component+"/") {
		case "Distribution":
			c.Distribution = string(m.data)
		case "PackageInfo":
			err = xml.Unmarshal(m.data, &c.Info)
		case "Payload":
			c.Payload, err = unzipped(m.data)
		case "Scripts":
			c.Scripts, err = unzipped(m.data)
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return c, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	if len(names) != 4 {
		return c, fmt.Errorf("it holds %q", names)
	}
	return c, nil
}

func unzipped(b []byte) ([]File, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	b, err = io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	return readCpio(b)
}
