//go:build linux

package macos

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// tools are a Mac's, made up: each writes its arguments down, and the one whose turn
// it is fails. lipo says that all is for both processors, notarytool what it is told.
const tools = `#!/bin/bash
printf '%s' "${0##*/}" >>"$TRANSCRIPT"
printf ' %q' "$@" >>"$TRANSCRIPT"
echo >>"$TRANSCRIPT"
[ "$(wc -l <"$TRANSCRIPT")" != "$FAILS" ] || { echo "it fails" >&2; exit 1; }
case "${0##*/}:$1:${2-}" in
pkgbuild:* | productbuild:*) echo "$0" >"${!#}" ;;
xcrun:notarytool:submit) printf 'Processing complete\n  status: %s\n' "$STATUS" ;;
esac
`

// onMac runs build.sh as on a Mac and says which tools it ran. The one in fails' turn
// fails; 0: none.
func onMac(t *testing.T, fails int, status string, env ...string) (transcript []string, out string, err error) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	bin, dist, out := dir+"/bin", dir+"/dist", dir+"/out"
	for _, d := range []string{bin, dist + "/Sallyport.bundle/Contents/MacOS", out} {
		must(t, os.MkdirAll(d, 0o755))
	}
	for _, tool := range []string{"codesign", "lipo", "xattr", "pkgbuild", "productbuild", "pkgutil", "xcrun", "spctl"} {
		must(t, os.WriteFile(bin+"/"+tool, []byte(tools), 0o755))
	}
	for path, text := range map[string]string{bin + "/uname": "echo Darwin", bin + "/go": "echo plist", dist + "/sallyport": "echo agent",
		dist + "/pam_sallyport.so.2": "", dist + "/Sallyport.bundle/Contents/MacOS/Sallyport": "", dist + "/Sallyport.bundle/Contents/Info.plist": ""} {
		must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	}
	const name = "/Sallyport-v1.2.3-4-gabcdef0.pkg"
	must(t, os.WriteFile(out+name, []byte("of an earlier build"), 0o644))
	cmd := exec.Command("./build.sh", "v1.2.3-4-gabcdef0", dist, out)
	cmd.Env = append(env, "PATH="+bin+":"+os.Getenv("PATH"), "TRANSCRIPT="+dir+"/transcript", "FAILS="+strconv.Itoa(fails), "STATUS="+status)
	said, err := cmd.CombinedOutput()
	t.Logf("%s", said)
	b, _ := os.ReadFile(dir + "/transcript")
	here, absErr := filepath.Abs(".")
	must(t, absErr)
	for line := range strings.Lines(string(b)) {
		line = strings.ReplaceAll(strings.TrimSpace(line), here, "HERE")
		if i := strings.Index(line, out+"/.pkg."); i >= 0 {
			line = strings.ReplaceAll(line, line[i:i+len(out)+len("/.pkg.123456")], "TMP")
		}
		transcript = append(transcript, line)
	}
	list, dirErr := os.ReadDir(out)
	must(t, dirErr)
	switch {
	case err == nil && (len(list) != 1 || "/"+list[0].Name() != name):
		t.Errorf("it left %v", list)
	case err != nil && len(list) != 0:
		t.Errorf("it failed and left %v", list)
	}
	return transcript, out, err
}

var signing = []string{"SALLYPORT_SIGN_APP=Developer ID Application: ACME (TEAMID1234)",
	"SALLYPORT_SIGN_INSTALLER=Developer ID Installer: ACME (TEAMID1234)", "SALLYPORT_NOTARY_PROFILE=acme"}

// signed is what is run on a Mac, by the manual pages of those tools.
const signed = `lipo TMP/root/sallyport -verify_arch arm64 x86_64
lipo TMP/root/pam_sallyport.so.2 -verify_arch arm64 x86_64
lipo TMP/root/Sallyport.bundle/Contents/MacOS/Sallyport -verify_arch arm64 x86_64
xattr -cr TMP/root TMP/scripts
codesign --force --sign Developer\ ID\ Application:\ ACME\ \(TEAMID1234\) --options runtime --timestamp --identifier com.sallyport.agent TMP/root/sallyport
codesign --verify --strict --verbose=2 TMP/root/sallyport
codesign --force --sign Developer\ ID\ Application:\ ACME\ \(TEAMID1234\) --options runtime --timestamp --identifier com.sallyport.pam TMP/root/pam_sallyport.so.2
codesign --verify --strict --verbose=2 TMP/root/pam_sallyport.so.2
codesign --force --sign Developer\ ID\ Application:\ ACME\ \(TEAMID1234\) --options runtime --timestamp --identifier com.sallyport.plugin TMP/root/Sallyport.bundle
codesign --verify --strict --verbose=2 TMP/root/Sallyport.bundle
pkgbuild --root TMP/root --component-plist HERE/component.plist --scripts TMP/scripts --identifier com.sallyport.pkg --version 1.2.3.4 --ownership recommended --install-location /Library/Application\ Support/Sallyport/incoming TMP/sallyport.pkg
productbuild --distribution TMP/Distribution --package-path TMP --sign Developer\ ID\ Installer:\ ACME\ \(TEAMID1234\) --timestamp TMP/Sallyport-v1.2.3-4-gabcdef0.pkg
pkgutil --check-signature TMP/Sallyport-v1.2.3-4-gabcdef0.pkg
xcrun notarytool submit TMP/Sallyport-v1.2.3-4-gabcdef0.pkg --keychain-profile acme --wait
xcrun stapler staple TMP/Sallyport-v1.2.3-4-gabcdef0.pkg
xcrun stapler validate TMP/Sallyport-v1.2.3-4-gabcdef0.pkg
spctl --assess --type install --verbose=2 TMP/Sallyport-v1.2.3-4-gabcdef0.pkg`

func compare(t *testing.T, got []string, want string) {
	t.Helper()
	lines := strings.Split(want, "\n")
	for i := range max(len(got), len(lines)) {
		if i >= len(got) || i >= len(lines) || got[i] != lines[i] {
			t.Fatalf("from line %d on it differs:\n%s\nwant:\n%s", i+1, strings.Join(got[min(i, len(got)):], "\n"), strings.Join(lines[min(i, len(lines)):], "\n"))
		}
	}
}

func TestWhatIsRunOnAMac(t *testing.T) {
	got, _, err := onMac(t, 0, "Accepted", signing...)
	if err != nil {
		t.Error(err)
	}
	compare(t, got, signed)
}

// TestEachToolOfAMacFails: then there is no package, not even an older one of that name.
func TestEachToolOfAMacFails(t *testing.T) {
	for i, line := range strings.Split(signed, "\n") {
		if got, _, err := onMac(t, i+1, "Accepted", signing...); err == nil || len(got) != i+1 {
			t.Errorf("%v, and it went on: %s", err, line)
		}
	}
	if _, _, err := onMac(t, 0, "Invalid", signing...); err == nil {
		t.Error("Apple has refused it, and notarytool ended well")
	}
}

func TestUnsignedOnAMac(t *testing.T) {
	got, _, err := onMac(t, 0, "")
	if err != nil {
		t.Error(err)
	}
	var want []string
	for line := range strings.Lines(signed) {
		line = strings.TrimSpace(line)
		line = strings.Replace(line, `Developer\ ID\ Application:\ ACME\ \(TEAMID1234\) --options runtime --timestamp`, "-", 1)
		line = strings.Replace(line, ` --sign Developer\ ID\ Installer:\ ACME\ \(TEAMID1234\) --timestamp`, "", 1)
		if want = append(want, line); strings.HasPrefix(line, "productbuild") {
			break
		}
	}
	compare(t, got, strings.Join(want, "\n"))
	for i := range signing { // half of it is a mistake, not a wish
		if got, _, err := onMac(t, 0, "Accepted", signing[i]); err == nil || len(got) > 0 {
			t.Errorf("%v: with %s alone it ran %q", err, signing[i], got)
		}
	}
}
