//go:build unix

package device

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"
)

// Zone is this computer's time zone, as localtime(5) says it now. Go's time.Local is
// what it was when the process started. The zero Zone is ready.
type Zone struct {
	File string // "": /etc/localtime

	mu       sync.Mutex
	stamp    fs.FileInfo // of the file that location is from
	location *time.Location
}

// Location returns it. The file is read again when it, or what it leads to, is
// another than before. Without one it is UTC; what cannot be read is an error. Where
// TZ says so, it is the process's own and stays.
func (z *Zone) Location() (*time.Location, error) {
	file := z.File
	if file == "" {
		if _, own := os.LookupEnv("TZ"); own {
			return time.Local, nil
		}
		file = "/etc/localtime"
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	stamp, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return time.UTC, nil
	} else if err != nil {
		return nil, err
	}
	if old := z.stamp; old != nil && os.SameFile(old, stamp) && old.ModTime().Equal(stamp.ModTime()) && old.Size() == stamp.Size() {
		return z.location, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	location, err := time.LoadLocationFromTZData("Local", data)
	if err != nil {
		return nil, err
	}
	z.stamp, z.location = stamp, location
	return location, nil
}
