package sessionguard

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"sallyport/internal/identity"
)

var (
	wtsapi32              = windows.NewLazySystemDLL("wtsapi32.dll")
	procQuerySession      = wtsapi32.NewProc("WTSQuerySessionInformationW")
	procDisconnectSession = wtsapi32.NewProc("WTSDisconnectSession")
)

// wtsSessionInfoEx is WTS_INFO_CLASS.WTSSessionInfoEx, and sessionInfoEx what it
// returns: WTSINFOEXW with WTSINFOEX_LEVEL1_W (wtsapi32.h).
const wtsSessionInfoEx = 25

type sessionInfoEx struct {
	level uint32
	_     uint32
	data  struct {
		sessionID      uint32
		state          uint32 // WTS_CONNECTSTATE_CLASS; 0 is active
		flags          int32  // of the lock, see below
		winStation     [33]uint16
		user           [21]uint16
		domain         [18]uint16
		logonTime      int64 // FILETIME
		connectTime    int64
		disconnectTime int64
		lastInputTime  int64
		currentTime    int64
		_              [6]uint32
	}
}

const (
	sessionLocked         = 0  // WTS_SESSIONSTATE_LOCK
	wtsClientProtocolType = 16 // WTS_INFO_CLASS.WTSClientProtocolType: a USHORT
	consoleProtocol       = 0
)

// List returns the sessions that somebody is in, and why some cannot be read. It
// needs to be LocalSystem, as it asks for the sessions' tokens.
func List() (list []Session, unread error) {
	var first *windows.WTS_SESSION_INFO
	var n uint32
	if err := windows.WTSEnumerateSessions(0, 0, 1, &first, &n); err != nil {
		return nil, fmt.Errorf("WTSEnumerateSessions: %w", err)
	}
	defer windows.WTSFreeMemory(uintptr(unsafe.Pointer(first)))
	for _, info := range unsafe.Slice(first, n) {
		switch info.State {
		case windows.WTSActive, windows.WTSConnected, windows.WTSDisconnected:
			s, ok, err := session(info.SessionID)
			unread = errors.Join(unread, err)
			if ok {
				list = append(list, s)
			}
		} // the others are listeners, and such as are beginning or ending
	}
	return list, unread
}

// session asks about one session; ok is false when nobody is in it.
func session(id uint32) (s Session, ok bool, err error) {
	var token windows.Token
	switch err := windows.WTSQueryUserToken(id, &token); err {
	case nil:
	case windows.ERROR_NO_TOKEN, windows.ERROR_FILE_NOT_FOUND, windows.ERROR_CTX_WINSTATION_NOT_FOUND:
		return Session{}, false, nil // the login screen's, the services', or one that just ended
	default:
		return Session{}, false, fmt.Errorf("WTSQueryUserToken(%d): %w", id, err)
	}
	defer token.Close()
	user, err := token.GetTokenUser()
	if err != nil {
		return Session{}, false, fmt.Errorf("the token of session %d: %w", id, err)
	}
	sid, err := identity.SID(user.User.Sid.String())
	if err != nil {
		return Session{}, false, err
	}
	var p *sessionInfoEx
	free, err := query(id, wtsSessionInfoEx, unsafe.Pointer(&p), unsafe.Sizeof(*p))
	if err != nil {
		return Session{}, false, err
	}
	defer free()
	if p.level != 1 {
		return Session{}, false, fmt.Errorf("WTSQuerySessionInformation(%d): an answer of level %d", id, p.level)
	}
	var protocol *uint16
	freeProtocol, err := query(id, wtsClientProtocolType, unsafe.Pointer(&protocol), unsafe.Sizeof(*protocol))
	if err != nil {
		return Session{}, false, err
	}
	defer freeProtocol()
	d := &p.data
	return Session{
		ID: id, User: sid, Name: windows.UTF16ToString(d.domain[:]) + `\` + windows.UTF16ToString(d.user[:]),
		Logon: filetime(d.logonTime), Active: d.state == windows.WTSActive, Locked: d.flags == sessionLocked, Remote: *protocol != consoleProtocol,
	}, true, nil
}

// query has *p point to what Windows says of a session, at least size bytes of it,
// until free is called.
func query(id uint32, class uintptr, p unsafe.Pointer, size uintptr) (free func(), err error) {
	var got uint32
	r, _, err := procQuerySession.Call(0, uintptr(id), class, uintptr(p), uintptr(unsafe.Pointer(&got)))
	if r == 0 {
		return nil, fmt.Errorf("WTSQuerySessionInformation(%d, %d): %w", id, class, err)
	}
	free = func() { windows.WTSFreeMemory(*(*uintptr)(p)) }
	if uintptr(got) < size {
		free()
		return nil, fmt.Errorf("WTSQuerySessionInformation(%d, %d): %d bytes", id, class, got)
	}
	return free, nil
}

func filetime(t int64) time.Time {
	ft := windows.Filetime{LowDateTime: uint32(t), HighDateTime: uint32(t >> 32)}
	return time.Unix(0, ft.Nanoseconds())
}

// Disconnect takes a session's screen away; whoever wants back in logs in.
func Disconnect(id uint32) error {
	const wait = 0
	if r, _, err := procDisconnectSession.Call(0, uintptr(id), wait); r == 0 {
		return fmt.Errorf("WTSDisconnectSession(%d): %w", id, err)
	}
	return nil
}
