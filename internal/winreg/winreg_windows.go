package winreg

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// hive is the only one whose keys are read. Paths begin with its short name.
const hive = `HKLM\`

// view is the 64-bit one, whatever we were built as: "Registry Redirector".
const view = registry.WOW64_64KEY

// What a tree that is read may have at most. The keys read here are for
// administrators alone to write; the limits are against mistakes.
const (
	maxDepth  = 8
	maxKeys   = 256  // below one key
	maxValues = 4096 // of one key
	maxData   = 64 << 10
)

// Read reads the key at path, such as HKLM\Software\Policies, and what is below
// it, in the order of the names. A key that is not there is nil.
func Read(path string) (*Key, error) {
	k, err := read(registry.LOCAL_MACHINE, strings.TrimPrefix(path, hive), maxDepth, make([]byte, maxData))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", path, err)
	}
	return k, nil
}

// read uses buf for every value.
func read(parent registry.Key, path string, depth int, buf []byte) (*Key, error) {
	if depth == 0 {
		return nil, fmt.Errorf("there are more than %d keys below one another", maxDepth)
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
	case info.SubKeyCount > maxKeys || info.ValueCount > maxValues || info.MaxValueLen > maxData:
		return nil, fmt.Errorf("%s has %d keys and %d values, the longest of %d bytes; the limits are %d, %d and %d", path,
			info.SubKeyCount, info.ValueCount, info.MaxValueLen, maxKeys, maxValues, maxData)
	}
	var key Key
	names, err := k.ReadValueNames(0)
	if err != nil && !gone(err) {
		return nil, err
	}
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
	// What was deleted and written anew comes in another order, and is the same.
	slices.SortFunc(key.Values, func(a, b Value) int { return strings.Compare(a.Name, b.Name) })
	names, err = k.ReadSubKeyNames(0)
	if err != nil && !gone(err) {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		sub, err := read(k, name, depth-1, buf)
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
	// One event for each key: arming a watch clears the event that it is given.
	var events [3]windows.Handle // of the key, of the one above it, and to stop
	for i := range events {
		e, err := windows.CreateEvent(nil, 1, 0, nil)
		if err != nil {
			return err
		}
		defer windows.CloseHandle(e)
		events[i] = e
	}
	stopped := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_ = windows.SetEvent(events[2])
	})
	defer func() {
		if !unhook() {
			<-stopped // it has the handle that is closed next
		}
	}()
	for ctx.Err() == nil {
		keys, err := arm(strings.TrimPrefix(path, hive), events[0], events[1])
		if err != nil {
			return fmt.Errorf("%s cannot be watched: %w", path, err)
		}
		// Armed first: what changes while changed looks is not missed.
		changed()
		_, err = windows.WaitForMultipleObjects(events[:], false, windows.INFINITE)
		closeAll(keys)
		if err != nil {
			return fmt.Errorf("%s cannot be watched: %w", path, err)
		}
	}
	return nil
}

// arm has event set when the key at path or what is below it changes; when it is
// not there, when a key appears in the nearest one above it. The watch lasts for
// as long as the keys that it returns are open.
func arm(path string, event, above windows.Handle) ([]registry.Key, error) {
	for {
		// Closing the keys of the last watch has set them: "RegNotifyChangeKeyValue".
		if err := errors.Join(windows.ResetEvent(event), windows.ResetEvent(above)); err != nil {
			return nil, err
		}
		at := nearest(path)
		if at == "" {
			return nil, registry.ErrNotExist
		}
		filter := uint32(windows.REG_NOTIFY_CHANGE_NAME)
		if at == path {
			filter |= windows.REG_NOTIFY_CHANGE_LAST_SET
		}
		keys, err := notify(nil, at, at == path, filter, event)
		// The key's own end is what the one above it tells of.
		if p := parent(at); err == nil && p != "" {
			keys, err = notify(keys, p, false, windows.REG_NOTIFY_CHANGE_NAME, above)
		}
		if err == nil && nearest(path) == at {
			return keys, nil
		}
		// It went away, or the one below it came, before we were watching.
		closeAll(keys)
		if err != nil && !gone(err) {
			return nil, err
		}
	}
}

// notify arms one key and adds it to keys.
func notify(keys []registry.Key, path string, below bool, filter uint32, event windows.Handle) ([]registry.Key, error) {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.NOTIFY|view)
	if err != nil {
		return keys, err
	}
	// Without the flag the watch would end with the thread: goroutines move.
	return append(keys, k), windows.RegNotifyChangeKeyValue(windows.Handle(k), below, filter|windows.REG_NOTIFY_THREAD_AGNOSTIC, event, true)
}

func closeAll(keys []registry.Key) {
	for _, k := range keys {
		k.Close()
	}
}

// nearest is the key at path, or else the nearest one above it that is there.
func nearest(path string) string {
	for ; path != ""; path = parent(path) {
		k, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.NOTIFY|view)
		if err == nil {
			k.Close()
		}
		if !gone(err) { // what cannot be opened is there, and arm says why it cannot
			break
		}
	}
	return path
}

// parent is the key above the one at path; "" is the hive.
func parent(path string) string { return path[:max(0, strings.LastIndexByte(path, '\\'))] }
