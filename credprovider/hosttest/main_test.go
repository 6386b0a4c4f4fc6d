//go:build linux

package hosttest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/internal/testkit/wine"
)

const (
	// distVariable names a directory with sallyport.exe and the DLL, if they are
	// built already.
	distVariable = "SALLYPORT_WINDOWS_DIST"

	clsid     = "{7C4B3E1A-52D8-4F6B-9A0E-3D1F5B8C2E47}"
	pipe      = `\\.\pipe\ProtectedPrefix\Administrators\sallyport\login`
	adminPipe = `\\.\pipe\ProtectedPrefix\Administrators\sallyport\admin`
	settings  = `HKLM\Software\Sallyport\CredentialProvider`

	providersKey = `HKEY_LOCAL_MACHINE\Software\Microsoft\Windows\CurrentVersion\Authentication\Credential Providers\`
	filtersKey   = `HKEY_LOCAL_MACHINE\Software\Microsoft\Windows\CurrentVersion\Authentication\Credential Provider Filters\`
	classesKey   = `HKEY_LOCAL_MACHINE\Software\Classes\CLSID\`
	policies     = `HKLM\Software\Policies\Sallyport\CredentialProvider`
)

// Windows' own providers, as every Windows 11 has them registered. There is no DLL
// of theirs here: a filter sees only their names.
var microsofts = map[string]string{
	"PasswordProvider":                    passwordProvider,
	"V1 PasswordProvider":                 "{6F45DC1E-5384-457A-BC13-2CD81B0D28ED}",
	"PINLogonProvider":                    "{CB82EA12-9F71-446D-89E1-8D0924E1256E}",
	"NGC Credential Provider":             "{D6886603-9D2F-4EB2-B667-1971041FA96B}",
	"Smartcard Credential Provider":       smartcardProvider,
	"Smartcard Pin Provider":              "{94596C7E-3744-41CE-893E-BBF09122F76A}",
	"Smartcard Reader Selection Provider": "{1B283861-754F-4022-AD47-A5EAAA618894}",
	"WinBio Credential Provider":          "{BEC09223-B018-416D-A0AC-523971B639F5}",
	"FaceCredentialProvider":              "{8AF662BF-65A0-4D0A-A540-A338A999D36F}",
	"PicturePasswordLogonProvider":        "{2135F72A-90B5-4ED3-A7F1-8BB705AC276A}",
	"GenericProvider":                     "{25CBB996-92ED-457E-B28C-4774084BD562}",
	"NPProvider":                          "{3DD6BEC0-8193-4FFE-AE25-E08E39EA4063}",
	"CngCredUICredentialProvider":         "{600E7ADB-DA3E-41A4-9225-3C0399E88C0C}",
	"Cloud Experience Provider":           "{C5D7540A-CD51-453B-B22B-05305BA03F07}",
}

const (
	passwordProvider  = "{60B78E88-EAD8-445C-9CFD-0B87F74EA6CD}"
	smartcardProvider = "{8FD7E19C-3BF7-489B-A72C-846AB3678C96}"
)

var (
	dist   string     // what is tested, and what tests it
	shared *wine.Wine // that most tests run in, one after the other: they share its registry
	noWine error      // why there is none
	own    sync.Map   // the Windows of those that run beside others, by the test's name
)

func TestMain(m *testing.M) {
	flag.Parse()
	// What runs in parallel waits most of the time.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := flag.Set("test.parallel", "12"); err != nil {
			panic(err)
		}
	}
	status, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hosttest:", err)
		status = 1
	}
	os.Exit(status)
}

// need skips a test where there can be no Wine.
func need(t *testing.T) {
	t.Helper()
	if noWine != nil {
		t.Skip("needs Wine: " + noWine.Error())
	}
}

// windows is the one that this test runs in.
func windows(t *testing.T) *wine.Wine {
	name, _, _ := strings.Cut(t.Name(), "/")
	if w, ok := own.Load(name); ok {
		return w.(*wine.Wine)
	}
	return shared
}

// besideOthers is for a test that mostly waits: it gets a Windows of its own, and runs
// in parallel.
func besideOthers(t *testing.T) {
	t.Helper()
	need(t)
	t.Parallel()
	w, err := wine.Start(dist)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Kill(); err != nil {
			t.Error(err)
		}
	})
	if err := install(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	own.Store(t.Name(), w)
}

// build makes what is not there yet, installs the provider, and runs the tests.
func build(m *testing.M) (status int, err error) {
	if noWine = wine.Possible(); noWine != nil {
		return m.Run(), nil // they skip, and say why
	}
	if dist, err = os.MkdirTemp("", "hosttest-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dist)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	bind := []string{dist}
	built := os.Getenv(distVariable)
	if built == "" {
		sysroot, err := exec.CommandContext(ctx, "../third_party/sysroot.sh", "amd64").Output()
		if err != nil {
			return 0, fmt.Errorf("sysroot.sh: %w", err)
		}
		bind = append(bind, strings.TrimSpace(string(sysroot)))
	}
	if shared, err = wine.Start(bind...); err != nil {
		return 0, err
	}
	defer func() {
		if killed := shared.Kill(); err == nil {
			err = killed
		}
	}()
	if built == "" {
		err = makeShipped(ctx, bind[1])
	} else {
		err = copyShipped(built)
	}
	for _, step := range []func(context.Context) error{host, relay, primer} {
		if err == nil {
			err = step(ctx)
		}
	}
	if err == nil {
		err = install(ctx, shared)
	}
	if err != nil {
		return 0, err
	}
	return m.Run(), nil
}

const dll = "SallyportCredentialProvider.dll"

// makeShipped builds what is tested as "./build.sh build windows" does.
func makeShipped(ctx context.Context, sysroot string) error {
	if err := goBuild(ctx, "sallyport.exe", "sallyport/agent"); err != nil {
		return err
	}
	return run(shared.Unix(ctx, "make", "-s", "-C", "..", "ARCH=amd64", "SYSROOT="+sysroot, "OUT="+dist))
}

// copyShipped takes what is built already.
func copyShipped(built string) error {
	for _, name := range []string{dll, "sallyport.exe"} {
		data, err := os.ReadFile(filepath.Join(built, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dist, name), data, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func host(ctx context.Context) error {
	return run(shared.Unix(ctx, "make", "-s", "-C", "../host", "OUT="+dist))
}

func relay(ctx context.Context) error {
	return goBuild(ctx, "relay.exe", "./relay")
}

// primer spends the first instances of the shipped agent's pipes.
func primer(ctx context.Context) error {
	return goBuild(ctx, "primer.exe", "sallyport/internal/testkit/wine/primer")
}

// authority is the Linux program that the agent under Wine joins. It is built once: while
// one test runs it another must not write it.
var authority = sync.OnceValue(func() error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dist, "sallyport-authority"), "sallyport/authority")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return run(cmd)
})

// goBuild builds a program for Windows.
func goBuild(ctx context.Context, name, from string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(dist, name), from)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	return run(cmd)
}

// install writes the registry as the installer does, beside Windows' own providers.
func install(ctx context.Context, w *wine.Wine) error {
	var reg strings.Builder
	fmt.Fprintf(&reg, "[%s]\r\n@=\"Sallyport\"\r\n[%s]\r\n@=\"Sallyport\"\r\n", providersKey+clsid, filtersKey+clsid)
	for name, id := range microsofts {
		fmt.Fprintf(&reg, "[%s]\r\n@=%q\r\n", providersKey+id, name)
	}
	reg.WriteString(classOf(clsid, dll))
	return w.Import(ctx, reg.String())
}

// classOf is a class of a DLL in dist, as the text of a .reg file.
func classOf(clsid, name string) string {
	return fmt.Sprintf("[%s]\r\n@=\"Sallyport\"\r\n[%[1]s\\InprocServer32]\r\n@=%q\r\n\"ThreadingModel\"=\"Apartment\"\r\n",
		classesKey+clsid, wine.Path(filepath.Join(dist, name)))
}

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// setValue sets a value of the registry for one test.
func setValue(t *testing.T, key, name string, value any) {
	t.Helper()
	need(t)
	if err := windows(t).SetValue(t.Context(), key, name, value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's context is over by now.
		if err := windows(t).SetValue(context.Background(), key, name, nil); err != nil {
			t.Error(err)
		}
	})
}
