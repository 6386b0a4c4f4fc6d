#include "eventlog.h"

#include <stdarg.h>
#include <stdio.h>

namespace {

enum : DWORD { pauseMs = 5000 };

struct Entry : Heap {
	LogId id;
	WORD type;
	wchar_t text[1024];
};

// Whether this one may be written now: any program can bring up CredUI, and nobody
// may flood the log through it. Each use of a break-glass account counts; it takes a
// person at the console.
bool due(LogId id)
{
	static ULONGLONG last[static_cast<DWORD>(LogId::End) - static_cast<DWORD>(LogId::First)]; // 0: never
	static Lock lock;
	ULONGLONG now = GetTickCount64();
	ULONGLONG &then = last[static_cast<DWORD>(id) - static_cast<DWORD>(LogId::First)];

	if (id == LogId::BreakGlass)
		return true;
	Hold hold(lock);
	if (then != 0 && now - then < pauseMs)
		return false;
	then = now;
	return true;
}

void CALLBACK write(PTP_CALLBACK_INSTANCE, void *arg)
{
	Entry *e = static_cast<Entry *>(arg);
	const wchar_t *strings[] = {e->text};
	HANDLE log = RegisterEventSourceW(nullptr, L"Sallyport");

	if (log != nullptr) {
		(void)ReportEventW(log, e->type, 0, static_cast<DWORD>(e->id), nullptr, 1, 0, strings, nullptr);
		(void)DeregisterEventSource(log);
	}
	delete e;
}

} // namespace

void logEvent(LogId id, WORD type, const char *format, ...)
{
	char text[1024];
	TP_CALLBACK_ENVIRON environment;
	va_list args;
	Entry *e;

	if (!due(id) || (e = new Entry) == nullptr)
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof text, format, args);
	va_end(args);
	e->id = id;
	e->type = type;
	(void)MultiByteToWideChar(CP_UTF8, 0, text, -1, e->text, ARRAYSIZE(e->text));

	InitializeThreadpoolEnvironment(&environment);
	// The DLL stays until the entry is written.
	SetThreadpoolCallbackLibrary(&environment, moduleHandle());
	if (!TrySubmitThreadpoolCallback(write, e, &environment))
		delete e;
	DestroyThreadpoolEnvironment(&environment);
}
