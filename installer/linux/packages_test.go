package linux

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// oldestC is the C library of the oldest systems that the packages are for: RHEL 9.
// The packages say so to dpkg and rpm.
var oldestC = [2]int{2, 34}

// TestTheSameSourcesGiveTheSamePackages builds them twice, in folders of different
// names and as people with different habits.
func TestTheSameSourcesGiveTheSamePackages(t *testing.T) {
	for _, tool := range []string{"lintian", "rpm", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs Debian's tools for packages: ./build.sh deps installs them")
		}
	}
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "another-folder")
	copyTree(t, "../..", one)
	copyTree(t, one, two)
	build(t, one, "umask 022", "TZ=UTC")
	build(t, two, "umask 077", "TZ=Asia/Tokyo", "LANG=de_DE.UTF-8")

	dist := filepath.Join(one, "dist/packages")
	names := list(t, dist)
	if want := []string{"SHA256SUMS", "sallyport-1.2.3-1.aarch64.rpm", "sallyport-1.2.3-1.x86_64.rpm", "sallyport.cdx.json", "sallyport_1.2.3-1_amd64.deb", "sallyport_1.2.3-1_arm64.deb"}; !slices.Equal(names, want) {
		t.Fatalf("there are %q", names)
	}
	for _, name := range names {
		if a, b := read(t, dist, name), read(t, two, "dist/packages", name); a != b {
			t.Errorf("%s is not the same twice", name)
		}
	}
	sums := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	sums.Dir = dist
	if out, err := sums.CombinedOutput(); err != nil || strings.Count(string(out), ": OK") != 5 {
		t.Errorf("%v\n%s", err, out)
	}
	t.Run("bill of materials", func(t *testing.T) { wantMaterials(t, read(t, dist, "sallyport.cdx.json")) })
	for arch, module := range map[string]string{"amd64": "/usr/lib/x86_64-linux-gnu/security/", "arm64": "/usr/lib/aarch64-linux-gnu/security/"} {
		file := filepath.Join(dist, "sallyport_1.2.3-1_"+arch+".deb")
		t.Run(arch+" deb", func(t *testing.T) {
			t.Parallel()
			if out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", file).CombinedOutput(); err != nil {
				t.Errorf("lintian: %v\n%s", err, out)
			}
			root := t.TempDir()
			if out, err := exec.Command("dpkg-deb", "--extract", file, root).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			wantPrograms(t, root, module, arch)
			wantNoFolderIn(t, root, one)
			unit := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", filepath.Join(root, "usr/lib/systemd/system/sallyport.service"))
			if out, err := unit.CombinedOutput(); err != nil {
				t.Errorf("the unit's exposure is above 2.0: %v\n%s", err, out)
			}
		})
		rpm := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
		t.Run(arch+" rpm", func(t *testing.T) {
			out, err := exec.Command("rpm", "--query", "--package", "--queryformat", "%{ARCH} %{BUILDHOST} [%{FILENAMES}\n]", "--requires", filepath.Join(dist, "sallyport-1.2.3-1."+rpm+".rpm")).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range []string{rpm + " sallyport ", "/usr/lib64/security/pam_sallyport.so\n", "libc.so.6(GLIBC_2.34)(64bit)\n", "libnghttp2.so.14()(64bit)\n", "libpam.so.0(LIBPAM_1.0)(64bit)\n"} {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			// rpm compares a directory of two packages by its mode, and /usr/bin may be a
			// link elsewhere: a package must not own what is the system's.
			if regexp.MustCompile(`(?m)^(/etc|/usr(/\w+)?|/usr/share/(doc|man))$`).Match(out) {
				t.Errorf("it owns the system's directories:\n%s", out)
			}
		})
	}
}

// build makes the packages in a copy of the sources.
func build(t *testing.T, dir, habit string, env ...string) {
	t.Helper()
	cmd := exec.Command("bash", "-c", habit+" && exec ./build.sh package linux")
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "SALLYPORT_VERSION=v1.2.3", "SOURCE_DATE_EPOCH=1700000000"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// copyTree copies the sources, without their history and what was built.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", `set -o pipefail; tar --create --exclude=./dist --exclude=./.git . | tar --extract --directory "$0"`, to)
	cmd.Dir = from
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantMaterials: the document names what is linked in, by Go and in C, and what is
// expected on the computer.
func wantMaterials(t *testing.T, text string) {
	var d struct {
		Format     string `json:"bomFormat"`
		Components []struct {
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil || d.Format != "CycloneDX" {
		t.Fatalf("%v %q", err, d.Format)
	}
	versions := map[string]string{}
	for _, c := range d.Components {
		versions[c.Name] = c.Version
	}
	for _, name := range []string{"std", "google.golang.org/grpc", "go.etcd.io/bbolt", "nanopb"} {
		if versions[name] == "" {
			t.Errorf("no version of %s in %v", name, versions)
		}
	}
	for _, name := range []string{"libc.so.6", "libpam.so.0", "libnghttp2.so.14"} {
		if _, ok := versions[name]; !ok {
			t.Errorf("no %s in %v", name, versions)
		}
	}
}

// wantPrograms: they are for that architecture, and run with the oldest C library.
func wantPrograms(t *testing.T, root, module, arch string) {
	t.Helper()
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	for _, name := range []string{"/usr/bin/sallyport", "/usr/bin/sallyport-try", module + "pam_sallyport.so"} {
		f, err := elf.Open(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if f.Machine != machine {
			t.Errorf("%s is for %v", name, f.Machine)
		}
		symbols, err := f.ImportedSymbols()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range symbols {
			major, minor, ok := strings.Cut(strings.TrimPrefix(s.Version, "GLIBC_"), ".")
			if !ok || !strings.HasPrefix(s.Version, "GLIBC_") {
				continue
			}
			minor, _, _ = strings.Cut(minor, ".")
			if have := [2]int{number(t, major), number(t, minor)}; slices.Compare(have[:], oldestC[:]) > 0 {
				t.Errorf("%s needs %s of %s", name, s.Name, s.Version)
			}
		}
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantNoFolderIn: nothing names where it was built.
func wantNoFolderIn(t *testing.T, root, folder string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), folder) {
			return fmt.Errorf("%s names %s", path, folder)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestVersions: what git says becomes what dpkg and rpm compare, in the right order.
func TestVersions(t *testing.T) {
	text := read(t, "build.sh")
	start := strings.Index(text, "numbers() {")
	end := strings.Index(text[start:], "\n}\n")
	numbers := func(version string) string {
		out, err := exec.Command("bash", "-c", text[start:start+end+3]+`SOURCE_DATE_EPOCH=1700000000 numbers "$0"`, version).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	sorted := []string{"a1b2c3d-dirty", "v1.2.3-rc1", "v1.2.3", "v1.2.3-dirty", "v1.2.3-4-gabc1234", "v1.2.3-14-gabc1234", "v1.2.4", "v1.10.0"}
	want := []string{"0.0.0.20231114221320.a1b2c3d+dirty", "1.2.3~rc1", "1.2.3", "1.2.3+dirty", "1.2.3.4.gabc1234", "1.2.3.14.gabc1234", "1.2.4", "1.10.0"}
	for i, version := range sorted {
		if got := numbers(version); got != want[i] {
			t.Errorf("%s: %s, want %s", version, got, want[i])
		}
	}
	for i := range want[:len(want)-1] {
		err := exec.Command("dpkg", "--compare-versions", want[i], "lt", want[i+1]).Run()
		if errors.Is(err, exec.ErrNotFound) {
			t.Skip("needs dpkg, to compare")
		}
		if err != nil {
			t.Errorf("%s is not older than %s", want[i], want[i+1])
		}
	}
}
