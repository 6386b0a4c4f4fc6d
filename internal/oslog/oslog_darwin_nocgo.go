//go:build darwin && !cgo

package oslog

import (
	"log/slog"
	"log/syslog"
)

// Log is one category of the agent's messages.
type Log struct{ w *syslog.Writer }

// New opens the log.
func New(category string) (*Log, error) {
	w, err := syslog.New(syslog.LOG_AUTHPRIV|syslog.LOG_INFO, "sallyport."+category)
	if err != nil {
		return nil, err
	}
	return &Log{w}, nil
}

// Put writes one line. It has nowhere to say that it failed.
func (l *Log) Put(level slog.Level, text string) {
	put := map[uint8]func(string) error{typeDebug: l.w.Debug, typeDefault: l.w.Notice, typeError: l.w.Err}[kind(level)]
	for _, piece := range split(text) {
		_ = put(piece)
	}
}
