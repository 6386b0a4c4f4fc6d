// What the helpdesk must find in the Windows Event Log (Application, source Sallyport).
// Never a password, a code, or a name as typed.
#pragma once

#include "com.h"

// The numbers are stable; the agent's own are below 900.
enum class LogId : DWORD {
	First = 900,
	AgentAbsent = First,
	AgentFailed = 901,
	BreakGlass = 902,
	SwitchedOff = 903,
	NotListed = 904,
	End,
};

// logEvent writes an entry in the background: a login never waits for the log. format
// is printf's. The same entry comes at most once in some seconds, but for break-glass.
void logEvent(LogId id, WORD type, const char *format, ...) __attribute__((format(printf, 3, 4)));
