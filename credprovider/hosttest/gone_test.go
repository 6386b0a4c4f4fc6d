package hosttest

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"sallyport/internal/testkit/wine"
)

// The words of the tile.
const (
	notRunning  = "Sallyport is not running on this computer"
	noAnswer    = "Sallyport does not answer on this computer"
	cannotCheck = "Sallyport cannot check logins on this computer"
	starting    = "Sallyport is starting…"
	helpdesk    = "Helpdesk: 0800 7351, Mühlgasse 3"
)

func TestAgentAbsent(t *testing.T) {
	besideOthers(t)
	setValue(t, settings, "message", helpdesk)
	s := atLogon(t)
	// It may be about to start.
	if a := s.typesPassword(); a.ConnectMS < 19_000 || a.ConnectMS > int(hungMax.Milliseconds()) || !slices.Contains(a.Messages, starting) {
		t.Errorf("after %d ms of %q the screen says that nobody is there", a.ConnectMS, a.Messages)
	}
	s.isRefused(notRunning)
	s.isRefused(helpdesk)
	s.findsNo(password)
	s.logged("The agent is not running")

	// It is back, and the same screen works.
	agentPlays(t, codeThen(allow()))
	s.typesPassword()
	s.isAsked(codePrompt)
	s.typesCode("123456")
	s.isIn("CORP", "alice")
	s.leaves()
}

// TestAgentKilled in the middle of a login: the login is over, and nobody is in.
func TestAgentKilled(t *testing.T) {
	begun := func(t *testing.T, play func(*session)) (kill func()) {
		l := listen(t)
		a := newAgent(t, func(s *session) {
			defer func() { _ = recover() }() // how the stream ends is not the script's
			play(s)
		})
		a.serve(l)
		end := startRelay(t, pipe, l, systems)
		return func() {
			end()
			a.server.Stop() // Wine keeps a dead program's sockets open
		}
	}
	t.Run("while it checks the password", func(t *testing.T) {
		heard := make(chan struct{})
		kill := begun(t, func(s *session) {
			close(heard)
			<-s.stream.Context().Done()
		})
		s := atLogon(t)
		s.types("Password", password)
		s.presses()
		<-heard
		kill()
		s.waits()
		s.isRefused(cannotCheck)
		s.logged("gave no verdict")
		s.leaves()
	})
	t.Run("while the phone rings", func(t *testing.T) {
		kill := begun(t, func(s *session) {
			s.rings(1, 42, time.Minute)
			<-s.stream.Context().Done()
		})
		s := atLogon(t)
		s.typesPassword()
		s.isAsked("Type 42")
		kill()
		s.comesBack()
		s.selects(0)
		s.isBlank()
		s.reads(cannotCheck)
		s.leaves()
	})
	t.Run("while the person looks for the code", func(t *testing.T) {
		kill := begun(t, func(s *session) {
			s.says(prompt(1, codePrompt))
			<-s.stream.Context().Done()
		})
		s := atLogon(t)
		s.typesPassword()
		s.isAsked(codePrompt)
		kill()
		s.do("await", awaitMS)
		s.do("refresh")
		s.selects(0)
		s.isBlank()
		s.reads(cannotCheck)
		s.findsNo(password)
		s.leaves()
	})
	t.Run("behind the code", func(t *testing.T) {
		heard := make(chan struct{})
		kill := begun(t, func(s *session) {
			s.asks(1, "123456")
			close(heard)
			<-s.stream.Context().Done()
		})
		s := atLogon(t)
		s.typesPassword()
		s.isAsked(codePrompt)
		s.types("Code", "123456")
		s.presses()
		<-heard
		kill()
		s.waits()
		s.isRefused(cannotCheck)
		s.leaves()
	})
}

// hungMax is the longest that a person waits for an agent that hangs: 43 s, and some more
// on a busy machine.
const hungMax = 60 * time.Second

// soonMS is at once, on a busy machine too; an agent that hangs would be waited for for 40 s,
// and one that is not there for 20 s.
const soonMS = 15_000

// TestAgentHangs: however it hangs, the person gets an answer, in bounded time.
func TestAgentHangs(t *testing.T) {
	besideOthers(t)
	setValue(t, settings, "message", helpdesk)
	untilGone := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	var screens []*screen
	var all sync.WaitGroup
	names := map[string]func(net.Conn){
		"says nothing at all":   untilGone,
		"says nothing sensible": func(c net.Conn) { io.WriteString(c, "OK\n"); untilGone(c) },
		"says hello":            func(c net.Conn) { http2.NewFramer(c, c).WriteSettings(); untilGone(c) },
		"pings and pings": func(c net.Conn) {
			fr := http2.NewFramer(c, c)
			go untilGone(c)
			for err := fr.WriteSettings(); err == nil; err = fr.WritePing(false, [8]byte{}) {
				time.Sleep(time.Second) // as slow as that: what is tested
			}
		},
	}
	for name, serve := range names {
		l := listen(t)
		all.Go(func() {
			if c, err := l.Accept(); err == nil {
				defer c.Close()
				serve(c)
			}
		})
		own := `\\.\pipe\sallyport-test\` + strings.ReplaceAll(name, " ", "-")
		startRelay(t, own, l, systems)
		// Each screen reads it when it is turned on; the next has another.
		setValue(t, settings, "pipe", own)
		s := atLogon(t)
		s.types("Password", password)
		s.presses()
		screens = append(screens, s)
	}
	for _, s := range screens {
		a := s.waits()
		if took := time.Duration(a.ConnectMS) * time.Millisecond; took > hungMax {
			t.Errorf("the person waited for %v", took)
		}
		s.isRefused(helpdesk)
		if !strings.Contains(a.Text, noAnswer) && !strings.Contains(a.Text, cannotCheck) {
			t.Errorf("the person reads %q", a.Text)
		}
		s.logged("gave no verdict")
		s.leaves()
	}
	all.Wait()
}

// TestCancelWhileTheAgentHangs: nobody has to wait for that long.
func TestCancelWhileTheAgentHangs(t *testing.T) {
	l := behindPipe(t)
	came, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			close(came)
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	s := atLogon(t)
	s.types("Password", password)
	if a := s.cancels(came); a.ConnectMS > soonMS || a.Credential != nil {
		t.Errorf("%+v", a)
	}
	s.isBlank()
	<-gone // the connection is closed
	s.leaves()
}

// TestNoAgentBehindThePipe: whoever answers there and is no agent lets nobody in.
func TestNoAgentBehindThePipe(t *testing.T) {
	for name, text := range map[string]string{
		"noise":    strings.Repeat("\x07\xe0\x81\x00", 1<<14),
		"zeros":    strings.Repeat("\x00", 4096),
		"HTTP/1":   "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 0\r\n\r\n",
		"HTTP 401": "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
		"an echo":  http2.ClientPreface,
		"the end":  "",
	} {
		t.Run(name, func(t *testing.T) {
			l := behindPipe(t)
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(c, text)
					if text != "" {
						_, _ = io.Copy(io.Discard, c)
					}
					c.Close()
				}
			}()
			s := atLogon(t)
			s.typesPassword()
			s.isRefused(cannotCheck)
			s.logged("gave no verdict")
			s.leaves()
		})
	}
}

// TestSquatterOnThePipe: a process that was there before the agent gets no password.
func TestSquatterOnThePipe(t *testing.T) {
	const somebody = "S-1-5-21-1-2-3-1777"
	for name, sddl := range map[string]string{
		"a user":   fmt.Sprintf("O:%s G:%[1]s D:P(A;;GA;;;WD)", somebody),
		"everyone": "O:WDG:WDD:P(A;;GA;;;WD)",
		"users":    "O:BUG:BUD:P(A;;GA;;;WD)",
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t)
			heard := make(chan []byte, 1)
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				b, _ := io.ReadAll(c)
				heard <- b
			}()
			startRelay(t, pipe, l, strings.ReplaceAll(sddl, " ", ""))
			s := atLogon(t)
			s.typesPassword()
			s.isRefused(cannotCheck)
			s.logged("belongs to somebody else")
			if b := <-heard; len(b) != 0 {
				t.Errorf("%d bytes were sent to it", len(b))
			}
			s.leaves()
		})
	}
}

// TestWhatIsNoPipe: the name may be set, but only to a pipe of this computer.
func TestWhatIsNoPipe(t *testing.T) {
	file := filepath.Join(dist, "file")
	if noWine == nil {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, where := range map[string]string{
		"a file":                   wine.Path(file),
		"a device":                 `\\.\PhysicalDrive0`,
		"another computer's":       `\\attacker.example\pipe\sallyport\login`,
		"another computer's, long": `\\.\UNC\attacker.example\pipe\sallyport\login`,
	} {
		t.Run(name, func(t *testing.T) {
			setValue(t, settings, "pipe", where)
			s := atLogon(t)
			s.typesPassword()
			s.isRefused("Call your helpdesk")
			s.leaves()
		})
	}
}

// TestBreakGlass: the named account needs no agent, at the console. Elsewhere, and
// anybody else, it changes nothing: the agent is asked.
func TestBreakGlass(t *testing.T) {
	setValue(t, settings+`\break_glass`, "1", aliceSID)
	setValue(t, settings+`\break_glass`, "2", "no SID")
	t.Run("at the console", func(t *testing.T) {
		s := atLogon(t)
		s.typesPassword()
		s.isIn("CORP", "alice")
		s.logged("The break-glass account " + aliceSID)
		s.leaves()
	})
	t.Run("in an unlock", func(t *testing.T) {
		s := sit(t, visit{scenario: "unlock", people: []person{alice}})
		s.selects(0)
		s.typesPassword()
		s.isIn("CORP", "alice")
		s.leaves()
	})
	t.Run("agent alive", func(t *testing.T) {
		agentPlays(t) // is not asked
		s := atLogon(t)
		s.typesPassword()
		s.isIn("CORP", "alice")
		s.leaves()
	})
	for name, v := range map[string]visit{
		"remote":          {from: "192.0.2.7", people: []person{alice}},
		"remote, unlock":  {scenario: "unlock", from: "192.0.2.7", people: []person{alice}},
		"another user":    {people: []person{bob}},
		"by name":         {people: []person{{bobSID, `CORP\alice`}}},
		"a program's ask": {scenario: "credui", flags: creduiEnumerateCurrentUser, people: []person{alice}},
	} {
		t.Run("not "+name, func(t *testing.T) {
			agentPlays(t, says(deny("wrong_code", askedTheAgent)))
			s := sit(t, v)
			s.selects(0)
			s.typesPassword()
			s.isRefused(askedTheAgent)
			s.leaves()
		})
	}
	t.Run("not what an RDP client sends along", func(t *testing.T) {
		agentPlays(t, says(deny("wrong_code", askedTheAgent)))
		s := arrives(t, sentAlong("CORP", "alice"), alice)
		s.selects(*s.do("tiles").Default)
		s.submits()
		s.isRefused(askedTheAgent)
		s.leaves()
	})
}

// askedTheAgent is said by an agent to whom break-glass accounts never come.
const askedTheAgent = "You have come to the agent."

// TestNoBreakGlassByDefault: an agent that is not there lets nobody in.
func TestNoBreakGlassByDefault(t *testing.T) {
	besideOthers(t)
	s := atLogon(t)
	s.typesPassword()
	s.isRefused(notRunning)
	s.leaves()
}

// TestThePolicyOfBreakGlassWins over what was installed.
func TestThePolicyOfBreakGlassWins(t *testing.T) {
	setValue(t, settings+`\break_glass`, "1", aliceSID)
	setValue(t, policies+`\break_glass`, "1", bobSID)
	agentPlays(t, says(deny("wrong_code", askedTheAgent)))
	s := sit(t, visit{people: []person{alice, bob}})
	s.selects(0)
	s.typesPassword()
	s.isRefused(askedTheAgent)
	s.selects(1)
	s.typesPassword()
	s.isIn("CORP", "bob")
	s.leaves()
}
