package cli

import "golang.org/x/sys/windows"

// colours says whether a console knows them, and turns them on: "Console Virtual
// Terminal Sequences". (Text needs nothing: Go writes to a console in UTF-16,
// whatever its code page.)
func colours(stream any) bool {
	f, ok := stream.(descriptor)
	if !ok {
		return true
	}
	h := windows.Handle(f.Fd())
	var mode uint32
	if windows.GetConsoleMode(h, &mode) != nil {
		return false
	}
	return windows.SetConsoleMode(h, mode|windows.ENABLE_PROCESSED_OUTPUT|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
