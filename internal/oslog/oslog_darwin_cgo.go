//go:build darwin && cgo

package oslog

/*
#include <os/log.h>
#include <stdlib.h>

static os_log_t sallyport_log_open(const char *category)
{
	return os_log_create("com.sallyport.agent", category);
}

// public: without it the log shows <private>, and the agent logs no secret.
static void sallyport_log_put(os_log_t to, unsigned char type, const char *text)
{
	os_log_with_type(to, (os_log_type_t)type, "%{public}s", text);
}
*/
import "C"

import (
	"log/slog"
	"unsafe"
)

// Log is one category of the agent's messages.
type Log struct{ handle C.os_log_t }

// New opens the log. What it opens stays as long as the process.
func New(category string) (*Log, error) {
	c := C.CString(category)
	defer C.free(unsafe.Pointer(c))
	return &Log{C.sallyport_log_open(c)}, nil
}

// Put writes one line.
func (l *Log) Put(level slog.Level, text string) {
	for _, piece := range split(text) {
		c := C.CString(piece)
		C.sallyport_log_put(l.handle, C.uchar(kind(level)), c)
		C.free(unsafe.Pointer(c))
	}
}
