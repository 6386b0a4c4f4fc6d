package tomlfile

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"

	"sallyport/internal/winacl"
)

// open looks at what has that name, not at where a link in its place leads: below
// %ProgramData% everybody can make one, and change it later.
func open(path string) (*os.File, error) { return winacl.Open(path) }

func checkDir(dir string, t Trust) error {
	f, err := open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	o, err := winacl.Of(f)
	if err == nil && !o.Dir {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	if err != nil {
		return err
	}
	return t.check(o)
}

func checkFile(f *os.File, _ fs.FileInfo, _ string, t Trust) error {
	o, err := winacl.Of(f)
	if err != nil {
		return err
	}
	return t.check(o)
}

func (t Trust) check(o winacl.Object) error {
	if t == System {
		o.Self = ""
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
