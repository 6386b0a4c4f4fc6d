/* A custom action for Windows Installer: it runs a command of the program that was just installed.

   Windows Installer's own way to run a program has it in the installer's log with all its arguments, and says nothing
   of what the program says. Here the first line of CustomActionData is the command line, the rest its standard input,
   which no log and no list of processes shows; what it prints goes to the installer's log, and the last line of a
   command that failed to whoever sees the installation fail.

   "Obtaining Context Information for Deferred Execution Custom Actions", "Custom Action Return Values". */

#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <msi.h>
#include <msiquery.h>
#include <stdlib.h>
#include <string.h>

enum {
	max_data = 16 << 10,       /* characters of CustomActionData */
	max_output = 16 << 10,     /* bytes of output that are kept */
	pipe_size = 64 << 10,      /* above what is ever sent, so that writing it cannot wait for a child that does not read */
	max_time = 5 * 60 * 1000,  /* ms; the commands have shorter deadlines of their own */
};

static void say(MSIHANDLE install, INSTALLMESSAGE kind, const WCHAR *text)
{
	MSIHANDLE record = MsiCreateRecord(1);
	if (record == 0)
		return;
	if (MsiRecordSetStringW(record, 0, L"[1]") == ERROR_SUCCESS && MsiRecordSetStringW(record, 1, text) == ERROR_SUCCESS)
		MsiProcessMessage(install, kind, record);
	MsiCloseHandle(record);
}

/* log_output shows UTF-8 line by line, but for the last line that is not empty: it returns that, and the caller frees it. */
static WCHAR *log_output(MSIHANDLE install, char *text)
{
	WCHAR *last = NULL;
	for (char *line = text, *next; line != NULL && *line != 0; line = next) {
		next = strpbrk(line, "\r\n");
		if (next != NULL)
			*next++ = 0;
		int n = MultiByteToWideChar(CP_UTF8, 0, line, -1, NULL, 0);
		WCHAR *wide = n > 1 ? calloc((size_t)n, sizeof *wide) : NULL;
		if (wide == NULL)
			continue;
		MultiByteToWideChar(CP_UTF8, 0, line, -1, wide, n);
		if (last != NULL)
			say(install, INSTALLMESSAGE_INFO, last);
		free(last);
		last = wide;
	}
	return last;
}

struct output {
	HANDLE pipe;
	size_t length;
	char text[max_output + 1];
};

/* collect reads until the pipe's end: what a child cannot write would stop it. */
static DWORD WINAPI collect(void *argument)
{
	struct output *o = argument;
	char part[1024];
	DWORD n;
	while (ReadFile(o->pipe, part, sizeof part, &n, NULL) && n > 0) {
		size_t room = max_output - o->length;
		size_t take = n < room ? n : room;
		memcpy(o->text + o->length, part, take);
		o->length += take;
	}
	o->text[o->length] = 0;
	return 0;
}

static void close_handle(HANDLE *h)
{
	if (*h != NULL)
		CloseHandle(*h);
	*h = NULL;
}

/* run runs a command line with this standard input and returns its exit status; (DWORD)-1 and an error in *problem when
   it could not be run or did not end. */
static DWORD run(WCHAR *command, const char *input, DWORD length, struct output *output, const WCHAR **problem)
{
	SECURITY_ATTRIBUTES inherit = {.nLength = sizeof inherit, .bInheritHandle = TRUE};
	HANDLE in_read = NULL, in_write = NULL, out_read = NULL, out_write = NULL, reader = NULL;
	PROCESS_INFORMATION process = {0};
	DWORD status = (DWORD)-1, written = 0;

	*problem = L"sallyport: there are no pipes to run the program with";
	if (!CreatePipe(&in_read, &in_write, &inherit, pipe_size) || !CreatePipe(&out_read, &out_write, &inherit, pipe_size) ||
	    !SetHandleInformation(in_write, HANDLE_FLAG_INHERIT, 0) || !SetHandleInformation(out_read, HANDLE_FLAG_INHERIT, 0))
		goto out;
	STARTUPINFOW startup = {.cb = sizeof startup, .dwFlags = STARTF_USESTDHANDLES, .hStdInput = in_read, .hStdOutput = out_write, .hStdError = out_write};
	*problem = L"sallyport: the program that was installed cannot be run";
	if (!CreateProcessW(NULL, command, NULL, NULL, TRUE, CREATE_NO_WINDOW, NULL, NULL, &startup, &process))
		goto out;
	close_handle(&in_read);
	close_handle(&out_write);
	output->pipe = out_read;
	*problem = L"sallyport: the program's output cannot be read";
	reader = CreateThread(NULL, 0, collect, output, 0, NULL);
	if (reader == NULL) {
		TerminateProcess(process.hProcess, 1);
		goto out;
	}
	*problem = L"sallyport: the program does not take what it is told";
	BOOL told = length == 0 || (WriteFile(in_write, input, length, &written, NULL) && written == length);
	close_handle(&in_write);
	if (WaitForSingleObject(process.hProcess, max_time) != WAIT_OBJECT_0) {
		*problem = L"sallyport: the program did not end within five minutes";
		TerminateProcess(process.hProcess, 1);
		WaitForSingleObject(process.hProcess, INFINITE);
		told = FALSE;
	}
	/* Nothing of ours is inherited by what the program leaves running. */
	WaitForSingleObject(reader, INFINITE);
	if (told)
		GetExitCodeProcess(process.hProcess, &status);
out:
	close_handle(&in_read);
	close_handle(&in_write);
	close_handle(&out_write);
	close_handle(&reader);
	close_handle(&out_read);
	close_handle(&process.hThread);
	close_handle(&process.hProcess);
	return status;
}

/* Forget is the commit action: it takes away what setup/windows.go keeps for a rollback. The program may be gone by now. */
__declspec(dllexport) UINT WINAPI Forget(MSIHANDLE install)
{
	(void)install;
	/* A key with other keys in it is not deleted: RegDeleteKeyW fails. */
	RegDeleteTreeW(HKEY_LOCAL_MACHINE, L"SOFTWARE\\Sallyport\\Setup");
	HKEY ours;
	DWORD values = 1;
	if (RegOpenKeyExW(HKEY_LOCAL_MACHINE, L"SOFTWARE\\Sallyport", 0, KEY_READ, &ours) == ERROR_SUCCESS) {
		LSTATUS asked = RegQueryInfoKeyW(ours, NULL, NULL, NULL, NULL, NULL, NULL, &values, NULL, NULL, NULL, NULL);
		RegCloseKey(ours);
		if (asked == ERROR_SUCCESS && values == 0)
			RegDeleteKeyW(HKEY_LOCAL_MACHINE, L"SOFTWARE\\Sallyport");
	}
	return ERROR_SUCCESS;
}

/* Run is the entry point of the others. */
__declspec(dllexport) UINT WINAPI Run(MSIHANDLE install)
{
	static const WCHAR name[] = L"CustomActionData";
	UINT result = ERROR_INSTALL_FAILURE;
	WCHAR none[1] = L"";
	DWORD length = 0;
	WCHAR *data = NULL, *last = NULL;
	char *input = NULL;
	int bytes = 0;
	struct output *output = calloc(1, sizeof *output);

	UINT got = MsiGetPropertyW(install, name, none, &length);
	if (output == NULL || got != ERROR_MORE_DATA || length == 0 || length > max_data)
		goto out;
	length++;
	data = calloc(length, sizeof *data);
	if (data == NULL || MsiGetPropertyW(install, name, data, &length) != ERROR_SUCCESS)
		goto out;
	WCHAR *rest = wcschr(data, L'\n');
	if (rest != NULL) {
		*rest++ = 0;
		bytes = WideCharToMultiByte(CP_UTF8, 0, rest, -1, NULL, 0, NULL, NULL);
		input = bytes > 0 ? calloc((size_t)bytes, 1) : NULL;
		if (input == NULL || WideCharToMultiByte(CP_UTF8, 0, rest, -1, input, bytes, NULL, NULL) != bytes)
			goto out;
	}
	const WCHAR *problem = NULL;
	DWORD status = run(data, input, bytes > 0 ? (DWORD)bytes - 1 : 0, output, &problem);
	last = log_output(install, output->text);
	if (last != NULL)
		say(install, status == 0 ? INSTALLMESSAGE_INFO : INSTALLMESSAGE_ERROR, last);
	if (status == 0)
		result = ERROR_SUCCESS;
	else if (status == (DWORD)-1)
		say(install, INSTALLMESSAGE_ERROR, problem);
	else if (last == NULL)
		say(install, INSTALLMESSAGE_ERROR, L"sallyport: the program failed and did not say why");
out:
	if (data != NULL)
		SecureZeroMemory(data, length * sizeof *data);
	if (input != NULL)
		SecureZeroMemory(input, (size_t)bytes);
	free(data);
	free(input);
	free(last);
	free(output);
	return result;
}
