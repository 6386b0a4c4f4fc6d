//go:build linux

// Package windows tests the MSI for Windows: it is built as build.sh builds it and
// installed under Wine, with the shipped program in it.
package windows

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/installer/windows/setup"
	"sallyport/internal/organisation"
	"sallyport/internal/testkit/wine"
)

// patience is how long one command may take on a busy machine.
const patience = 2 * time.Minute

// Exit codes of msiexec.
const (
	done          = 0
	failedFatally = 1603 // ERROR_INSTALL_FAILURE
)

const (
	rescue = "S-1-5-21-1111111111-2222222222-3333333333-1108"

	classKey    = `HKLM\SOFTWARE\Classes\CLSID\` + setup.CLSID
	providerKey = `HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Authentication\Credential Providers\` + setup.CLSID
	filterKey   = `HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Authentication\Credential Provider Filters\` + setup.CLSID
	settingsKey = `HKLM\SOFTWARE\Sallyport\CredentialProvider`
)

// token is right in form; nobody takes it.
var token = organisation.Token{Secret: [20]byte{1, 2, 3}}.String()

// What is made once for all tests: the packages, below dir.
var (
	dir      string
	making   sync.Mutex
	programs = map[string]string{}
	packages = map[string]string{}
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if dir, err = os.MkdirTemp("", "sallyport-msi-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		return m.Run()
	}())
}

// program builds a Go program for Windows, once.
func program(t *testing.T, pkg string) string {
	t.Helper()
	making.Lock()
	defer making.Unlock()
	if programs[pkg] == "" {
		out := filepath.Join(dir, filepath.Base(pkg)+".exe")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
		cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", pkg, err, text)
		}
		programs[pkg] = out
	}
	return programs[pkg]
}

// agent is the shipped program.
func agent(t *testing.T) string {
	t.Helper()
	if dist := os.Getenv("SALLYPORT_WINDOWS_DIST"); dist != "" {
		return filepath.Join(dist, "sallyport.exe")
	}
	return program(t, "sallyport/agent")
}

// primer is a small program; here also what lies where the DLL would, where none
// was built: nothing loads it.
func primer(t *testing.T) string {
	t.Helper()
	return program(t, "sallyport/internal/testkit/wine/primer")
}

// silent is a version of the agent whose service never answers.
func silent(t *testing.T) string {
	t.Helper()
	return program(t, "./testdata/silent")
}

// pack makes the package of a version with this program in it.
func pack(t *testing.T, version, exe string, env ...string) (string, error) {
	t.Helper()
	if err := wine.Possible(); err != nil {
		t.Skip("needs Wine: " + err.Error())
	}
	dll := primer(t)
	if dist := os.Getenv("SALLYPORT_WINDOWS_DIST"); dist != "" {
		dll = filepath.Join(dist, "SallyportCredentialProvider.dll")
	}
	dist, err := os.MkdirTemp(dir, "dist-")
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"sallyport.exe": exe, "SallyportCredentialProvider.dll": dll} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dist, name), b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "./build.sh", version, dist, dist)
	cmd.Env = append(os.Environ(), env...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, complaint.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// mustPack makes a package once.
func mustPack(t *testing.T, version, exe string) string {
	t.Helper()
	key := version + " " + exe
	making.Lock()
	msi := packages[key]
	making.Unlock()
	if msi != "" {
		return msi
	}
	msi, err := pack(t, version, exe)
	if err != nil {
		t.Fatal(err)
	}
	making.Lock()
	defer making.Unlock()
	packages[key] = msi
	return msi
}

// computer is a Windows.
type computer struct {
	*testing.T
	*wine.Wine
	tmp string
}

func newComputer(t *testing.T) *computer {
	t.Helper()
	return &computer{t, wine.New(t, dir), t.TempDir()}
}

// run runs a command that must work and returns what it says.
func (c *computer) run(cmd func(ctx context.Context) *exec.Cmd) string {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	command := cmd(ctx)
	out, err := command.CombinedOutput()
	if err != nil {
		c.Fatalf("%v: %v\n%s", command.Args, err, out)
	}
	return strings.ReplaceAll(string(out), "\r\n", "\n")
}

func (c *computer) unix(name string, args ...string) string {
	c.Helper()
	return c.run(func(ctx context.Context) *exec.Cmd { return c.Unix(ctx, name, args...) })
}

// msiexec runs a silent installation, as a tool that deploys does, and returns its
// log. A command line of msiexec is read as it stands, quotes and all, which only a
// script passes on.
func (c *computer) msiexec(want int, line string) string {
	c.Helper()
	script, log := filepath.Join(c.tmp, "install.cmd"), filepath.Join(c.tmp, "install.log")
	_ = os.Remove(log)
	text := "@echo off\r\nmsiexec " + line + " /qn /l*v " + wine.Path(log) + "\r\necho status %ERRORLEVEL%\r\nexit /b 0\r\n"
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		c.Fatal(err)
	}
	out := c.run(func(ctx context.Context) *exec.Cmd { return c.Command(ctx, "cmd", "/c", wine.Path(script)) })
	b, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.Fatal(err)
	}
	said := readLog(b)
	if got := fmt.Sprintf("status %d", want); !strings.Contains(out, got+"\n") {
		c.Fatalf("msiexec %s: it ended with %q, want %q; it says\n%s", line, out, got, ours(said))
	}
	return said
}

// readLog takes Wine's log, which is in the code page, and Windows', in UTF-16.
func readLog(b []byte) string {
	if bytes.HasPrefix(b, []byte{0xff, 0xfe}) {
		b = bytes.ReplaceAll(b, []byte{0}, nil)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

// ours are the lines of a log that come from our actions.
func ours(log string) string {
	var lines []string
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "sallyport: ") || strings.Contains(line, "newer version") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// export is a key; "" when there is none.
func (c *computer) export(key string) string {
	ctx, cancel := context.WithTimeout(c.Context(), patience)
	defer cancel()
	text, err := c.Export(ctx, key)
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(text, "\\\n  ", "")
}

// dirs are the versions that are there.
func (c *computer) dirs() []string {
	c.Helper()
	return strings.Fields(c.unix("sh", "-c", `cd "$WINEPREFIX/drive_c/Program Files/Sallyport" 2>/dev/null && ls || true`))
}

// installed must be this version: registered, in place, running and answering.
func (c *computer) installed(version string) {
	c.Helper()
	dirs := c.dirs()
	if len(dirs) != 1 || !strings.HasPrefix(dirs[0], version+"-") {
		c.Fatalf("what is there is %q, want one of %s", dirs, version)
	}
	at := `C:\Program Files\Sallyport\` + dirs[0]
	if class, want := c.export(classKey), strings.ReplaceAll(at+`\SallyportCredentialProvider.dll`, `\`, `\\`); !strings.Contains(class, `@="`+want+`"`) || !strings.Contains(class, `"ThreadingModel"="Apartment"`) {
		c.Errorf("the tile is not %s:\n%s", want, class)
	}
	for _, key := range []string{providerKey, filterKey} {
		if !strings.Contains(c.export(key), `@="Sallyport"`) {
			c.Errorf("%s is not there", key)
		}
	}
	service := c.export(`HKLM\SYSTEM\CurrentControlSet\Services\sallyport`)
	for _, want := range []string{`"ImagePath"=`, `"Start"=dword:00000002`, `"ObjectName"="LocalSystem"`} {
		if !strings.Contains(service, want) {
			c.Errorf("the service has no %s:\n%s", want, service)
		}
	}
	if qc := c.run(func(ctx context.Context) *exec.Cmd { return c.Command(ctx, at+`\sallyport.exe`, "service", "status") }); !strings.Contains(qc, "running") {
		c.Errorf("the service is %q", qc)
	}
	status := c.run(func(ctx context.Context) *exec.Cmd { return c.Command(ctx, at+`\sallyport.exe`, "status") })
	if !strings.Contains(status, "healthy") || !strings.Contains(status, at+`\SallyportCredentialProvider.dll guards: signing in`) {
		c.Errorf("status says\n%s", status)
	}
	for _, file := range []string{"LICENSE.txt", `PolicyDefinitions\Sallyport.admx`, `PolicyDefinitions\en-US\Sallyport.adml`} {
		c.unix("sh", "-c", `test -s "$WINEPREFIX/drive_c/Program Files/Sallyport/$0/$1"`, dirs[0], strings.ReplaceAll(file, `\`, "/"))
	}
	if got := c.path(); !slices.Equal(got, []string{at + `\`}) {
		c.Errorf("the path has %q", got)
	}
	if uninstall := c.export(`HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall`); strings.Count(uninstall, `"DisplayName"="Sallyport"`) != 1 || !strings.Contains(uninstall, `"DisplayVersion"="`+version+`"`) {
		c.Errorf("the list of programs has not one Sallyport, of version %s:\n%s", version, uninstall)
	}
	if left := c.export(`HKLM\SOFTWARE\Sallyport\Setup`); left != "" {
		c.Errorf("what was kept for a rollback is there still:\n%s", left)
	}
}

var pathLine = regexp.MustCompile(`(?m)^\s+PATH\s+REG_EXPAND_SZ\s+(.*)$`)

// path are the entries of the search path that are ours.
func (c *computer) path() (own []string) {
	c.Helper()
	out := c.run(func(ctx context.Context) *exec.Cmd {
		return c.Command(ctx, "reg", "query", `HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment`, "/v", "PATH")
	})
	m := pathLine.FindStringSubmatch(out)
	if m == nil {
		c.Fatalf("there is no path: %s", out)
	}
	for entry := range strings.SplitSeq(m[1], ";") {
		if strings.Contains(entry, "Sallyport") {
			own = append(own, entry)
		}
	}
	return own
}

// prime spends the first instance of the pipes of an agent that was just started,
// which is dead under Wine.
func (c *computer) prime() {
	c.Helper()
	c.run(func(ctx context.Context) *exec.Cmd {
		return c.Command(ctx, primer(c.T), `\\.\pipe\ProtectedPrefix\Administrators\sallyport\login`, `\\.\pipe\ProtectedPrefix\Administrators\sallyport\admin`)
	})
}

// registry is everything below the keys that a program for the whole computer can
// change, a value a line.
func (c *computer) registry() map[string]bool {
	c.Helper()
	all := map[string]bool{}
	for _, root := range []string{`HKLM\SOFTWARE`, `HKLM\SYSTEM`} {
		key := ""
		text := c.export(root)
		if text == "" {
			c.Fatalf("%s cannot be read", root)
		}
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n")
			switch {
			case strings.HasPrefix(line, "["):
				key = line
				all[key] = true
			case line != "":
				all[key+" "+line] = true
			}
		}
	}
	return all
}

// changed are the lines that are only in one of the two.
func changed(before, after map[string]bool) (lines []string) {
	for line := range before {
		if !after[line] {
			lines = append(lines, "- "+line)
		}
	}
	for line := range after {
		if !before[line] {
			lines = append(lines, "+ "+line)
		}
	}
	slices.Sort(lines)
	return lines
}

// wines are changes that are not ours: empty keys that Windows has from the
// beginning, and what Wine does and Windows does not. Its count of services changes;
// RemoveEnvironmentStrings leaves a separator at the end of the path; a rollback
// leaves keys of components that are not there, and takes the product in place out
// of its list of products to upgrade; a repair notes where it came from.
var wines = []string{
	`SOFTWARE\\Classes\\Installer(\\[A-Za-z]+)?\]$`,
	`SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Authentication(\\Credential Provider(s| Filters))?\]$`,
	`SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Installer\\(UpgradeCodes|UserData(\\S-1-5-18(\\(Components|Products))?)?)\]$`,
	`SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Installer\\UserData\\S-1-5-18\\Components\\[0-9A-F]{32}\]$`,
	`SOFTWARE\\(Classes|Microsoft\\Windows\\CurrentVersion)\\Installer\\UpgradeCodes\\[0-9A-F]{32}\]( "[0-9A-F]{32}"="")?$`,
	`SOFTWARE\\Classes\\Installer\\Products\\[0-9A-F]{32}\\SourceList`,
	`SYSTEM\\(CurrentControlSet|ControlSet001)\\Control\\SafeBoot(\\(Minimal|Network))?\]$`,
	`SYSTEM\\(CurrentControlSet|ControlSet001)\\Control\\Video\\\{`, // of the first program that looks for a screen
	`SYSTEM\\(CurrentControlSet|ControlSet001)\\Control\\ServiceCurrent\] @=dword:0000000.$`,
	`SYSTEM\\(CurrentControlSet|ControlSet001)\\Control\\Session Manager\\Environment\] "PATH"=`,
}

// unchanged compares the registry with what it was.
func (c *computer) unchanged(before map[string]bool) {
	c.Helper()
	allowed := regexp.MustCompile(strings.Join(wines, "|"))
	for _, line := range changed(before, c.registry()) {
		if !allowed.MatchString(line) {
			c.Errorf("%.300s", line)
		}
	}
}

// status is what "sallyport status" says, also when something needs attention.
func (c *computer) status() string {
	c.Helper()
	return c.run(func(ctx context.Context) *exec.Cmd {
		return c.Unix(ctx, "sh", "-c", `wine "$0" status || test $? = 1`, `C:\Program Files\Sallyport\`+c.dirs()[0]+`\sallyport.exe`)
	})
}

func TestInstallAndRemove(t *testing.T) {
	t.Parallel()
	msi := mustPack(t, "v1.0.0", agent(t))
	c := newComputer(t)
	before := c.registry()
	c.msiexec(done, `/i `+wine.Path(msi)+` BREAK_GLASS="`+rescue+`;S-1-5-32-544" MESSAGE="Call 1234"`)
	c.installed("1.0.0")
	if text := c.export(settingsKey); !strings.Contains(text, `"message"="Call 1234"`) || !strings.Contains(text, multi(rescue, "S-1-5-32-544")) {
		t.Errorf("what the installer was told is not in the registry:\n%s", text)
	}
	if len(changed(before, c.registry())) < 30 {
		t.Error("the comparison of the registry does not see an installation")
	}

	// The same package again, to join an authority that cannot be reached now.
	log := c.msiexec(done, `/i `+wine.Path(msi)+` SERVER_URL=https://127.0.0.1:1 ENROLL_TOKEN=`+token)
	if status := c.status(); !strings.Contains(status, "This computer is to join https://127.0.0.1:1") {
		t.Errorf("it does not try to join; the log says\n%s\nand status\n%s", ours(log), status)
	}
	// Wine knows no MsiHiddenProperties and shows all properties at the end. Who
	// is in that list, TestATokenIsHiddenFromTheLog says.
	for line := range strings.Lines(log) {
		if strings.Contains(line, token) && !strings.HasPrefix(line, "Property(S): ENROLL_TOKEN = ") && !strings.HasPrefix(line, "token=") {
			t.Errorf("the log has the token: %s", line)
		}
	}

	c.msiexec(done, `/x `+wine.Path(msi))
	c.unchanged(before)
	// Wine leaves the empty directory above: it looks at that before what is in it.
	if got := c.dirs(); len(got) != 0 {
		t.Errorf("left are %q", got)
	}
	if got := c.path(); len(got) != 0 {
		t.Errorf("the path still has %q", got)
	}
	c.unix("sh", "-c", `test -s "$WINEPREFIX/drive_c/ProgramData/Sallyport/state/vault.db"`) // the state stays

	// And comes to life again, with what it still has to do.
	c.msiexec(done, `/i `+wine.Path(msi))
	if status := c.status(); !strings.Contains(status, "SallyportCredentialProvider.dll guards: signing in") || !strings.Contains(status, "This computer is to join https://127.0.0.1:1") {
		t.Errorf("status says\n%s", status)
	}
}

// multi is a REG_MULTI_SZ in a .reg file, without the line breaks.
func multi(list ...string) string {
	var digits []string
	for _, b := range []byte(strings.Join(list, "\x00") + "\x00\x00") {
		digits = append(digits, fmt.Sprintf("%02x,00", b))
	}
	return "=hex(7):" + strings.Join(digits, ",")
}

func TestUpgradeAndDowngrade(t *testing.T) {
	t.Parallel()
	old, fresh := mustPack(t, "v1.0.0", agent(t)), mustPack(t, "v1.1.0-3-gabcdef0", agent(t))
	other := mustPack(t, "v1.1.0", agent(t))
	c := newComputer(t)
	c.msiexec(done, `/i `+wine.Path(old)+` BREAK_GLASS=`+rescue+` MESSAGE="Call 1234"`)
	c.installed("1.0.0")

	c.msiexec(done, `/i `+wine.Path(fresh)+` MESSAGE="Call 5678"`)
	c.installed("1.1.0")
	c.mendUpgradeCodes()
	settings := c.export(settingsKey)
	if !strings.Contains(settings, multi(rescue)) || !strings.Contains(settings, `"message"="Call 5678"`) {
		t.Errorf("what was told is not remembered, or what was told anew is not taken:\n%s", settings)
	}

	// What was released after it has the same number, and may replace it.
	c.msiexec(done, `/i `+wine.Path(other))
	c.installed("1.1.0")
	c.mendUpgradeCodes()
	if strings.Contains(c.dirs()[0], "gabcdef0") {
		t.Errorf("another build of the same version did not replace it: %q", c.dirs())
	}

	before := c.registry()
	// Windows shows the condition's text; Wine says only which action refuses.
	if log := c.msiexec(failedFatally, `/i `+wine.Path(old)); !strings.Contains(log, "LaunchConditions. Return value 0.") {
		t.Errorf("a downgrade is not refused by the launch conditions:\n%s", log)
	}
	if text := table(t, old, "LaunchCondition"); !strings.Contains(text, "\nInstalled OR NOT NEWER_FOUND\tA newer version of Sallyport is installed.") {
		t.Errorf("the conditions are:\n%s", text)
	}
	c.unchanged(before)
	c.installed("1.1.0")
}

func TestAnUpgradeThatDoesNotAnswerIsTakenBack(t *testing.T) {
	t.Parallel()
	old, broken := mustPack(t, "v1.0.0", agent(t)), mustPack(t, "v2.0.0", silent(t))
	c := newComputer(t)
	empty := c.registry()
	log := c.msiexec(failedFatally, `/i `+wine.Path(broken))
	if !strings.Contains(log, "sallyport: the service did not answer within 15s") {
		t.Errorf("the log does not say why:\n%s", log)
	}
	c.unchanged(empty)
	if got := c.dirs(); len(got) != 0 {
		t.Errorf("left are %q", got)
	}

	c.msiexec(done, `/i `+wine.Path(old)+` BREAK_GLASS=`+rescue)
	c.installed("1.0.0")
	before := c.registry()
	log = c.msiexec(failedFatally, `/i `+wine.Path(broken)+` MESSAGE="of the new one"`)
	if !strings.Contains(log, "sallyport: what was there before is there again") {
		t.Errorf("the log does not say that it was taken back:\n%s", log)
	}
	c.unchanged(before)
	c.prime() // the old agent was started again
	c.installed("1.0.0")
}

var productKey = regexp.MustCompile(`\\Uninstall\\(\{[0-9A-F-]{36}\})\]\n(?:.+\n)*"DisplayName"="Sallyport"`)

// product is the product code of what is installed.
func (c *computer) product() string {
	c.Helper()
	m := productKey.FindStringSubmatch(c.export(`HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall`))
	if m == nil {
		c.Fatal("Sallyport is not in the list of programs")
	}
	return m[1]
}

// mendUpgradeCodes puts back what Wine takes out with the old version at the end of
// an upgrade: that the new one, too, is a version of this product. (It deletes the
// whole key, where Windows deletes the old version's value.)
func (c *computer) mendUpgradeCodes() {
	c.Helper()
	const upgradeCode = "{3E0C1B52-9A7D-4C55-8C1F-6D2A4F9B7E10}"
	for _, root := range []string{`HKLM\SOFTWARE\Classes`, `HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion`} {
		if err := c.SetValue(c.Context(), root+`\Installer\UpgradeCodes\`+packed(upgradeCode), packed(c.product()), ""); err != nil {
			c.Fatal(err)
		}
	}
}

// packed is a GUID as Windows Installer writes it in its keys.
func packed(guid string) string {
	var out []byte
	for i, group := range strings.Split(strings.Trim(guid, "{}"), "-") {
		b, n := []byte(group), len(group)
		if i > 2 {
			n = 2
		}
		for part := range slices.Chunk(b, n) {
			slices.Reverse(part)
			out = append(out, part...)
		}
	}
	return string(out)
}

func TestRepair(t *testing.T) {
	t.Parallel()
	msi := mustPack(t, "v1.0.0", agent(t))
	c := newComputer(t)
	c.msiexec(done, `/i `+wine.Path(msi)+` MESSAGE="Call 1234"`)
	c.installed("1.0.0")
	before := c.registry()
	c.unix("sh", "-c", `rm "$WINEPREFIX/drive_c/Program Files/Sallyport/$0/SallyportCredentialProvider.dll"`, c.dirs()[0])
	for _, key := range []string{filterKey, classKey, `HKLM\SYSTEM\CurrentControlSet\Control\SafeBoot\Minimal\sallyport`} {
		if err := c.DeleteKey(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if len(changed(before, c.registry())) == 0 {
		t.Fatal("nothing was broken")
	}
	// What /fomus is short for, which Wine's msiexec does not know.
	c.msiexec(done, `/i `+c.product()+` REINSTALL=ALL REINSTALLMODE=omus`)
	c.unchanged(before)
	c.unix("sh", "-c", `test -s "$WINEPREFIX/drive_c/Program Files/Sallyport/$0/SallyportCredentialProvider.dll"`, c.dirs()[0])
	c.installed("1.0.0")
}

// inspect runs a tool of the Wine root on a package.
func inspect(t *testing.T, tool ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "../../internal/testkit/wine/enter.sh", append([]string{"--bind", dir, "--"}, tool...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", tool, err, out)
	}
	return strings.ReplaceAll(string(out), "\r\n", "\n")
}

func table(t *testing.T, msi, name string) string {
	t.Helper()
	return inspect(t, "msiinfo", "export", msi, name)
}

// TestATokenIsHiddenFromTheLog: Windows Installer masks the properties that
// MsiHiddenProperties names wherever it logs them, and the data of actions with
// msidbCustomActionTypeHideTarget.
func TestATokenIsHiddenFromTheLog(t *testing.T) {
	t.Parallel()
	msi := mustPack(t, "v1.0.0", agent(t))
	properties := table(t, msi, "Property")
	if !strings.Contains(properties, "\nMsiHiddenProperties\tENROLL_TOKEN;Activate;SetActivate\n") {
		t.Errorf("the hidden properties are not:\n%s", properties)
	}
	if !strings.Contains(properties, "\nSecureCustomProperties\tSERVER_URL;ENROLL_TOKEN;BREAK_GLASS;MESSAGE;OLDER_FOUND;NEWER_FOUND\n") {
		t.Errorf("the properties that are handed on are not:\n%s", properties)
	}
	// Nobody else is told the token: the one action that sets the other's data.
	tables := inspect(t, "sh", "-euc", `cd "$(mktemp -d)"; for table in $(msiinfo tables "$0" | grep -v ^_); do echo "table $table"; msiinfo export "$0" "$table"; done`, msi)
	if n := strings.Count(tables, "ENROLL_TOKEN"); n != 3 || strings.Count(tables, "[ENROLL_TOKEN]") != 1 {
		t.Errorf("ENROLL_TOKEN is there %d times; it should be hidden, handed on, and used once:\n%s", n, tables)
	}
	const hideTarget = 0x2000
	actions := table(t, msi, "CustomAction")
	for name, kind := range map[string]int{"SetActivate": 51, "Activate": 1 | 0x400 | 0x800} {
		if !strings.Contains(actions, fmt.Sprintf("\n%s\t%d\t", name, kind|hideTarget)) {
			t.Errorf("the action %s is not of type %d:\n%s", name, kind|hideTarget, actions)
		}
	}
}

// TestSigned signs with a certificate of a CA of its own, as with a real one.
func TestSigned(t *testing.T) {
	t.Parallel()
	if err := wine.Possible(); err != nil {
		t.Skip("needs Wine: " + err.Error())
	}
	keys := filepath.Join(dir, "keys")
	inspect(t, "sh", "-euc", `mkdir -m 700 "$0"; cd "$0"
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=Test CA" -days 2 -keyout ca.key -out ca.pem 2>/dev/null
		openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=Sallyport Test" -keyout key.pem -out request.pem 2>/dev/null
		printf "extendedKeyUsage=codeSigning\nkeyUsage=digitalSignature\n" >extensions
		openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 2 -extfile extensions -out certificate.pem 2>/dev/null
		printf %s "a canary's password" >password
		openssl pkcs12 -export -inkey key.pem -in certificate.pem -certfile ca.pem -passout file:password -out signing.p12`, keys)
	small := primer(t)
	dist := filepath.Join(dir, "signed")
	msi, err := pack(t, "v1.0.0-signed", small, "SALLYPORT_SIGN_PKCS12="+keys+"/signing.p12", "SALLYPORT_SIGN_PASSWORD_FILE="+keys+"/password")
	if err != nil {
		t.Fatal(err)
	}
	inspect(t, "sh", "-euc", `mkdir "$1"; cd "$1"; msiextract -C "$1" "$0" >/dev/null; find "$1" -name "*.exe" -exec cp {} "$1/agent" ";"; find "$1" -name "*.dll" -exec cp {} "$1/provider" ";"
		msiinfo extract "$0" Binary.run >"$1/action"`, msi, dist)
	verified := func(file string) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, "../../internal/testkit/wine/enter.sh", "--bind", dir, "--", "osslsigncode", "verify", "-CAfile", keys+"/ca.pem", "-in", file).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}
	for _, file := range []string{msi, dist + "/agent", dist + "/provider", dist + "/action"} {
		if err := verified(file); err != nil {
			t.Errorf("%s is not signed: %v", filepath.Base(file), err)
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(file+".flipped", b, 0o600); err != nil {
			t.Fatal(err)
		}
		if verified(file+".flipped") == nil {
			t.Errorf("%s: a flipped bit is not noticed", filepath.Base(file))
		}
	}
	if _, err := pack(t, "v1.0.0", small, "SALLYPORT_SIGN_PKCS12="+keys+"/none.p12"); err == nil {
		t.Error("a package is made although it cannot be signed")
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	small := primer(t)
	for describe, want := range map[string]string{
		"v1.2.3":                    "1.2.3",
		"v1.2.3-45-gabcdef0-dirty":  "1.2.3",
		"v01.08.09":                 "1.8.9",
		"abcdef0":                   "0.0.0",
		"v256.0.0":                  "error: up to 255.255.65535",
		"v1.2.99999999999999999999": "error: up to 255.255.65535",
		"../v1.0.0":                 "error: is no version",
		"v1.0.0'); DROP":            "error: is no version",
		"":                          "error: is no version",
	} {
		msi, err := pack(t, describe, small)
		if refused, ok := strings.CutPrefix(want, "error: "); ok {
			if err == nil || !strings.Contains(err.Error(), refused) {
				t.Errorf("%q: %v, want %q", describe, err, refused)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", describe, err)
		} else if got := table(t, msi, "Property"); !strings.Contains(got, "\nProductVersion\t"+want+"\n") || !strings.Contains(got, "\nARPCOMMENTS\t"+describe+"\n") {
			t.Errorf("%q is not %s:\n%s", describe, want, got)
		}
	}
}
