//go:build cgo && (darwin || linux)

package dryload

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// entryPoint is what SecurityAgent calls first. (Apple: "Authorization Plug-ins".)
const entryPoint = "AuthorizationPluginCreate"

// Load loads the code at path with everything that it needs, at once and not when it
// is first called, and looks up the entry point. Nothing of it is called, and it stays
// loaded: code with Objective-C classes in it cannot be unloaded.
func Load(path string) error {
	runtime.LockOSThread() // dlerror is the thread's
	defer runtime.UnlockOSThread()
	file, name := C.CString(path), C.CString(entryPoint)
	defer C.free(unsafe.Pointer(file))
	defer C.free(unsafe.Pointer(name))
	code := C.dlopen(file, C.RTLD_NOW|C.RTLD_LOCAL)
	if code == nil {
		return errors.New(C.GoString(C.dlerror()))
	}
	if C.dlsym(code, name) == nil {
		return fmt.Errorf("it has no %s: %s", entryPoint, C.GoString(C.dlerror()))
	}
	return nil
}
