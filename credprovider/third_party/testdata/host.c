/*
 * host.exe DLL probe|smash|overflow: loads the DLL and calls one of its functions. The two
 * mistakes must not be survived.
 */
#include <windows.h>
#include <stdio.h>
#include <string.h>

typedef void (*probe_function)(char *text, size_t len);
typedef void (*smash_function)(size_t len);
typedef void (*overflow_function)(const char *from, size_t len);

int wmain(int argc, wchar_t **argv)
{
	char text[256] = "";
	static char much[64];

	/* A crash is the answer; no dialogue. */
	SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX);
	if (argc != 3)
		return 2;
	HMODULE dll = LoadLibraryW(argv[1]);
	if (dll == NULL) {
		printf("not loaded: error %lu\n", GetLastError());
		return 2;
	}
	probe_function probe = (probe_function)(void *)GetProcAddress(dll, "Probe");
	smash_function smash = (smash_function)(void *)GetProcAddress(dll, "Smash");
	overflow_function overflow = (overflow_function)(void *)GetProcAddress(dll, "Overflow");
	if (wcscmp(argv[2], L"probe") == 0)
		probe(text, sizeof text);
	if (wcscmp(argv[2], L"smash") == 0)
		smash(sizeof much);
	if (wcscmp(argv[2], L"smash-fits") == 0)
		smash(16);
	if (wcscmp(argv[2], L"overflow") == 0)
		overflow(much, sizeof much);
	if (wcscmp(argv[2], L"overflow-fits") == 0)
		overflow(much, 16);
	printf("%s survived\n", text);
	fflush(stdout);
	return FreeLibrary(dll) ? 0 : 2;
}
