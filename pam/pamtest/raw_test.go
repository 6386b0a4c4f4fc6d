package pamtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	loginv1 "sallyport/proto/sallyport/login/v1"
)

// startRaw starts an agent that is a function on the bare connection. It serves
// one login; the connection is closed when the function returns.
func startRaw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			t.Errorf("agent: %v", err)
			return
		}
		defer c.Close()
		serve(c)
	}()
	t.Cleanup(func() {
		soon(l)
		<-done
	})
	return l.Addr().String()
}

// soon ends the wait for whoever never comes, and not for one that is there already
// but was not accepted yet.
func soon(l net.Listener) { l.(*net.UnixListener).SetDeadline(time.Now().Add(patience)) }

// untilGone reads until the hook closes the connection.
func untilGone(c net.Conn) { io.Copy(io.Discard, c) }

// TestGarbage: whatever listens there and is no agent lets nobody in.
func TestGarbage(t *testing.T) {
	send := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			io.WriteString(c, text)
			untilGone(c)
		}
	}
	noise := make([]byte, 64*1024)
	for i := range noise {
		noise[i] = byte(i*7 + i>>8)
	}
	for name, serve := range map[string]func(net.Conn){
		"noise":                    send(string(noise)),
		"zeros":                    send(strings.Repeat("\x00", 4096)),
		"HTTP/1":                   send("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 0\r\n\r\n"),
		"HTTP/1 401":               send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
		"an SSH banner":            send("SSH-2.0-OpenSSH_9.2\r\n"),
		"its own preface":          send(http2.ClientPreface),
		"closed at once":           func(net.Conn) {},
		"closed after the preface": func(c net.Conn) { io.ReadFull(c, make([]byte, len(http2.ClientPreface))) },
		"closed after SETTINGS": func(c net.Conn) {
			http2.NewFramer(c, c).WriteSettings()
			io.ReadFull(c, make([]byte, 64))
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				p := b.sit(t, startRaw(t, serve), login{})
				p.authenticate()
				p.ret(authErr)
				p.logged("denied: the agent at")
				p.account()
				p.ret(permDenied)
			})
		})
	}
}

// TestSilence: an agent that does not answer costs its time, and denies.
func TestSilence(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		// Shorter than a frame's header, so that more could follow.
		"a line":               func(c net.Conn) { io.WriteString(c, "OK\n"); untilGone(c) },
		"a TLS alert":          func(c net.Conn) { io.WriteString(c, "\x15\x03\x01\x00\x02\x02\x28"); untilGone(c) },
		"nothing at all":       untilGone,
		"after SETTINGS":       func(c net.Conn) { http2.NewFramer(c, c).WriteSettings(); untilGone(c) },
		"after half a verdict": h2(func(r *rawAgent) { r.headers(); r.data(message(allow())[:7], false) }),
		"pings without an end": func(c net.Conn) {
			fr := http2.NewFramer(c, c)
			fr.WriteSettings()
			go untilGone(c)
			for fr.WritePing(false, [8]byte{}) == nil {
				runtime.Gosched()
			}
		},
		"no window to send in": func(c net.Conn) {
			http2.NewFramer(c, c).WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			untilGone(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				p := b.sit(t, startRaw(t, serve), login{options: "timeout=1"})
				p.authenticate()
				p.ret(authErr)
				p.logged("denied")
				if name != "pings without an end" { // may also end at the bound of bytes
					p.logged("did not answer within 1 s")
				}
			})
		})
	}
}

// rawAgent speaks HTTP/2 frame by frame, also wrongly.
type rawAgent struct {
	*http2.Framer
	conn net.Conn
	buf  bytes.Buffer
	enc  *hpack.Encoder
}

// h2 makes an agent that has read Begin when play runs, and stays until the hook
// goes.
func h2(play func(r *rawAgent)) func(net.Conn) {
	return func(c net.Conn) {
		r := &rawAgent{conn: c, Framer: http2.NewFramer(c, c)}
		r.AllowIllegalWrites = true
		r.enc = hpack.NewEncoder(&r.buf)
		r.WriteSettings()
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		for {
			f, err := r.ReadFrame()
			if err != nil {
				return
			}
			if f.Header().Type == http2.FrameData {
				break
			}
		}
		play(r)
		untilGone(c)
	}
}

func (r *rawAgent) block(fields ...string) []byte {
	r.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		r.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(r.buf.Bytes())
}

func (r *rawAgent) sendHeaders(end bool, fields ...string) {
	r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(fields...), EndHeaders: true, EndStream: end})
}

func (r *rawAgent) headers() {
	r.sendHeaders(false, ":status", "200", "content-type", "application/grpc")
}

func (r *rawAgent) data(b []byte, end bool) { r.WriteData(1, end, b) }

// message frames a directive as gRPC does.
func message(d *loginv1.Directive) []byte {
	text, err := proto.Marshal(d)
	if err != nil {
		panic(err)
	}
	return framed(0, text)
}

func framed(flag byte, text []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(text))), text...)
}

// TestWrongFrames: HTTP/2 that is none, or gRPC that is none, denies.
func TestWrongFrames(t *testing.T) {
	verdictAllow := message(allow())
	for name, c := range map[string]struct {
		play func(r *rawAgent)
		says string
	}{
		"compressed": {func(r *rawAgent) {
			r.headers()
			r.data(framed(1, verdictAllow[5:]), false)
		}, "compressed message"},
		"an unknown flag": {func(r *rawAgent) {
			r.headers()
			r.data(framed(0x80, verdictAllow[5:]), false)
		}, "compressed message"},
		"oversize": {func(r *rawAgent) {
			r.headers()
			r.data([]byte{0, 0, 0, 0x20, 1}, false)
		}, "message of 8193 bytes"},
		"4 GiB": {func(r *rawAgent) {
			r.headers()
			r.data([]byte{0, 0xff, 0xff, 0xff, 0xff}, false)
		}, "message of 4294967295 bytes"},
		"a truncated verdict": {func(r *rawAgent) {
			r.headers()
			r.data(verdictAllow[:len(verdictAllow)-2], false)
			r.sendHeaders(true, "grpc-status", "0")
		}, "without a verdict: gRPC status 0"},
		"a truncated prefix": {func(r *rawAgent) {
			r.headers()
			r.data(verdictAllow[:4], true)
		}, "without a verdict"},
		"a verdict cut inside": {func(r *rawAgent) {
			r.headers()
			r.data(framed(0, verdictAllow[5:len(verdictAllow)-2]), false)
		}, "no directive"},
		"noise for a verdict": {func(r *rawAgent) {
			r.headers()
			r.data(framed(0, []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")), false)
		}, "no directive"},
		"an empty message": {func(r *rawAgent) {
			r.headers()
			r.data(framed(0, nil), false)
		}, "empty or unknown directive"},
		"an unknown directive": {func(r *rawAgent) {
			r.headers()
			r.data(framed(0, []byte{0x7a, 2, 8, 1}), false) // field 15
		}, "empty or unknown directive"},
		"a verdict of another type": {func(r *rawAgent) {
			r.headers()
			r.data(framed(0, []byte{0x28, 1}), false) // field 5 as a number
		}, "no directive"},
		"a decision beyond an int": {func(r *rawAgent) {
			r.headers()
			r.data(framed(0, []byte{0x2a, 6, 8, 0x81, 0x80, 0x80, 0x80, 0x10}), false) // 2^32 + 1
		}, "denied"},
		"a body before its headers": {func(r *rawAgent) { r.data(verdictAllow, false) }, "denied"},
		"a body without a type":     {func(r *rawAgent) { r.sendHeaders(false, ":status", "200"); r.data(verdictAllow, false) }, "not gRPC"},
		"a body of another type": {func(r *rawAgent) {
			r.sendHeaders(false, ":status", "200", "content-type", "text/html")
			r.data(verdictAllow, false)
		}, "not gRPC"},
		"status 401": {func(r *rawAgent) {
			r.sendHeaders(false, ":status", "401", "content-type", "application/grpc")
			r.data(verdictAllow, false)
		}, "HTTP status 401"},
		"status 500 and nothing": {func(r *rawAgent) { r.sendHeaders(true, ":status", "500") }, "HTTP status 500"},
		"headers without a status": {func(r *rawAgent) {
			r.sendHeaders(false, "content-type", "application/grpc")
			r.data(verdictAllow, false)
		}, "denied"},
		"a verdict on another stream": {func(r *rawAgent) { r.headers(); r.WriteData(3, false, verdictAllow) }, "denied"},
		"trailers only, an error": {func(r *rawAgent) {
			r.sendHeaders(true, ":status", "200", "content-type", "application/grpc", "grpc-status", "7", "grpc-message", "caf%C3%A9%2")
		}, "gRPC status 7"},
		"trailers only, no error": {func(r *rawAgent) {
			r.sendHeaders(true, ":status", "200", "content-type", "application/grpc", "grpc-status", "0")
		}, "gRPC status 0"},
		"a status that is no number": {func(r *rawAgent) { r.headers(); r.sendHeaders(true, "grpc-status", "ok") }, "gRPC status 2"},
		"the stream reset":           {func(r *rawAgent) { r.headers(); r.WriteRSTStream(1, http2.ErrCodeNo) }, "HTTP/2 error 0"},
		"the stream refused":         {func(r *rawAgent) { r.WriteGoAway(0, http2.ErrCodeNo, nil) }, "denied"},
		"GOAWAY with an error":       {func(r *rawAgent) { r.headers(); r.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("x")) }, "denied"},
		"a promise": {func(r *rawAgent) {
			r.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: r.block(":method", "GET"), EndHeaders: true})
		}, "denied"},
		"headers without an end":       {endlessHeaders, "denied"},
		"an allow under another allow": {func(r *rawAgent) { r.headers(); r.data(framed(0, []byte{0x2a, 2, 8, 1, 0x2a, 2, 8, 0}), false) }, "verdict 0"},
	} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				options := "timeout=60 debug"
				if c.says == "denied" {
					options = "timeout=1 debug" // some of these are just not answered
				}
				p := b.sit(t, startRaw(t, h2(c.play)), login{options: options})
				p.authenticate()
				p.ret(authErr)
				p.logged(c.says)
				p.account()
				p.ret(permDenied)
			})
		})
	}
}

// frames returns the bytes of a whole answer with one message.
func frames(r *rawAgent, m []byte) []byte {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true,
		BlockFragment: r.block(":status", "200", "content-type", "application/grpc")})
	fr.WriteData(1, false, m)
	return b.Bytes()
}

func endlessHeaders(r *rawAgent) {
	r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(":status", "200")})
	go untilGone(r.conn)
	for r.WriteContinuation(1, false, bytes.Repeat([]byte{0x40, 1, 'a', 1, 'b'}, 3000)) == nil {
	}
}

// TestSplitFrames: what arrives in pieces, or all at once, or behind a graceful
// GOAWAY, is understood all the same.
func TestSplitFrames(t *testing.T) {
	for name, play := range map[string]func(r *rawAgent){
		"one byte a frame": func(r *rawAgent) {
			r.headers()
			for _, b := range append(message(notice(loginv1.Notice_KIND_INFO, "Hello")), message(allow())...) {
				r.data([]byte{b}, false)
			}
		},
		"one byte a write": func(r *rawAgent) {
			for _, b := range frames(r, append(message(notice(loginv1.Notice_KIND_INFO, "Hello")), message(allow())...)) {
				r.conn.Write([]byte{b})
			}
		},
		"all in one write, and closed": func(r *rawAgent) {
			r.conn.Write(frames(r, append(message(notice(loginv1.Notice_KIND_INFO, "Hello")), message(allow())...)))
			r.conn.Close()
		},
		// A verdict counts from its last byte on, whenever the rest arrives.
		"and then garbage": func(r *rawAgent) {
			r.conn.Write(frames(r, append(message(notice(loginv1.Notice_KIND_INFO, "Hello")), message(allow())...)))
			io.WriteString(r.conn, "garbage garbage garbage")
		},
		"padded, and empty frames": func(r *rawAgent) {
			r.headers()
			r.WriteDataPadded(1, false, message(notice(loginv1.Notice_KIND_INFO, "Hello")), make([]byte, 100))
			r.data(nil, false)
			r.WriteDataPadded(1, false, message(allow()), make([]byte, 255))
		},
		"graceful GOAWAY": func(r *rawAgent) {
			r.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
			r.headers()
			r.data(message(notice(loginv1.Notice_KIND_INFO, "Hello")), false)
			r.WriteGoAway(1, http2.ErrCodeNo, nil)
			r.data(message(allow()), false)
			r.sendHeaders(true, "grpc-status", "0")
		},
		"with a codec, unknown fields and headers": func(r *rawAgent) {
			r.sendHeaders(false, ":status", "200", "content-type", "application/grpc+proto", "x-other", strings.Repeat("y", 3000))
			r.data(message(notice(loginv1.Notice_KIND_INFO, "Hello")), false)
			r.data(framed(0, []byte{0x2a, 4, 8, 1, 0x78, 9, 0x78, 1}), false)
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				p := b.sit(t, startRaw(t, h2(play)), login{})
				p.authenticate()
				p.sees(pam.TextInfo, "Hello")
				p.ret(success)
			})
		})
	}
	t.Run("a window that opens late", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			p := b.sit(t, startRaw(t, func(c net.Conn) {
				fr := http2.NewFramer(c, c)
				fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
				io.ReadFull(c, make([]byte, len(http2.ClientPreface)))
				for acked := false; !acked; {
					f, err := fr.ReadFrame()
					if err != nil {
						return
					}
					s, ok := f.(*http2.SettingsFrame)
					acked = ok && s.IsAck()
				}
				for range 8 { // Begin comes in pieces of 10 bytes, then the rest
					fr.WriteWindowUpdate(1, 10)
				}
				fr.WriteWindowUpdate(1, 10_000)
				r := &rawAgent{conn: c, Framer: fr}
				r.enc = hpack.NewEncoder(&r.buf)
				r.headers()
				r.data(message(allow()), false)
				untilGone(c)
			}), login{})
			p.authenticate()
			p.ret(success)
		})
	})
}

// TestForeignAgent: who listens is known from the kernel, and the agent of
// another user, unless that is root, hears not a byte.
func TestForeignAgent(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be other users")
	}
	for name, c := range map[string]struct {
		agent, hook int
		trusted     bool
	}{
		"root's login, nobody's agent":     {65534, 0, false},
		"root's login, a user's agent":     {1000, 0, false},
		"a locker, root's agent":           {0, 1000, true},
		"a locker, its own user's agent":   {1000, 1000, true},
		"a locker, another user's agent":   {1001, 1000, false},
		"nobody's locker, a user's agent":  {1000, 65534, false},
		"nobody's locker, nobody's agent":  {65534, 65534, true},
		"a locker, an agent of a daemon's": {1, 1000, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, b := range []build{shipped, asan} {
				l := listenAs(t, c.agent)
				heard := make(chan int64, 1)
				go func() {
					conn, err := l.Accept()
					if err != nil {
						t.Errorf("agent: %v", err)
						heard <- -1
						return
					}
					defer conn.Close()
					if c.trusted {
						h2(func(r *rawAgent) { r.headers(); r.data(message(allow()), false) })(conn)
					}
					n, _ := io.Copy(io.Discard, conn) // an error here is a connection reset
					heard <- n
				}()
				p := b.sit(t, l.Addr().String(), login{uid: c.hook})
				p.authenticate()
				if c.trusted {
					p.ret(success)
				} else {
					p.ret(authErr)
					p.logged(fmt.Sprintf("a process of uid %d listens there, and the agent must be root", c.agent))
				}
				p.leave()
				soon(l)
				if n := <-heard; n != 0 {
					t.Errorf("the agent heard %d bytes", n)
				}
				l.Close()
			}
		})
	}
}

// listenAs listens while the thread's effective user is uid: the kernel takes
// the peer's identity from the thread that calls listen(2).
func listenAs(t *testing.T, uid int) net.Listener {
	t.Helper()
	path := filepath.Join(openDir(t), "login.sock")
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	if err := os.Chown(filepath.Dir(path), uid, -1); err != nil {
		t.Fatal(err)
	}
	go func() {
		// Never unlocked: the thread, and its user, end with the goroutine.
		runtime.LockOSThread()
		if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); e != 0 {
			done <- result{nil, e}
			return
		}
		l, err := net.Listen("unix", path)
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.l.Close() })
	return r.l
}

// busy is an agent that has no room in its backlog.
type busy struct {
	path     string
	listener *os.File
	fillers  []int // the connections that fill the backlog
}

func startBusy(t *testing.T) *busy {
	t.Helper()
	a := &busy{path: filepath.Join(openDir(t), "login.sock")}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	a.listener = os.NewFile(uintptr(fd), "listener")
	t.Cleanup(func() { a.listener.Close() })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: a.path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.makeRoom)
	for {
		c, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		a.fillers = append(a.fillers, c)
		switch err := syscall.Connect(c, &syscall.SockaddrUnix{Name: a.path}); err {
		case nil:
		case syscall.EAGAIN:
			return a
		default:
			t.Fatal(err)
		}
	}
}

func (a *busy) makeRoom() {
	for _, c := range a.fillers {
		syscall.Close(c)
	}
	a.fillers = nil
}

// serve answers the first connection that says something.
func (a *busy) serve(t *testing.T, answer func(net.Conn)) {
	l, err := net.FileListener(a.listener)
	if err != nil {
		t.Error(err)
		return
	}
	defer l.Close()
	for {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		first := make([]byte, 1)
		if n, _ := c.Read(first); n == 1 {
			answer(readAgain{c, io.MultiReader(bytes.NewReader(first), c)})
			c.Close()
			return
		}
		c.Close()
	}
}

type readAgain struct {
	net.Conn
	from io.Reader
}

func (r readAgain) Read(b []byte) (int, error) { return r.from.Read(b) }

// waitForConnect returns when the process waits in connect(2).
func waitForConnect(t *testing.T, pid int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); ; {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		if err != nil {
			t.Skipf("this kernel does not show what a process waits for: %v", err)
		}
		if strings.HasPrefix(string(text), fmt.Sprintf("%d ", syscall.SYS_CONNECT)) {
			return
		}
		select {
		case <-end:
			t.Fatalf("process %d does not wait in connect: %s", pid, text)
		case <-tick.C:
		}
	}
}

// TestFullBacklog: an agent that is there but busy is waited for, and is not
// taken for one that does not run.
func TestFullBacklog(t *testing.T) {
	t.Run("until the time is up", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			p := b.sit(t, startBusy(t).path, login{options: "timeout=1"})
			p.authenticate()
			p.ret(authErr)
			p.logged("did not answer within 1 s (no room in the agent's backlog)")
		})
	})
	t.Run("until a signal", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			p := b.sit(t, startBusy(t).path, login{options: "timeout=60"})
			p.say("block")
			p.authenticate()
			waitForConnect(t, p.cmd.Process.Pid)
			p.signal(syscall.SIGINT)
			p.ret(authErr)
			p.logged("interrupted by a signal")
		})
	})
	t.Run("until there is room", func(t *testing.T) {
		eachBuild(t, func(t *testing.T, b build) {
			a := startBusy(t)
			p := b.sit(t, a.path, login{options: "timeout=60"})
			p.authenticate()
			waitForConnect(t, p.cmd.Process.Pid)
			served := make(chan struct{})
			go func() {
				defer close(served)
				a.serve(t, h2(func(r *rawAgent) { r.headers(); r.data(message(allow()), false) }))
			}()
			a.makeRoom()
			p.ret(success)
			p.leave() // the agent stays until the program goes
			<-served
		})
	})
}

// TestStoppedAgent: a process that is there but does not run (SIGSTOP, a
// debugger, a machine in swap) costs its time, and denies.
func TestStoppedAgent(t *testing.T) {
	for _, midway := range []bool{false, true} {
		name := map[bool]string{false: "before the login", true: "in the middle of it"}[midway]
		t.Run(name, func(t *testing.T) {
			eachBuild(t, func(t *testing.T, b build) {
				socket := filepath.Join(openDir(t), "login.sock")
				cmd := exec.Command("/proc/self/exe")
				cmd.Env = append(os.Environ(), peerMode+"="+socket)
				cmd.Stderr = os.Stderr
				stdout, err := cmd.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					cmd.Process.Kill()
					cmd.Wait()
				})
				if _, err := io.ReadFull(stdout, make([]byte, len("listens\n"))); err != nil {
					t.Fatal(err)
				}
				stop := func() {
					if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
						t.Fatal(err)
					}
					var status syscall.WaitStatus
					if _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
						t.Fatalf("the agent did not stop: %v %v", status, err)
					}
				}
				if !midway {
					stop()
				}
				p := b.sit(t, socket, login{options: agentsTime})
				p.authenticate()
				if midway {
					p.sees(pam.PromptEchoOn, "Code: ")
					stop()
					p.types("123456")
				}
				p.ret(authErr)
				p.logged("did not answer within 5 s")
				p.account()
				p.ret(permDenied)
			})
		})
	}
}

// TestVerdictLeftBehind: the agent came to its verdict and is gone before the
// person answers the prompt. What it said stands.
func TestVerdictLeftBehind(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		gone := make(chan struct{})
		p := b.sit(t, startRaw(t, h2(func(r *rawAgent) {
			r.conn.Write(frames(r, append(message(prompt(1, loginv1.Prompt_ECHO_VISIBLE, "Code: ")), message(allow())...)))
			r.conn.Close()
			close(gone)
		})), login{})
		p.authenticate()
		p.sees(pam.PromptEchoOn, "Code: ")
		<-gone
		p.types("123456")
		p.ret(success)
	})
}

// TestKilledAgent: an agent that dies in the middle of a login denies it; the
// next login finds none.
func TestKilledAgent(t *testing.T) {
	eachBuild(t, func(t *testing.T, b build) {
		l := listen(t)
		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				accepted <- c
			}
			close(accepted)
		}()
		p := b.sit(t, l.Addr().String(), login{})
		p.authenticate()
		c, ok := <-accepted
		if !ok {
			t.Fatal("no login came")
		}
		l.Close()
		c.Close()
		p.ret(authErr)
		p.authenticate()
		p.ret(authinfoUnavail)
	})
}
