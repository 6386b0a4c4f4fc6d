//go:build unix

package authdb

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fixture is a definition as `security authorizationdb read` prints one on some macOS:
// what Apple's authorization.plist has there, with the keys that rule_copy_to_cfobject
// of authd adds. The login window's of 14 is that of 15.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".plist"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixtures are the names of them all, and whose right each is.
func fixtures(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.plist")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".plist")
		kind, _, _ := strings.Cut(name, "-")
		all[name] = map[string]string{"console": Console, "authenticate": Authenticate, "screensaver": Screensaver}[kind]
	}
	if len(all) < 12 {
		t.Fatalf("there are %d fixtures", len(all))
	}
	return all
}

func names(t testing.TB, plist []byte) []string {
	t.Helper()
	l, err := listOf(plist)
	if err != nil {
		t.Fatal(err)
	}
	return l.names()
}

// was is what a screensaver's right leads to before it is guarded.
const was = ruleLoginWindow

func TestGuardAndBackOnEveryFixture(t *testing.T) {
	for name, right := range fixtures(t) {
		old := fixture(t, name)
		guarded, err := Guard(right, old)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if bytes.Equal(old, guarded) || Same(old, guarded) {
			t.Errorf("%s: guarding it changed nothing", name)
		}
		again, err := Guard(right, guarded)
		if err != nil || !bytes.Equal(guarded, again) {
			t.Errorf("%s: a second time is not the same: %v\n%s", name, err, again)
		}
		back, err := Unguard(right, guarded, was)
		if err != nil || !bytes.Equal(old, back) {
			t.Errorf("%s: what is left is not what was there: %v\n%s", name, err, back)
		}
		if bare, err := Unguard(right, old, was); err != nil || !bytes.Equal(old, bare) {
			t.Errorf("%s: there was nothing to take out: %v", name, err)
		}
		if right == Screensaver {
			continue
		}
		if !slices.Equal(others(names(t, guarded)), names(t, old)) {
			t.Errorf("%s: others' mechanisms moved: %q", name, names(t, guarded))
		}
		// Each line but ours is there, in its place, to the byte.
		lines := strings.Split(string(guarded), "\n")
		lines = slices.DeleteFunc(lines, func(s string) bool { return strings.HasPrefix(s, "\t\t<string>Sallyport:") })
		if strings.Join(lines, "\n") != string(old) {
			t.Errorf("%s: more than our lines differs:\n%s", name, guarded)
		}
	}
}

func TestWhereOursGo(t *testing.T) {
	login := []string{"Sallyport:begin,privileged", "Sallyport:prompt", "Sallyport:verify,privileged"}
	session := []string{"Sallyport:begin-session,privileged", "Sallyport:prompt", "Sallyport:verify,privileged"}
	for _, c := range []struct {
		fixture       string
		ours          []string
		before, after string
	}{
		{"console-10.14-10.15", login, kerberos, loginSuccess},
		{"console-11-12", login, kerberos, loginSuccess},
		{"console-13", login, kerberos, loginSuccess},
		{"console-15-26", login, kerberos, loginSuccess},
		{"console-crypt", login, kerberos, loginSuccess},
		{"console-nomad", login, kerberos, loginSuccess},
		{"console-xcreds", login, kerberos, loginSuccess},
		{"console-jamf-connect", login, kerberos, loginSuccess},
		{"console-escrow-buddy", login, authenticated, loginSuccess},
		{"console-behind-the-password", login, kerberos, "Acme:Escrow,privileged"},
		{"authenticate-10.14-10.15", session, kerberos, ""},
		{"authenticate-13-14", session, authenticated, ""},
		{"authenticate-15-26", session, authenticated, ""},
		{"authenticate-acme", session, kerberos, "Acme:Audit,privileged"},
	} {
		right := Console
		if strings.HasPrefix(c.fixture, Authenticate) {
			right = Authenticate
		}
		guarded, err := Guard(right, fixture(t, c.fixture))
		if err != nil {
			t.Fatalf("%s: %v", c.fixture, err)
		}
		list := append(names(t, guarded), "")
		i := slices.Index(list, c.before)
		if want := append(slices.Clone(c.ours), c.after); !slices.Equal(list[i+1:i+5], want) {
			t.Errorf("%s: behind %s comes %q, want %q", c.fixture, c.before, list[i+1:i+5], want)
		}
	}
}

// with is the definition of a fixture with another list of mechanisms.
func with(t testing.TB, plist []byte, list []string) []byte {
	t.Helper()
	l, err := listOf(plist)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.Write(plist[:l.array.inner])
	for _, name := range list {
		b.WriteString("\n\t\t<string>" + name + "</string>")
	}
	b.WriteString("\n\t")
	b.Write(plist[l.array.innerTo:])
	return b.Bytes()
}

func TestOursInDisorderArePutRight(t *testing.T) {
	old := fixture(t, "console-crypt")
	plain := names(t, old)
	guarded, err := Guard(Console, old)
	if err != nil {
		t.Fatal(err)
	}
	want := names(t, guarded)
	at := slices.Index(plain, kerberos) + 1
	o := ours(Console)
	put := func(at int, names ...string) []string { return slices.Insert(slices.Clone(plain), at, names...) }
	for what, list := range map[string][]string{
		"in the wrong order":           put(at, o[1], o[0], o[2]),
		"before the password":          put(1, o...),
		"before Kerberos":              put(at-1, o...),
		"at the very front":            put(0, o...),
		"behind the success":           put(at+1, o...),
		"at the end":                   put(len(plain), o...),
		"twice":                        slices.Insert(put(at, o...), len(plain)+3, o...),
		"one twice":                    put(at, o[0], o[1], o[1], o[2]),
		"one missing":                  put(at, o[0], o[2]),
		"only what lets in":            put(at, o[2]),
		"an older version's":           put(at, "Sallyport:ask", "Sallyport:verify"),
		"with those of another right":  put(at, ours(Authenticate)...),
		"verify without being allowed": put(at, o[0], o[1], "Sallyport:verify"),
		"one behind the success":       slices.Insert(put(at, o[0], o[1]), at+3, o[2]),
	} {
		plist := with(t, old, list)
		right, err := Guard(Console, plist)
		if err != nil || !slices.Equal(names(t, right), want) {
			t.Errorf("%s: %v, %q", what, err, names(t, right))
		}
		back, err := Unguard(Console, plist, "")
		if err != nil || !slices.Equal(names(t, back), plain) {
			t.Errorf("%s, taken out: %v, %q", what, err, names(t, back))
		}
	}
	// Somebody else's between ours harms nobody, and is left in peace.
	between := with(t, old, put(at, "Acme:A", o[0], "Acme:B", o[1], o[2], "Acme:C"))
	if same, err := Guard(Console, between); err != nil || !bytes.Equal(same, between) {
		t.Errorf("others between ours: %v", err)
	}
	// A name that only looks like ours is somebody else's.
	alike := with(t, old, put(at, "sallyport:x", " Sallyport:y", "SallyportX:z"))
	if back, err := Unguard(Console, alike, ""); err != nil || !bytes.Equal(back, alike) {
		t.Errorf("others were taken out: %v, %q", err, names(t, back))
	}
}

// Whatever we do not know is refused, and comes back as an error and nothing else.
func TestWhatIsNotKnownIsRefused(t *testing.T) {
	console, screen := string(fixture(t, "console-11-12")), string(fixture(t, "screensaver-13-14"))
	replace := func(s, old, new string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("there is no %q", old)
		}
		return strings.Replace(s, old, new, 1)
	}
	line := func(m string) string { return "\t\t<string>" + m + "</string>\n" }
	for what, c := range map[string]struct{ right, plist, want string }{
		"no password's mechanism":       {Console, replace(console, line(authenticated), ""), "there is no " + authenticated},
		"no success":                    {Console, replace(console, line(loginSuccess), ""), "there is no " + loginSuccess},
		"the success comes first":       {Console, replace(replace(console, line(loginSuccess), ""), "\t<array>\n", "\t<array>\n"+line(loginSuccess)), "comes behind"},
		"the password without root":     {Console, replace(console, authenticated, "builtin:authenticate"), "there is no " + authenticated},
		"another class":                 {Console, replace(console, "evaluate-mechanisms", "user"), "class"},
		"class allow":                   {Console, replace(console, "evaluate-mechanisms", "allow"), "class"},
		"no class":                      {Console, replace(console, "<key>class</key>", "<key>klass</key>"), "class"},
		"no list":                       {Console, replace(console, "<key>mechanisms</key>", "<key>others</key>"), "no list"},
		"a list in text":                {Console, replace(replace(console, "<array>", "<string>"), "</array>", "</string>"), ""},
		"a number as mechanism":         {Console, replace(console, line(kerberos), "<integer>1</integer>"), "no text"},
		"an empty mechanism":            {Console, replace(console, line(kerberos), "<string/>"), "no text"},
		"a key twice":                   {Console, replace(console, "<key>comment</key>", "<key>class</key>"), "twice"},
		"two lists":                     {Console, replace(console, "<key>comment</key>\n\t<string>Login mechanism based rule.  Not for general use, yet.</string>", "<key>mechanisms</key>\n\t<array/>"), "twice"},
		"empty":                         {Console, "", "EOF"},
		"half":                          {Console, console[:len(console)/2], ""},
		"without its end":               {Console, strings.TrimSuffix(console, "</plist>\n"), ""},
		"two":                           {Console, console + console, ""},
		"something behind it":           {Console, console + "YES (0)\n", "outside"},
		"a NUL behind it":               {Console, console + "\x00", ""},
		"binary":                        {Console, "bplist00\xd1\x01\x02", "binary"},
		"JSON":                          {Console, `{"class":"evaluate-mechanisms"}`, ""},
		"UTF-16":                        {Console, "\xff\xfe<\x00?\x00", ""},
		"another encoding":              {Console, replace(console, "UTF-8", "UTF-7"), ""},
		"no UTF-8":                      {Console, replace(console, "Login mechanism", "Login \xff mechanism"), ""},
		"huge":                          {Console, replace(console, "Login mechanism", strings.Repeat("x", maxPlist)), "over"},
		"nested deeply":                 {Console, replace(console, "<true/>", strings.Repeat("<array>", 50)+strings.Repeat("</array>", 50)), "nested"},
		"an entity of its own":          {Console, replace(replace(console, `.dtd">`, `.dtd" [<!ENTITY a "Sallyport:begin">]>`), kerberos, "&a;"), "document type"},
		"an entity that nobody defines": {Console, replace(console, kerberos, "&a;"), ""},
		"another document type":         {Console, replace(console, "www.apple.com", "www.example.com"), "document type"},
		"a comment":                     {Console, replace(console, line(authenticated), "<!--"+line(authenticated)+"-->"), "comment"},
		"CDATA":                         {Console, replace(console, authenticated, "<![CDATA["+authenticated+"]]>"), "CDATA"},
		"a processing instruction":      {Console, replace(console, "<dict>", "<?x y?><dict>"), ""},
		"an attribute":                  {Console, replace(console, "<array>", `<array x="y">`), "attribute"},
		"a name space":                  {Console, replace(console, "<array>", `<array xmlns="y">`), ""},
		"another version":               {Console, replace(console, `version="1.0"`, `version="2.0"`), "version"},
		"a plist of a list":             {Console, replace(replace(console, "<dict>", "<array>"), "</dict>", "</array>"), ""},
		"text between":                  {Console, replace(console, "<array>", "<array>x"), "text"},
		"an element in a mechanism":     {Console, replace(console, kerberos, "<b>"+kerberos+"</b>"), ""},
		"crossed tags":                  {Console, replace(console, "</array>", "</dict>"), ""},
		"an element nobody knows":       {Console, replace(console, "<true/>", "<maybe/>"), "maybe"},
		"a key without a value":         {Console, replace(console, "<true/>", ""), ""},

		"the screen: another product's rule": {Screensaver, replace(screen, ruleLoginWindow, "com.example.unlock"), "com.example.unlock"},
		"the screen: two rules":              {Screensaver, replace(screen, line(ruleLoginWindow), line("com.example.unlock")+line(ruleLoginWindow)), "one rule"},
		"the screen: no rule":                {Screensaver, replace(screen, line(ruleLoginWindow), ""), "one rule"},
		"the screen: mechanisms":             {Screensaver, console, "class"},
		"the screen: written with entities":  {Screensaver, replace(screen, ruleLoginWindow, "use&#45;login-window-ui"), "wrong"},
	} {
		out, err := Guard(c.right, []byte(c.plist))
		if err == nil || out != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v (%d bytes), want an error with %q", what, err, len(out), c.want)
		}
	}
}

// TestEntitiesAreRead: what the parser reads counts, not how it is written.
func TestEntitiesAreRead(t *testing.T) {
	old := fixture(t, "console-11-12")
	guarded, err := Guard(Console, old)
	if err != nil {
		t.Fatal(err)
	}
	odd := bytes.ReplaceAll(guarded, []byte("<string>Sallyport:"), []byte("<string>&#x53;allyport&#58;"))
	if same, err := Guard(Console, odd); err != nil || !bytes.Equal(same, odd) {
		t.Errorf("ours, written with entities, are not seen: %v", err)
	}
	if back, err := Unguard(Console, odd, ""); err != nil || !bytes.Equal(back, old) {
		t.Errorf("ours, written with entities, stay: %v", err)
	}
}

// TestAnyLayoutComesBack: tabs, spaces, one line, CRLF.
func TestAnyLayoutComesBack(t *testing.T) {
	unix := string(fixture(t, "console-jamf-connect"))
	for what, plist := range map[string]string{
		"CRLF":           strings.ReplaceAll(unix, "\n", "\r\n"),
		"spaces":         strings.ReplaceAll(unix, "\t", "    "),
		"one line":       strings.NewReplacer("\n", "", "\t", "").Replace(unix),
		"no declaration": unix[strings.Index(unix, "<plist"):],
	} {
		guarded, err := Guard(Console, []byte(plist))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if back, err := Unguard(Console, guarded, ""); err != nil || string(back) != plist {
			t.Errorf("%s: it does not come back: %v", what, err)
		}
	}
}

func TestSame(t *testing.T) {
	a := string(fixture(t, "console-xcreds"))
	change := func(old, new string) []byte { return []byte(strings.Replace(a, old, new, 1)) }
	for what, c := range map[string]struct {
		b    []byte
		same bool
	}{
		"itself":            {[]byte(a), true},
		"another time":      {change("738007875.40967596", "1"), true},
		"another writer":    {change("com.apple.security", "com.example"), true},
		"other spaces":      {change("\t", ""), true},
		"a mechanism less":  {change("<string>loginwindow:done</string>", ""), false},
		"another mechanism": {change("loginwindow:done", "loginwindow:gone"), false},
		"another class":     {change("evaluate-mechanisms", "allow"), false},
		"not shared":        {change("<true/>", "<false/>"), false},
		"fewer tries":       {change("10000", "1"), false},
		"a key more":        {change("<key>tries", "<key>allow-root</key><true/><key>tries"), false},
		"a key less":        {change("<key>tries</key>\n\t<integer>10000</integer>", ""), false},
		"broken":            {change("</dict>", ""), false},
	} {
		if Same([]byte(a), c.b) != c.same || Same(c.b, []byte(a)) != c.same {
			t.Errorf("%s: same is %v", what, !c.same)
		}
	}
}

// FuzzGuard: no definition makes it panic; what it accepts is right, differs by ours
// alone, and comes back to the byte.
func FuzzGuard(f *testing.F) {
	for name, right := range fixtures(f) {
		plist := fixture(f, name)
		f.Add(uint8(slices.Index(order, right)), plist)
		if guarded, err := Guard(right, plist); err == nil {
			f.Add(uint8(slices.Index(order, right)), guarded)
		}
	}
	f.Fuzz(func(t *testing.T, n uint8, plist []byte) {
		right := order[int(n)%len(order)]
		guarded, err := Guard(right, plist)
		if err != nil {
			if guarded != nil {
				t.Error("an error, and a definition")
			}
			return
		}
		if again, err := Guard(right, guarded); err != nil || !bytes.Equal(again, guarded) {
			t.Errorf("a second time is not the same: %v", err)
		}
		back, err := Unguard(right, guarded, was)
		if err != nil {
			t.Fatalf("ours do not come out: %v", err)
		}
		bare, err := Unguard(right, plist, was)
		if err != nil || !bytes.Equal(back, bare) {
			t.Errorf("what is left is not what was there: %v\n%q\n%q", err, back, bare)
		}
		if right == Screensaver {
			return
		}
		if err := inPlace(right, names(t, guarded)); err != nil {
			t.Errorf("it is not right: %v", err)
		}
		if !slices.Equal(others(names(t, guarded)), others(names(t, plist))) || slices.ContainsFunc(names(t, back), isOurs) {
			t.Error("others moved, or ours are left")
		}
	})
}

func TestAnUnknownRightIsNoPanic(t *testing.T) {
	if _, err := Guard(Console, nil); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("nothing at all: %v", err)
	}
}
