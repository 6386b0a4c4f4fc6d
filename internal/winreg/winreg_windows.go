package winreg

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// hive is the only one whose keys are read. Paths begin with its short name.
const hive = `HKLM\`

// view is the 64-bit one, whatever we were built as: "Registry Redirector".
const view = registry.WOW64_64KEY

// Read reads the key at path, such as HKLM\Software\Policies, and what is below
// it. A key that is not there is nil.
func Read(path string) (*Key, error) {
	k, err := read(registry.LOCAL_MACHINE, strings.TrimPrefix(path, hive), MaxDepth)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	return k, nil
}

func read(parent registry.Key, path string, depth int) (*Key, error) {
	if depth == 0 {
		return nil, fmt.Errorf("there are more than %d keys below one another", MaxDepth)
	}
	k, err := registry.OpenKey(parent, path, registry.QUERY_VALUE|registry.ENUMERATE_SUB_KEYS|view)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer k.Close()
	info, err := k.Stat()
	switch {
	case gone(err):
		return nil, nil
	case err != nil:
		return nil, err
	case info.SubKeyCount > MaxKeys || info.ValueCount > MaxValues || info.MaxValueLen > MaxData:
		return nil, fmt.Errorf("%s has %d keys and %d values, the longest of %d bytes; the limits are %d, %d and %d", path,
			info.SubKeyCount, info.ValueCount, info.MaxValueLen, MaxKeys, MaxValues, MaxData)
	}
	var key Key
	names, err := k.ReadValueNames(0)
	if err != nil && !gone(err) {
		return nil, err
	}
	buf := make([]byte, MaxData)
	for _, name := range names {
		n, kind, err := k.GetValue(name, buf)
		if gone(err) { // since it was listed
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, name, err)
		}
		key.Values = append(key.Values, Value{Name: name, Type: kind, Data: append([]byte(nil), buf[:n]...)})
	}
	names, err = k.ReadSubKeyNames(0)
	if err != nil && !gone(err) {
		return nil, err
	}
	for _, name := range names {
		sub, err := read(k, name, depth-1)
		if err != nil {
			return nil, err
		}
		if sub != nil {
			key.Keys = append(key.Keys, Subkey{name, *sub})
		}
	}
	return &key, nil
}

func gone(err error) bool {
	return errors.Is(err, registry.ErrNotExist) || errors.Is(err, windows.ERROR_KEY_DELETED)
}

// Watch calls changed when something in the key at path or below it may have
// changed, and once at the beginning, until ctx ends. The key need not be there
// yet, and may be taken away and come again.
func Watch(ctx context.Context, path string, changed func()) error {
	event, err := windows.CreateEvent(nil, 0, 0, nil) // resets itself
	if err != nil {
		return err
	}
	defer windows.CloseHandle(event)
	stop, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(stop)
	stopped := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_ = windows.SetEvent(stop)
	})
	defer func() {
		if !unhook() {
			<-stopped // it has the handle that is closed next
		}
	}()
	for ctx.Err() == nil {
		k, err := arm(strings.TrimPrefix(path, hive), event)
		if err != nil {
			return fmt.Errorf("%s cannot be watched: %w", path, err)
		}
		// Armed first: what changes while changed looks is not missed.
		changed()
		_, err = windows.WaitForMultipleObjects([]windows.Handle{event, stop}, false, windows.INFINITE)
		k.Close() // this signals the event, which says nothing new
		if err != nil {
			return fmt.Errorf("%s cannot be watched: %w", path, err)
		}
		_ = windows.ResetEvent(event)
	}
	return nil
}

// arm has event set when the key at path or below it changes; when it is not
// there, when a key appears in the nearest one above it. The watch lasts for as
// long as the key that it returns is open.
func arm(path string, event windows.Handle) (registry.Key, error) {
	for at := path; ; {
		k, err := registry.OpenKey(registry.LOCAL_MACHINE, at, registry.NOTIFY|view)
		if gone(err) {
			cut := strings.LastIndexByte(at, '\\')
			if cut < 0 {
				return 0, err
			}
			at = at[:cut]
			continue
		}
		if err != nil {
			return 0, err
		}
		// Without the flag the watch would end with the thread: goroutines move.
		filter := uint32(windows.REG_NOTIFY_CHANGE_NAME | windows.REG_NOTIFY_THREAD_AGNOSTIC)
		if at == path {
			filter |= windows.REG_NOTIFY_CHANGE_LAST_SET
		}
		err = windows.RegNotifyChangeKeyValue(windows.Handle(k), at == path, filter, event, true)
		if err == nil && (at == path || !exists(path[:next(path, at)])) {
			return k, nil
		}
		k.Close()
		if err != nil && !gone(err) {
			return 0, err
		}
		// It went away, or the one below it came, before we were watching.
		_ = windows.ResetEvent(event)
		at = path
	}
}

// next is where the key below at ends in path.
func next(path, at string) int {
	rest := path[len(at)+1:]
	if i := strings.IndexByte(rest, '\\'); i >= 0 {
		return len(at) + 1 + i
	}
	return len(path)
}

func exists(path string) bool {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.NOTIFY|view)
	if err != nil {
		return false
	}
	k.Close()
	return true
}
