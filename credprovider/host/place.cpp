#include "place.h"

#include <winsock2.h>
#include <wtsapi32.h>

static bool remote;
static WTS_CLIENT_ADDRESS client;
static USHORT protocol; // WTS_PROTOCOL_TYPE_CONSOLE, WTS_PROTOCOL_TYPE_RDP

void setRemote(const char *address)
{
	unsigned a = 0, b = 0, c = 0, d = 0;
	remote = sscanf(address, "%u.%u.%u.%u", &a, &b, &c, &d) == 4;
	protocol = remote ? 2 : 0;
	client = {};
	client.AddressFamily = AF_INET;
	// "The IPv4 address is located in bytes 2, 3, 4, and 5."
	client.Address[2] = BYTE(a);
	client.Address[3] = BYTE(b);
	client.Address[4] = BYTE(c);
	client.Address[5] = BYTE(d);
}

static int WINAPI metrics(int index)
{
	if (index == SM_REMOTESESSION)
		return remote;
	if (index == SM_REMOTECONTROL)
		return 0;
	return GetSystemMetrics(index);
}

static BOOL WINAPI query(HANDLE server, DWORD session, WTS_INFO_CLASS what, LPWSTR *data, DWORD *size)
{
	if (what == WTSClientProtocolType) {
		*data = reinterpret_cast<LPWSTR>(&protocol);
		*size = sizeof protocol;
		return TRUE;
	}
	if (what == WTSClientAddress) {
		if (!remote)
			return FALSE;
		*data = reinterpret_cast<LPWSTR>(&client);
		*size = sizeof client;
		return TRUE;
	}
	return WTSQuerySessionInformationW(server, session, what, data, size);
}

static void WINAPI release(void *data)
{
	if (data != &client && data != &protocol)
		WTSFreeMemory(data);
}

static const struct {
	const char *name;
	void *answer;
} answers[] = {
	{"GetSystemMetrics", reinterpret_cast<void *>(metrics)},
	{"WTSQuerySessionInformationW", reinterpret_cast<void *>(query)},
	{"WTSFreeMemory", reinterpret_cast<void *>(release)},
};

void tell(HMODULE module)
{
	auto *base = reinterpret_cast<BYTE *>(module);
	auto *dos = reinterpret_cast<IMAGE_DOS_HEADER *>(base);
	auto *nt = reinterpret_cast<IMAGE_NT_HEADERS *>(base + dos->e_lfanew);
	const IMAGE_DATA_DIRECTORY &imports = nt->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_IMPORT];
	if (!imports.VirtualAddress)
		return;
	for (auto *from = reinterpret_cast<IMAGE_IMPORT_DESCRIPTOR *>(base + imports.VirtualAddress); from->Name; from++) {
		auto *name = reinterpret_cast<IMAGE_THUNK_DATA *>(base + from->OriginalFirstThunk);
		auto *address = reinterpret_cast<IMAGE_THUNK_DATA *>(base + from->FirstThunk);
		for (; name->u1.AddressOfData; name++, address++) {
			if (IMAGE_SNAP_BY_ORDINAL(name->u1.Ordinal))
				continue;
			auto *by = reinterpret_cast<IMAGE_IMPORT_BY_NAME *>(base + name->u1.AddressOfData);
			for (const auto &a : answers) {
				DWORD before;
				if (strcmp(reinterpret_cast<const char *>(by->Name), a.name) != 0 ||
				    !VirtualProtect(&address->u1.Function, sizeof address->u1.Function, PAGE_READWRITE, &before))
					continue;
				address->u1.Function = reinterpret_cast<ULONG_PTR>(a.answer);
				VirtualProtect(&address->u1.Function, sizeof address->u1.Function, before, &before);
			}
		}
	}
}
