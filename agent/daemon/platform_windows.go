package daemon

import (
	"context"
	"log/slog"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc/eventlog"
)

// prepareRuntime: a pipe's name needs no directory.
func prepareRuntime(string) error { return nil }

// watchConfig takes policies when they changed in the registry, until ctx ends.
func (d *daemon) watchConfig(ctx context.Context) { go d.watchPolicies(ctx) }

var werSetFlags = windows.NewLazySystemDLL("kernel32.dll").NewProc("WerSetFlags")

// noDumps keeps what the agent knows out of the crash reports that Windows makes
// by itself (WerSetFlags, werapi.h: WER_FAULT_REPORTING_FLAG_NOHEAP). An
// administrator can still dump any process.
func noDumps() error {
	const noHeap = 1
	if werSetFlags.Find() != nil {
		return nil // before Windows Vista
	}
	_, _, _ = werSetFlags.Call(noHeap) // an HRESULT; a report with the heap in it is the worst that follows
	return nil
}

// EventSource is the agent's name in the Windows Event Log.
const EventSource = "Sallyport"

// openSink opens the Windows Event Log.
func openSink(string) (sink, error) {
	l, err := eventlog.Open(EventSource)
	if err != nil {
		return nil, err
	}
	return eventLog{l}, nil
}

type eventLog struct{ log *eventlog.Log }

func (eventLog) timed() bool { return true }

// put writes one line under its event's number (event.Name.ID).
func (e eventLog) put(l logLine) {
	id := l.name.ID()
	switch {
	case l.level >= slog.LevelError:
		_ = e.log.Error(id, l.text)
	case l.level >= slog.LevelWarn:
		_ = e.log.Warning(id, l.text)
	default:
		_ = e.log.Info(id, l.text)
	}
}
