package bundle

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// removed stands where something was that looked like a secret.
const removed = "[removed]"

// privateKey is one in a file of OpenSSL's or OpenSSH's, also when its end is cut off.
var privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`)

// secrets are what secrets look like, in a line. The first group of each stays.
var secrets = []*regexp.Regexp{
	regexp.MustCompile(`(?i)()\botpauth(?:-migration)?:[^\s"'<>]+`),
	// name=value, name: value, "name":"value"; of a list of words the first.
	regexp.MustCompile(`(?i)((?:^|[^a-z0-9_/-])(?:[a-z]+_)*(?:secret|seed|passw(?:or)?d|passphrase|pass|pw|token|otp|pin|credential|authorization|api[_-]?key|private[_-]?key|bypass[_-]?key|cookie)"?\s*[=:]\s*)(?:(?:basic|bearer) +)?(?:\[removed\]|"[^"\n]+"|'[^'\n]+'|[^\s"',;&\]})]+)`),
	regexp.MustCompile(`(?i)(\b(?:bearer|basic) +)[A-Za-z0-9+/_=.-]{8,}`),
	// Recovery codes and bypass codes, as they are shown.
	regexp.MustCompile(`()\b[0-9A-Z]{5}-[0-9A-Z]{5}\b`),
	regexp.MustCompile(`()\b[0-9]{4}-[0-9]{4}-[0-9]{4}\b`),
}

var (
	// long is what a key, a token or a seed may be written in; a seed may be shorter.
	long = regexp.MustCompile(`[A-Za-z0-9+_=-]{26,}|\b[A-Z2-7]{16,25}\b`)
	// named is what is as long and no secret: a GUID, a SID, a time, our own names.
	named = regexp.MustCompile(`(?i)^(\{?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?|S-1(-[0-9]+)+|sallyport[a-z0-9-]*)$`)
	// short is a code in the words of a log; what a number is called is in front of it,
	// as in pid=1234567 and sshd[1234567].
	short = regexp.MustCompile(`(?:([\w./:-]+)([ =:]+)|(\w\[))?\b[0-9]{6,12}\b`)
)

// numbers are called so in logs, and are no codes.
var numbers = []string{"pid", "uid", "gid", "euid", "ruid", "auid", "ppid", "port", "seq", "generation", "bytes", "size", "id", "ino", "events"}

// Scrub takes out what looks like a secret, and says how often. log: short numbers go
// as well.
func Scrub(text string, log bool) (string, int) {
	n := 0
	text = privateKey.ReplaceAllStringFunc(text, func(string) string {
		n++
		return removed
	})
	var b strings.Builder
	for line := range strings.Lines(text) {
		line, found := scrubLine(line, log)
		b.WriteString(line)
		n += found
	}
	return b.String(), n
}

func scrubLine(line string, log bool) (string, int) {
	n := 0
	for _, s := range secrets {
		line = s.ReplaceAllStringFunc(line, func(found string) string {
			if strings.HasSuffix(found, removed) {
				return found
			}
			n++
			return s.FindStringSubmatch(found)[1] + removed
		})
	}
	line = long.ReplaceAllStringFunc(line, func(found string) string {
		if named.MatchString(found) || !mixed(found) {
			return found
		}
		n++
		return removed
	})
	if !log {
		return line, n
	}
	line = short.ReplaceAllStringFunc(line, func(found string) string {
		m := short.FindStringSubmatch(found)
		label := m[1][strings.LastIndexAny(m[1], "[/:.")+1:]
		if m[3] != "" || slices.Contains(numbers, strings.ToLower(label)) {
			return found
		}
		n++
		return m[1] + m[2] + removed
	})
	return line, n
}

// mixed says whether a long word is of the kind that nobody makes up: digits, alone or
// among letters, or capitals for longer than anybody shouts.
func mixed(word string) bool {
	letters := strings.ContainsFunc(word, unicode.IsLetter)
	digits := strings.ContainsFunc(word, unicode.IsDigit)
	if letters && digits || digits && !strings.Contains(word, "-") {
		return true
	}
	upper := strings.ToUpper(word) == word
	lower := strings.ToLower(word) == word
	return letters && len(word) >= 26 && !strings.ContainsAny(word, "-_") && (upper || !lower && len(word) >= 40)
}

// Names are user names that are replaced, the same by the same.
type Names struct{ pseudonyms map[string]string }

// keptNames are accounts that every computer has: they name nobody.
var keptNames = []string{"root", "nobody", "daemon", "system", "administrator", "administrators", "sallyport", "sshd", "users", "user", "everyone"}

// NewNames makes pseudonyms, in the order of the names.
func NewNames(names []string) *Names {
	n := &Names{map[string]string{}}
	var all []string
	for _, name := range names {
		name = strings.ToLower(name)
		if i := strings.LastIndexByte(name, '\\'); i >= 0 {
			name = name[i+1:] // the domain is no person
		}
		if i := strings.IndexByte(name, '@'); i > 0 {
			name = name[:i]
		}
		if name != "" && !strings.ContainsRune(name, ':') && !slices.Contains(keptNames, name) { // "uid:0" is a number
			all = append(all, name)
		}
	}
	slices.Sort(all)
	for i, name := range slices.Compact(all) {
		n.pseudonyms[name] = "user-" + strconv.Itoa(i+1)
	}
	return n
}

// Count is how many names there are.
func (n *Names) Count() int { return len(n.pseudonyms) }

// Replace puts the pseudonyms in the places of the names, where they are whole words.
func (n *Names) Replace(text string) string {
	if n == nil || len(n.pseudonyms) == 0 {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		end := strings.IndexFunc(text, func(r rune) bool { return !inName(r) })
		switch {
		case end < 0:
			end = len(text)
		case end == 0:
			_, size := utf8.DecodeRuneInString(text)
			b.WriteString(text[:size])
			text = text[size:]
			continue
		}
		b.WriteString(n.word(text[:end]))
		text = text[end:]
	}
	return b.String()
}

// word replaces a word, or the parts of it between characters that stand in names and
// between them: maya.example, home-maya, maya-laptop.
func (n *Names) word(word string) string {
	trimmed := strings.TrimRight(word, ".-_")
	if p, ok := n.pseudonyms[strings.ToLower(trimmed)]; ok {
		return p + word[len(trimmed):]
	}
	i := strings.IndexAny(word, ".-_$")
	if i < 0 {
		return word
	}
	// The longest name at the beginning of it, then the rest.
	for j := len(word); j > 0; j = strings.LastIndexAny(word[:j], ".-_$") {
		if p, ok := n.pseudonyms[strings.ToLower(word[:j])]; ok {
			return p + n.word(word[j:])
		}
	}
	return word[:i+1] + n.word(word[i+1:])
}

// inName says whether a character may be in the name of an account.
func inName(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-$", r)
}
