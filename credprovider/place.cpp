#include "place.h"

#include <stdio.h>
#include <winsock2.h>
#include <wtsapi32.h>

namespace {

// Answer is what WTSQuerySessionInformation says about this process's session.
class Answer {
public:
	explicit Answer(WTS_INFO_CLASS what)
	{
		if (!WTSQuerySessionInformationW(WTS_CURRENT_SERVER_HANDLE, WTS_CURRENT_SESSION, what, &data, &size))
			data = nullptr, size = 0;
	}
	~Answer()
	{
		if (data != nullptr)
			WTSFreeMemory(data);
	}
	Answer(const Answer &) = delete;
	Answer &operator=(const Answer &) = delete;

	// as gives nullptr unless there is all of a T.
	template <class T> const T *as() const { return data != nullptr && size >= sizeof(T) ? reinterpret_cast<const T *>(data) : nullptr; }
	const wchar_t *text() const { return data != nullptr ? data : L""; }

private:
	LPWSTR data = nullptr;
	DWORD size = 0;
};

void describeClient(char *out, size_t size)
{
	Answer answer(WTSClientAddress);
	const WTS_CLIENT_ADDRESS *client = answer.as<WTS_CLIENT_ADDRESS>();
	const BYTE *a = client != nullptr ? client->Address : nullptr;

	if (a != nullptr && client->AddressFamily == AF_INET) {
		(void)snprintf(out, size, "rdp:%u.%u.%u.%u", a[2], a[3], a[4], a[5]);
	} else if (a != nullptr && client->AddressFamily == AF_INET6) {
		size_t n = static_cast<size_t>(snprintf(out, size, "rdp:"));
		for (size_t i = 0; i < 16 && n < size; i += 2)
			n += static_cast<size_t>(snprintf(out + n, size - n, "%s%x", i > 0 ? ":" : "", a[i] << 8 | a[i + 1]));
	} else {
		(void)snprintf(out, size, "rdp");
	}
}

void describeOwner(char *out, size_t size)
{
	Answer user(WTSUserName), domain(WTSDomainName);
	wchar_t name[160];

	if (user.text()[0] == 0 || _snwprintf(name, ARRAYSIZE(name), L"%s\\%s", domain.text(), user.text()) < 0)
		return;
	name[ARRAYSIZE(name) - 1] = 0;
	if (WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, name, -1, out, static_cast<int>(size), nullptr, nullptr) == 0)
		out[0] = 0;
}

} // namespace

Place here()
{
	Place p = {};
	Answer protocol(WTSClientProtocolType); // 0: the console, 2: RDP
	const USHORT *kind = protocol.as<USHORT>();

	if (!ProcessIdToSessionId(GetCurrentProcessId(), &p.session))
		p.session = 0;
	// No one of these knows every kind of session ("Detecting the Remote Desktop
	// Services environment"), so all of them must call it the console.
	p.remote = GetSystemMetrics(SM_REMOTESESSION) != 0 || (kind != nullptr && *kind != 0);
	p.console = !p.remote && kind != nullptr && GetSystemMetrics(SM_REMOTECONTROL) == 0 &&
		    p.session == WTSGetActiveConsoleSessionId();
	if (p.remote)
		describeClient(p.remoteHost, sizeof p.remoteHost);
	describeOwner(p.owner, sizeof p.owner);
	return p;
}

bool runsAsSystem()
{
	union {
		TOKEN_USER user;
		BYTE room[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
	} info;
	HANDLE token;
	DWORD size;
	bool system;

	if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token))
		return false;
	system = GetTokenInformation(token, TokenUser, &info, sizeof info, &size) && IsWellKnownSid(info.user.User.Sid, WinLocalSystemSid);
	(void)CloseHandle(token);
	return system;
}
