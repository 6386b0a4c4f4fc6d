package tomlfile

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"

	"sallyport/internal/winacl"
)

const openFlags = os.O_RDONLY

func checkDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return check(f, dir, true)
}

func checkFile(f *os.File, _ fs.FileInfo, path string) error { return check(f, path, false) }

// check goes by the open file: by its name it might be another one by now.
func check(f *os.File, path string, dir bool) error {
	self, err := winacl.Self()
	if err != nil {
		return err
	}
	o, err := winacl.Of(windows.Handle(f.Fd()))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return o.Check(path, dir, self, winacl.Write)
}

// Stamp tells versions of a file apart without reading it; of a directory, only
// whose it is. It is "" when there is none.
func Stamp(path string) string {
	f, err := os.Open(path)
	if err != nil {
		if os.IsNotExist(err) {
			return ""
		}
		return err.Error() // Load says so too
	}
	defer f.Close()
	h := windows.Handle(f.Fd())
	// Owner and access list too: a file may be refused for them alone.
	stamp := "nobody's"
	if sd, err := windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION); err == nil {
		stamp = sd.String()
	}
	var i windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &i); err != nil {
		return stamp + " " + err.Error()
	}
	if i.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY == 0 {
		stamp += fmt.Sprintf(" %d %d %d %d %d", i.FileSizeHigh, i.FileSizeLow, i.LastWriteTime.Nanoseconds(), i.FileIndexHigh, i.FileIndexLow)
	}
	return stamp
}
