package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"time"
)

// File is one file or folder of an archive.
type File struct {
	Name     string
	Mode     fs.FileMode
	UID, GID int
	Time     time.Time
	Data     []byte
}

// The "portable ASCII" format of cpio, "odc" (POSIX, pax: cpio interchange format):
// numbers in octal digits, 76 bytes before a name.
const (
	odcMagic   = "070707"
	odcHeader  = 76
	odcDir     = 0o040000
	odcRegular = 0o100000
	odcEnd     = "TRAILER!!!"
)

func writeCpio(w io.Writer, files []File) error {
	for i, f := range append(files, File{Name: odcEnd}) {
		mode := int64(f.Mode.Perm())
		switch {
		case f.Name == odcEnd:
		case f.Mode.IsDir():
			mode |= odcDir
		default:
			mode |= odcRegular
		}
		var seconds int64
		if !f.Time.IsZero() {
			seconds = f.Time.Unix()
		}
		_, err := fmt.Fprintf(w, "%s%06o%06o%06o%06o%06o%06o%06o%011o%06o%011o%s\x00", odcMagic, 0, i+1, mode, f.UID, f.GID, 1, 0,
			seconds, len(f.Name)+1, len(f.Data), f.Name)
		if err == nil {
			_, err = w.Write(f.Data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func readCpio(b []byte) (files []File, err error) {
	for {
		if len(b) < odcHeader || string(b[:6]) != odcMagic {
			return nil, errors.New("no header of an odc archive")
		}
		var n [10]int64 // dev, ino, mode, uid, gid, nlink, rdev, mtime, namesize, filesize
		for i, at := 0, 6; i < len(n); i++ {
			width := 6
			if i == 7 || i == 9 {
				width = 11
			}
			if n[i], err = strconv.ParseInt(string(b[at:at+width]), 8, 64); err != nil {
				return nil, err
			}
			at += width
		}
		b = b[odcHeader:]
		if n[8] < 1 || n[8]+n[9] > int64(len(b)) {
			return nil, io.ErrUnexpectedEOF
		}
		f := File{Name: string(bytes.TrimSuffix(b[:n[8]], []byte{0})), UID: int(n[3]), GID: int(n[4]), Time: time.Unix(n[7], 0),
			Mode: fs.FileMode(n[2] & 0o777), Data: b[n[8] : n[8]+n[9]]}
		b = b[n[8]+n[9]:]
		switch {
		case f.Name == odcEnd:
			return files, nil
		case n[2]&^0o777 == odcDir:
			f.Mode |= fs.ModeDir
		case n[2]&^0o777 != odcRegular:
			return nil, fmt.Errorf("%s has mode %o", f.Name, n[2])
		}
		files = append(files, f)
	}
}
