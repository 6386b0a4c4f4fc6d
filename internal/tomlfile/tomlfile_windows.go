package tomlfile

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"

	"sallyport/internal/winacl"
)

const openFlags = os.O_RDONLY

// checkDir looks at what has that name, not at where a link in its place leads:
// below %ProgramData% everybody can make one, and change it later.
func checkDir(dir string) error {
	f, err := os.OpenFile(dir, os.O_RDONLY|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.IsDir() {
		return cmp.Or(err, fmt.Errorf("%s is not a directory, or is a link to one: make a directory", dir))
	}
	return check(f)
}

func checkFile(f *os.File, _ fs.FileInfo, _ string) error { return check(f) }

func check(f *os.File) error {
	o, err := winacl.Of(f)
	if err != nil {
		return err
	}
	return o.Check(winacl.Readable)
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
