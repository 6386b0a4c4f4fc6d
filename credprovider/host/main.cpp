// logonui-host stands in for LogonUI and CredUI: it finds the credential providers
// and filters in the registry, as Windows does, and takes them through logins. It is
// driven by lines on stdin and answers each with a line of JSON; tests are its users.
// Words are separated by a space and may hold %XX for any byte of their UTF-8.
//
//	scenario logon|unlock|change|credui|plap [FLAGS]
//	user SID NAME [DISPLAY]         somebody on the screen; before show
//	other local|connected|none      whether there is an "Other user"
//	remote CLSID HEX                an RDP client's credential; before show
//	input HEX [PACKAGE]             what CredUI's caller gave; before show
//	from ADDRESS                    the session is an RDP client's; before scenario
//	show, tiles                     make the tiles; say them again
//	await MS                        until a provider says that they have changed
//	refresh [new-first] [silently]  make them again
//	select N, deselect              a tile
//	type FIELD TEXT [anyway]        key by key; anyway: also where nobody could
//	submit [worker | unconnected] [cancel-on TEXT] [cancel-once FILE]
//	                                Connect, here or on a thread of its own or not at
//	                                all, and GetSerialization
//	result NTSTATUS [SUBSTATUS]     what LSA said
//	disconnect
//	close [providers-first]         let go of everything
//	scan HEX, figures               search this process's memory; count what it holds
//	quit
//
// While submit waits, each message of the provider comes as {"shown": TEXT}. An
// answer has "breaches" when a provider broke the contract of its interfaces.
#include "memory.h"
#include "place.h"
#include "session.h"

#include <cstdarg>
#include <cstdio>

static std::vector<std::string> breaches;

void breach(const char *format, ...)
{
	char text[512];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	breaches.push_back(text);
}

void emit(const std::string &json)
{
	std::string line = json + "\n";
	DWORD written;
	if (!WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), line.data(), DWORD(line.size()), &written, nullptr))
		ExitProcess(1); // nobody reads: the test is over
}

std::string utf8(const wchar_t *wide)
{
	int n = WideCharToMultiByte(CP_UTF8, 0, wide, -1, nullptr, 0, nullptr, nullptr);
	std::string out(n > 0 ? n : 1, '\0');
	WideCharToMultiByte(CP_UTF8, 0, wide, -1, &out[0], n, nullptr, nullptr);
	out.pop_back();
	return out;
}

std::string guidText(REFGUID id)
{
	wchar_t text[64] = L"";
	StringFromGUID2(id, text, ARRAYSIZE(text));
	return utf8(text);
}

std::string resultText(HRESULT hr)
{
	char text[16];
	snprintf(text, sizeof text, "0x%08lx", static_cast<unsigned long>(hr));
	return text;
}

// What the host allocates may be part of a secret. It is wiped when it is freed, so
// that what a scan finds is the provider's.
void operator delete(void *p) noexcept
{
	if (p)
		SecureZeroMemory(p, _msize(p));
	free(p);
}
void operator delete(void *p, size_t) noexcept { operator delete(p); }

// What is typed is nowhere but in these two, and they are wiped after each command.
static char line[1 << 18];
static wchar_t wide[1 << 16];

// readLine reads one line; false at the end. The test waits for each answer, so
// nothing stands behind the newline.
static bool readLine()
{
	HANDLE in = GetStdHandle(STD_INPUT_HANDLE);
	DWORD got;
	for (size_t n = 0; n < sizeof line && ReadFile(in, line + n, DWORD(sizeof line - n), &got, nullptr) && got; n += got) {
		if (line[n + got - 1] == '\n') {
			line[n + got - 1] = 0;
			return true;
		}
	}
	return false; // nobody asks any more, or the line is too long
}

static int hexDigit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// word returns the next word of the line, decoded in place; "" at the end.
static char *word(char *&rest)
{
	char *start = rest, *to = rest;
	for (; *rest && *rest != ' '; rest++) {
		if (*rest == '%' && hexDigit(rest[1]) >= 0 && hexDigit(rest[2]) >= 0) {
			*to++ = char(hexDigit(rest[1]) << 4 | hexDigit(rest[2]));
			rest += 2;
		} else {
			*to++ = *rest;
		}
	}
	if (*rest)
		rest++;
	*to = 0;
	return start;
}

// widen makes UTF-16 of UTF-8, in the one buffer that is wiped.
static wchar_t *widen(const char *text)
{
	if (!MultiByteToWideChar(CP_UTF8, 0, text, -1, wide, ARRAYSIZE(wide)))
		wide[0] = 0;
	return wide;
}

// bytes decodes hex in place and returns how many there are.
static DWORD bytes(char *hex)
{
	DWORD n = 0;
	for (; hex[2 * n] && hex[2 * n + 1]; n++)
		hex[n] = char(hexDigit(hex[2 * n]) << 4 | hexDigit(hex[2 * n + 1]));
	return n;
}

static unsigned long number(const char *text) { return strtoul(text, nullptr, 0); }

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

static CREDENTIAL_PROVIDER_USAGE_SCENARIO scenario(const char *name)
{
	static const char *const names[] = {"", "logon", "unlock", "change", "credui", "plap"};
	for (int i = 1; i < 6; i++)
		if (is(name, names[i]))
			return CREDENTIAL_PROVIDER_USAGE_SCENARIO(i);
	return CPUS_INVALID;
}

static void submit(Session &session, char *rest, Json &answer)
{
	Wait wait;
	bool worker = false, unconnected = false;
	while (*rest) {
		char *option = word(rest);
		if (is(option, "worker"))
			worker = true;
		else if (is(option, "unconnected"))
			unconnected = true;
		else if (is(option, "cancel-on"))
			wait.cancelOn = widen(word(rest));
		else if (is(option, "cancel-once"))
			wait.cancelOnce = widen(word(rest));
		else
			return answer.text("error", "submit: no such option");
	}
	session.submit(unconnected ? nullptr : &wait, worker, answer);
	wait.finish();
}

// carryOut does one command; false when there is no such.
static bool carryOut(Session &session, char *rest, Json &answer)
{
	char *command = word(rest);
	if (is(command, "scenario")) {
		CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus = scenario(word(rest));
		session.scenario(cpus, number(word(rest)), answer);
	} else if (is(command, "user")) {
		std::wstring sid = widen(word(rest)), name = widen(word(rest)), display = widen(word(rest));
		session.user(sid, name, display);
	} else if (is(command, "other")) {
		char *kind = word(rest);
		session.otherUser(is(kind, "local") ? CPAO_EMPTY_LOCAL : is(kind, "connected") ? CPAO_EMPTY_CONNECTED : CPAO_NONE);
	} else if (is(command, "remote")) {
		CLSID from = {};
		if (FAILED(CLSIDFromString(widen(word(rest)), &from)))
			return false;
		char *blob = word(rest);
		DWORD n = bytes(blob);
		session.remote(from, reinterpret_cast<BYTE *>(blob), n, answer);
	} else if (is(command, "input")) {
		char *blob = word(rest);
		DWORD n = bytes(blob);
		session.input(reinterpret_cast<BYTE *>(blob), n, number(word(rest)), answer);
	} else if (is(command, "show")) {
		session.show(answer);
	} else if (is(command, "refresh")) {
		bool newFirst = false, deselects = true;
		while (*rest) {
			char *option = word(rest);
			newFirst = newFirst || is(option, "new-first");
			deselects = deselects && !is(option, "silently");
		}
		session.refresh(newFirst, deselects, answer);
	} else if (is(command, "await")) {
		session.await(number(word(rest)), answer);
	} else if (is(command, "from")) {
		setRemote(word(rest));
	} else if (is(command, "tiles")) {
		session.tiles(answer);
	} else if (is(command, "select")) {
		session.select(number(word(rest)), answer);
	} else if (is(command, "deselect")) {
		session.deselect(answer);
	} else if (is(command, "type")) {
		DWORD field = number(word(rest));
		wchar_t *text = widen(word(rest));
		session.type(field, text, is(word(rest), "anyway"), answer);
	} else if (is(command, "submit")) {
		submit(session, rest, answer);
	} else if (is(command, "result")) {
		NTSTATUS status = NTSTATUS(number(word(rest)));
		session.result(status, NTSTATUS(number(word(rest))), answer);
	} else if (is(command, "disconnect")) {
		session.disconnect(answer);
	} else if (is(command, "close")) {
		session.close(is(word(rest), "providers-first"), answer);
	} else if (is(command, "scan")) {
		scan(word(rest), answer);
	} else if (is(command, "figures")) {
		figures(answer);
	} else {
		return false;
	}
	return true;
}

// crashed says where, in place of the answer: the test must not wait for a debugger.
static LONG WINAPI crashed(EXCEPTION_POINTERS *e)
{
	wchar_t path[MAX_PATH] = L"?";
	HMODULE module = nullptr;
	GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
			   static_cast<LPCWSTR>(e->ExceptionRecord->ExceptionAddress), &module);
	GetModuleFileNameW(module, path, MAX_PATH);
	char text[64];
	snprintf(text, sizeof text, "crashed: %#lx at %#tx of ", e->ExceptionRecord->ExceptionCode,
		 static_cast<char *>(e->ExceptionRecord->ExceptionAddress) - reinterpret_cast<char *>(module));
	Json answer;
	answer.text("error", text + utf8(path));
	emit(answer.done());
	TerminateProcess(GetCurrentProcess(), 3);
	return EXCEPTION_EXECUTE_HANDLER;
}

int main()
{
	SetUnhandledExceptionFilter(crashed);
	if (!startBeats() || FAILED(CoInitializeEx(nullptr, COINIT_APARTMENTTHREADED)))
		return 1;
	{
		Session session;
		while (readLine() && !is(line, "quit")) {
			Json answer;
			if (!carryOut(session, line, answer))
				answer.text("error", "no such command");
			SecureZeroMemory(line, sizeof line);
			SecureZeroMemory(wide, sizeof wide);
			if (!breaches.empty())
				answer.texts("breaches", breaches);
			breaches.clear();
			emit(answer.done());
		}
	}
	CoUninitialize();
	return 0;
}
