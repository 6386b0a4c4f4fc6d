#include "memory.h"

static const BYTE mask = 0xa5;

struct Needle {
	BYTE masked[512];
	size_t size = 0;

	void add(unsigned c) { masked[size++] = BYTE(c) ^ mask; }
	bool at(const BYTE *p) const
	{
		for (size_t i = 0; i < size; i++)
			if ((p[i] ^ mask) != masked[i])
				return false;
		return true;
	}
};

static unsigned hexDigit(char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; }

static void report(Json &answer, const BYTE *at, const MEMORY_BASIC_INFORMATION &region, const char *encoding, size_t size)
{
	// What stands around it says whose it is.
	const BYTE *base = static_cast<const BYTE *>(region.BaseAddress), *end = base + region.RegionSize;
	const BYTE *from = at - base > 48 ? at - 48 : base, *to = end - at - size > 48 ? at + size + 48 : end;
	std::string around;
	for (const BYTE *p = from; p < to; p++)
		around += p >= at && p < at + size ? '*' : *p >= 0x20 && *p < 0x7f ? char(*p) : *p ? '?' : '.';
	char place[64];
	snprintf(place, sizeof place, "%p in the %s region at %p", at,
		 region.Type == MEM_IMAGE ? "image" : region.Type == MEM_MAPPED ? "mapped" : "private", region.AllocationBase);
	answer.open();
	answer.text("at", place);
	answer.text("as", encoding);
	answer.text("around", around);
	answer.close();
}

// registersAt is where Wine keeps what its signal handlers save of the processor's
// registers, which may be whatever a program has just copied: behind the threads' own
// blocks. Windows' kernel keeps them to itself: nullptr.
static const void *registersAt()
{
	MEMORY_BASIC_INFORMATION region;
	if (!GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "wine_get_version") || !VirtualQuery(NtCurrentTeb(), &region, sizeof region))
		return nullptr;
	return region.AllocationBase;
}

static DWORD WINAPI nothing(void *) { return 0; }

// buryThreads has Wine free the stack of the thread that ended last: it does so when
// the next one ends.
static void buryThreads()
{
	HANDLE thread = CreateThread(nullptr, 0, nothing, nullptr, 0, nullptr);
	if (!thread)
		return;
	WaitForSingleObject(thread, INFINITE);
	CloseHandle(thread);
}

void scan(const char *hex, Json &answer)
{
	Needle narrow, wide;
	for (; hex[0] && hex[1] && wide.size + 2 <= sizeof wide.masked; hex += 2) {
		unsigned c = hexDigit(hex[0]) << 4 | hexDigit(hex[1]);
		narrow.add(c);
		wide.add(c); // canaries are ASCII
		wide.add(0);
	}
	buryThreads();
	const void *registers = registersAt();
	long long searched = 0;
	answer.array("found");
	MEMORY_BASIC_INFORMATION region;
	for (BYTE *p = nullptr; VirtualQuery(p, &region, sizeof region) == sizeof region; p = static_cast<BYTE *>(region.BaseAddress) + region.RegionSize) {
		const DWORD readable = PAGE_READONLY | PAGE_READWRITE | PAGE_WRITECOPY | PAGE_EXECUTE_READ | PAGE_EXECUTE_READWRITE | PAGE_EXECUTE_WRITECOPY;
		if (region.State != MEM_COMMIT || !(region.Protect & readable) || (region.Protect & PAGE_GUARD) || region.AllocationBase == registers)
			continue;
		const BYTE *base = static_cast<const BYTE *>(region.BaseAddress), *end = base + region.RegionSize;
		searched += region.RegionSize;
		for (const BYTE *at = base; narrow.size && (at = static_cast<const BYTE *>(memchr(at, narrow.masked[0] ^ mask, end - at))); at++) {
			if (size_t(end - at) >= narrow.size && narrow.at(at))
				report(answer, at, region, "UTF-8", narrow.size);
			if (size_t(end - at) >= wide.size && wide.at(at))
				report(answer, at, region, "UTF-16", wide.size);
		}
	}
	answer.end();
	answer.number("searched", searched);
}

// handleCount counts this process's handles in the system's own list, as Wine does
// not know GetProcessHandleCount. The structure is SYSTEM_HANDLE_INFORMATION_EX.
static long long handleCount()
{
	struct Entry {
		void *object;
		ULONG_PTR process, handle;
		ULONG access;
		USHORT trace, type;
		ULONG attributes, reserved;
	};
	struct List {
		ULONG_PTR count, reserved;
		Entry entries[1];
	};
	typedef LONG(WINAPI * Query)(ULONG, void *, ULONG, ULONG *);
	const ULONG extendedHandles = 64; // SystemExtendedHandleInformation
	const LONG tooShort = LONG(0xc0000004);

	auto query = reinterpret_cast<Query>(reinterpret_cast<void *>(GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "NtQuerySystemInformation")));
	std::vector<BYTE> buffer(1 << 16);
	LONG status;
	while ((status = query(extendedHandles, buffer.data(), ULONG(buffer.size()), nullptr)) == tooShort)
		buffer.resize(buffer.size() * 2);
	if (status < 0)
		return -1;
	auto *list = reinterpret_cast<List *>(buffer.data());
	long long n = 0;
	for (ULONG_PTR i = 0; i < list->count; i++)
		n += list->entries[i].process == GetCurrentProcessId();
	return n;
}

void figures(Json &answer)
{
	answer.number("handles", handleCount());
	answer.number("gdi", GetGuiResources(GetCurrentProcess(), GR_GDIOBJECTS));
	answer.number("user", GetGuiResources(GetCurrentProcess(), GR_USEROBJECTS));

	long long committed = 0;
	MEMORY_BASIC_INFORMATION region;
	for (BYTE *p = nullptr; VirtualQuery(p, &region, sizeof region) == sizeof region; p = static_cast<BYTE *>(region.BaseAddress) + region.RegionSize)
		if (region.State == MEM_COMMIT && region.Type == MEM_PRIVATE)
			committed += region.RegionSize;
	answer.number("committed", committed);

	// What is allocated now, which is less than what is committed.
	long long blocks = 0, bytes = 0;
	HANDLE heaps[64];
	DWORD n = GetProcessHeaps(64, heaps);
	for (DWORD i = 0; i < n && i < 64; i++) {
		HeapLock(heaps[i]);
		PROCESS_HEAP_ENTRY entry = {};
		while (HeapWalk(heaps[i], &entry)) {
			if (entry.wFlags & PROCESS_HEAP_ENTRY_BUSY) {
				blocks++;
				bytes += entry.cbData;
			}
		}
		HeapUnlock(heaps[i]);
	}
	answer.number("heapBlocks", blocks);
	answer.number("heapBytes", bytes);
}
