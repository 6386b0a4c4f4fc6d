package eventsout

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport/internal/textout"
)

const (
	// authpriv is the facility "security/authorization messages (private)", RFC 5424
	// section 6.2.1.
	authpriv = 10
	// sdID names our structured data. The number is the one that RFC 5612 keeps for
	// examples: Sallyport has none of its own.
	sdID = "sallyport@32473"
	// The bounds of RFC 5424 section 6.
	maxHost, maxMsgID, maxParamName = 255, 32, 32
	// maxMessage bounds a message: receivers take 8 KiB as a rule (RFC 5425 asks for
	// 2048 bytes at least), and what is too long they cut off or drop.
	maxMessage = 8 << 10
	maxParam   = 1 << 10
	// maxUnconfirmed bounds what is sent before the server has to answer for it.
	maxUnconfirmed = 256 << 10
)

// bom begins a MSG in UTF-8, RFC 5424 section 6.4.
const bom = "\xef\xbb\xbf"

// Message writes a record as RFC 5424 has it.
func Message(r Record) []byte {
	var b bytes.Buffer
	e := r.event
	host, app := header(r.Name, maxHost), "sallyport"
	if r.Device == "" {
		host, app = "-", "sallyport-authority"
	}
	_, _ = fmt.Fprintf(&b, "<%d>1 %s %s %s - %s [%s", authpriv*8+severities[of(r).severity], e.Time.UTC().Format("2006-01-02T15:04:05.000000Z"),
		host, app, header(string(e.Name), maxMsgID), sdID)
	param := func(name, value string) {
		if value == "" || len(name) > maxParamName {
			return
		}
		b.WriteString(" " + name + `="`)
		_, _ = paramEscaper.WriteString(&b, cut(textout.Clean(value), maxParam))
		b.WriteByte('"')
	}
	param("id", r.ID)
	param("device", r.Device)
	param("device_name", r.Name)
	param("vault_id", r.VaultID)
	param("seq", strconv.FormatUint(e.Seq, 10))
	param("kept", r.Kept.UTC().Format(time.RFC3339Nano))
	for _, a := range e.LogValue().Group() {
		if a.Key != "text" && b.Len() < maxMessage-3*maxParam { // the text is the message
			param(a.Key, a.Value.String())
		}
	}
	b.WriteString("] " + bom)
	b.WriteString(cut(summary(r), max(0, maxMessage-b.Len())))
	return b.Bytes()
}

// paramEscaper is that of RFC 5424 section 6.3.3.
var paramEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`)

// header is a field of the header: printable US-ASCII without spaces, "-" for none.
func header(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), most)]
}

// cut shortens a text to so many bytes, and no character in two.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

func validUTF8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// summary is a record in one line for people.
func summary(r Record) string {
	e := r.event
	parts := []string{string(e.Name)}
	for _, f := range []struct{ label, value string }{{"", e.Verdict}, {"", e.Reason}, {"of ", e.User}, {"with ", e.Factor}, {"to ", e.Service},
		{"from ", e.Remote}, {"by ", e.By}} {
		if f.value != "" {
			parts = append(parts, f.label+f.value)
		}
	}
	text := strings.Join(parts, " ")
	if e.Text != "" {
		text += ": " + e.Text
	}
	return textout.Clean(text)
}

// SyslogOptions say where a syslog server is.
type SyslogOptions struct {
	Address    string // host:port
	ServerName string // in its certificate; "": the host
	CA         string // file; "": the system's
	Cert, Key  string // files of the client certificate; "": none
	// Confirm: a batch counts as delivered only when the server has answered the end of
	// its connection, as RFC 5425 section 4.4 has it.
	Confirm bool
	// Dial is net.Dialer.DialContext if nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Syslog is a syslog server over TLS, RFC 5425.
type Syslog struct {
	o   SyslogOptions
	tls *tls.Config
}

// NewSyslog reads the files. The client certificate is read again with each
// connection, so that it can be renewed.
func NewSyslog(o SyslogOptions) (*Syslog, error) {
	host, _, err := net.SplitHostPort(o.Address)
	if err != nil {
		return nil, fmt.Errorf("events_out.syslog.address: %w", err)
	}
	s := &Syslog{o: o, tls: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, ClientSessionCache: tls.NewLRUClientSessionCache(4)}}
	if o.ServerName != "" {
		s.tls.ServerName = o.ServerName
	}
	if s.tls.RootCAs, err = roots(o.CA); err != nil {
		return nil, fmt.Errorf("events_out.syslog.ca: %w", err)
	}
	if o.Cert != "" {
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(o.Cert, o.Key)
			return &c, err
		}
		if _, err := load(nil); err != nil {
			return nil, fmt.Errorf("events_out.syslog.cert: %w", err)
		}
		s.tls.GetClientCertificate = load
	}
	if s.o.Dial == nil {
		s.o.Dial = (&net.Dialer{}).DialContext
	}
	return s, nil
}

// roots reads a file of CA certificates; nil, the system's, without one.
func roots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return pool, nil
}

// Name implements Sink.
func (s *Syslog) Name() string { return "syslog" }

// Send implements Sink. Syslog has no answers: what TCP has taken may still be lost
// with the server. So each batch has a connection of its own, which is ended in order:
// the server has read all before it answers that. TLS sessions are resumed, so that a
// connection costs little.
func (s *Syslog) Send(ctx context.Context, records []Record) (n int, err error) {
	raw, err := s.o.Dial(ctx, "tcp", s.o.Address)
	if err != nil {
		return 0, err
	}
	line := &line{Conn: raw}
	c := tls.Client(line, s.tls)
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	if err := c.HandshakeContext(ctx); err != nil {
		return 0, fmt.Errorf("%s: %w", s.o.Address, err)
	}
	var b []byte
	for _, r := range records {
		m := Message(r)
		if len(b)+len(m) > maxUnconfirmed && n > 0 {
			break
		}
		b = fmt.Appendf(b, "%d %s", len(m), m) // octet counting, RFC 5425 section 4.3
		n++
	}
	_, err = c.Write(b)
	if err == nil {
		err = c.CloseWrite()
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s.o.Address, err)
	}
	if !s.o.Confirm {
		return n, nil
	}
	// With TLS 1.3 a server that refuses our certificate says so only here.
	switch _, err := io.CopyN(io.Discard, c, 4096); {
	case err == nil:
		return 0, fmt.Errorf("%s sends what no syslog server does", s.o.Address)
	case !errors.Is(err, io.EOF):
		return 0, fmt.Errorf("%s did not say that it has read all: %w", s.o.Address, err)
	case line.ended:
		return 0, fmt.Errorf("%s ended the connection without the answer that RFC 5425 asks for, so that nobody knows what it has read: if it never gives one, set events_out.syslog.confirm = false", s.o.Address)
	}
	return n, nil
}

// line knows whether a connection was ended without TLS's own word for it, for which
// crypto/tls has the same error.
type line struct {
	net.Conn
	ended bool
}

func (l *line) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	l.ended = l.ended || err != nil
	return n, err
}
