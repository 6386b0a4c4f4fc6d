/*
 * The platform seam over a named pipe; see platform.h, and "Named Pipes" in
 * Microsoft's documentation.
 *
 * The pipe is overlapped. A read is always under way while somebody waits, into
 * a buffer of the connection's own: a read that is taken back may have taken
 * bytes already. A write goes out of a buffer of the connection's own too, as
 * the caller's may be gone before it ends. Both held secrets, and are wiped.
 */
#include "platform.h"

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <aclapi.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	/* What moves at once in either direction. */
	CHUNK = 4096,
	/* The longest that a write which was taken back may keep us: the system
	 * ends it at once, but nobody has promised when. */
	CANCEL_MS = 2000,
	ADDRESS_MAX = 256, /* CreateNamedPipe: the entire name */
};

/* One direction. */
struct lane {
	OVERLAPPED io; /* its event is set when nothing is under way */
	bool pending;
	uint8_t buf[CHUNK];
	size_t len, taken; /* of buf: there, and handed on */
	DWORD error;       /* the end of this direction; ERROR_SUCCESS: it goes on */
};

struct hc_conn {
	HANDLE pipe;
	struct lane in, out;
};

__attribute__((format(printf, 2, 3)))
static enum hc_io fail(struct hc_why *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	return HC_IO_FAILED;
}

static enum hc_io fail_error(struct hc_why *why, const char *what, DWORD error)
{
	return fail(why, "%s: Windows error %lu", what, (unsigned long)error);
}

/* --- who listens --- */

/* Whether the pipe's owner is who this process runs as. */
static bool is_own_user(PSID owner)
{
	union {
		TOKEN_USER user;
		uint8_t room[sizeof(TOKEN_USER) + SECURITY_MAX_SID_SIZE];
	} info;
	HANDLE token;
	DWORD len;
	bool own;

	if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token))
		return false;
	own = GetTokenInformation(token, TokenUser, &info, sizeof(info), &len) &&
	      EqualSid(owner, info.user.User.Sid);
	(void)CloseHandle(token);
	return own;
}

/*
 * The kernel keeps an owner with every pipe, from its first instance on, and only
 * who may act for SYSTEM or the Administrators can make one that belongs to them.
 * A process that took the name before the agent started is found out by that; its
 * process id would prove nothing, as it may be another's by now. Who may add an
 * instance to the agent's own pipe is for the pipe's access list to say.
 */
static enum hc_io check_owner(HANDLE pipe, struct hc_why *why)
{
	PSECURITY_DESCRIPTOR descriptor = NULL;
	PSID owner = NULL;
	DWORD error;
	bool trusted;

	error = GetSecurityInfo(pipe, SE_KERNEL_OBJECT, OWNER_SECURITY_INFORMATION, &owner, NULL,
				NULL, NULL, &descriptor);
	if (error != ERROR_SUCCESS)
		return fail_error(why, "asking Windows who owns the pipe", error);
	trusted = owner != NULL && (IsWellKnownSid(owner, WinLocalSystemSid) ||
				    IsWellKnownSid(owner, WinBuiltinAdministratorsSid) ||
				    is_own_user(owner));
	(void)LocalFree(descriptor);
	if (!trusted)
		return fail(why, "the pipe belongs to somebody else, and the agent's belongs to "
				 "SYSTEM or the Administrators");
	return HC_IO_OK;
}

/* --- opening --- */

/* A pipe of this computer by its name in UTF-8; the path to a remote one is refused. */
static bool local_name(const char *address, wchar_t *name)
{
	static const char local[] = "\\\\.\\pipe\\";

	return strncmp(address, local, sizeof(local) - 1) == 0 &&
	       MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, address, -1, name, ADDRESS_MAX) > 0;
}

static HANDLE open_pipe(const wchar_t *name)
{
	/* GENERIC_WRITE would include FILE_CREATE_PIPE_INSTANCE, which a client
	 * must not have ("Named Pipe Security and Access Rights"). Whoever listens
	 * may learn who we are, and not act as us. */
	return CreateFileW(name, FILE_READ_DATA | FILE_WRITE_DATA | READ_CONTROL, 0, NULL,
			   OPEN_EXISTING,
			   FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION,
			   NULL);
}

enum hc_io hc_conn_open(const char *address, int wait_ms, struct hc_conn **conn,
			struct hc_why *why)
{
	wchar_t name[ADDRESS_MAX];
	struct hc_conn *c;
	enum hc_io io;

	*conn = NULL;
	if (!local_name(address, name))
		return fail(why, "the pipe's name must begin with \\\\.\\pipe\\ and have at most %d characters",
			    ADDRESS_MAX - 1);
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return fail(why, "opening the pipe: out of memory");

	c->pipe = open_pipe(name);
	if (c->pipe == INVALID_HANDLE_VALUE) {
		DWORD error = GetLastError();

		free(c);
		(void)fail_error(why, "opening the pipe", error);
		switch (error) {
		case ERROR_FILE_NOT_FOUND:
			return HC_IO_ABSENT;
		case ERROR_PIPE_BUSY:
			/* 0 would mean: as long as the server likes. */
			(void)WaitNamedPipeW(name, wait_ms < 1 ? 1 : (DWORD)wait_ms);
			return HC_IO_AGAIN;
		default:
			return HC_IO_FAILED;
		}
	}
	c->in.io.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
	c->out.io.hEvent = CreateEventW(NULL, TRUE, FALSE, NULL);
	if (c->in.io.hEvent == NULL || c->out.io.hEvent == NULL)
		io = fail_error(why, "making an event", GetLastError());
	else
		io = check_owner(c->pipe, why);
	if (io != HC_IO_OK) {
		hc_conn_close(c);
		return io;
	}
	*conn = c;
	return HC_IO_OK;
}

/* --- moving bytes --- */

static bool is_end(DWORD error)
{
	return error == ERROR_BROKEN_PIPE || error == ERROR_PIPE_NOT_CONNECTED ||
	       error == ERROR_NO_DATA || error == ERROR_HANDLE_EOF;
}

/* Takes notice of a transfer that ended, when one was under way and has. */
static void settle(struct hc_conn *conn, struct lane *l)
{
	DWORD n = 0;

	if (!l->pending)
		return;
	if (!GetOverlappedResult(conn->pipe, &l->io, &n, FALSE)) {
		DWORD error = GetLastError();

		if (error == ERROR_IO_INCOMPLETE)
			return;
		l->error = error;
	}
	l->pending = false;
	if (l == &conn->in)
		l->len = n;
	else if (l->error == ERROR_SUCCESS && n != l->len)
		l->error = ERROR_WRITE_FAULT;
}

/* After ReadFile or WriteFile: what came at once is found like what comes later. */
static void started(struct hc_conn *conn, struct lane *l, BOOL done)
{
	DWORD error = done ? ERROR_IO_PENDING : GetLastError();

	if (error != ERROR_IO_PENDING) {
		l->error = error;
		return;
	}
	l->pending = true;
	settle(conn, l);
}

/* Has a read under way, unless there are bytes to hand on. */
static void start_read(struct hc_conn *conn)
{
	struct lane *l = &conn->in;

	settle(conn, l);
	if (l->pending || l->taken < l->len || l->error != ERROR_SUCCESS)
		return;
	l->len = l->taken = 0;
	started(conn, l, ReadFile(conn->pipe, l->buf, sizeof(l->buf), NULL, &l->io));
}

enum hc_io hc_conn_read(struct hc_conn *conn, void *buf, size_t len, size_t *n,
			struct hc_why *why)
{
	struct lane *l = &conn->in;

	*n = 0;
	start_read(conn);
	if (l->taken < l->len) {
		*n = l->len - l->taken;
		if (*n > len)
			*n = len;
		memcpy(buf, l->buf + l->taken, *n);
		l->taken += *n;
		return HC_IO_OK;
	}
	if (is_end(l->error))
		return HC_IO_CLOSED;
	if (l->error != ERROR_SUCCESS)
		return fail_error(why, "reading from the agent", l->error);
	return HC_IO_AGAIN;
}

enum hc_io hc_conn_write(struct hc_conn *conn, const void *buf, size_t len, size_t *n,
			 struct hc_why *why)
{
	struct lane *l = &conn->out;

	*n = 0;
	settle(conn, l);
	if (l->pending)
		return HC_IO_AGAIN;
	hc_wipe(l->buf, l->len);
	l->len = 0;
	if (l->error == ERROR_SUCCESS) {
		l->len = len < sizeof(l->buf) ? len : sizeof(l->buf);
		memcpy(l->buf, buf, l->len);
		started(conn, l, WriteFile(conn->pipe, l->buf, (DWORD)l->len, NULL, &l->io));
		if (!l->pending)
			hc_wipe(l->buf, l->len);
	}
	if (is_end(l->error))
		return HC_IO_CLOSED;
	if (l->error != ERROR_SUCCESS)
		return fail_error(why, "writing to the agent", l->error);
	*n = l->len;
	return HC_IO_OK;
}

enum hc_io hc_conn_wait(struct hc_conn *conn, bool to_write, int wait_ms, struct hc_why *why)
{
	HANDLE events[2] = { conn->in.io.hEvent, conn->out.io.hEvent };

	settle(conn, &conn->out);
	start_read(conn);
	if (!conn->in.pending || (to_write && !conn->out.pending))
		return HC_IO_OK;
	/* Alertable: an APC from another of the program's threads ends the wait. */
	if (WaitForMultipleObjectsEx(conn->out.pending ? 2 : 1, events, FALSE,
				     wait_ms < 0 ? 0 : (DWORD)wait_ms, TRUE) == WAIT_FAILED)
		return fail_error(why, "waiting for the agent", GetLastError());
	return HC_IO_OK;
}

/* --- the end --- */

/*
 * Takes back what is under way; false when the system still has the buffer. The
 * end of a transfer sets its event.
 */
static bool take_back(struct hc_conn *conn, struct lane *l)
{
	settle(conn, l);
	if (!l->pending)
		return true;
	(void)CancelIoEx(conn->pipe, &l->io);
	return WaitForSingleObject(l->io.hEvent, CANCEL_MS) == WAIT_OBJECT_0;
}

void hc_conn_close(struct hc_conn *conn)
{
	bool in, out;

	if (conn == NULL)
		return;
	in = take_back(conn, &conn->in);
	out = take_back(conn, &conn->out);
	(void)CloseHandle(conn->pipe);
	hc_wipe(conn->in.buf, sizeof(conn->in.buf));
	hc_wipe(conn->out.buf, sizeof(conn->out.buf));
	/* The kernel may yet write into what it did not give back: a leak is better. */
	if (!in || !out)
		return;
	if (conn->in.io.hEvent != NULL)
		(void)CloseHandle(conn->in.io.hEvent);
	if (conn->out.io.hEvent != NULL)
		(void)CloseHandle(conn->out.io.hEvent);
	free(conn);
}

int64_t hc_now_ms(void)
{
	return (int64_t)GetTickCount64();
}

void hc_wipe(void *p, size_t n)
{
	SecureZeroMemory(p, n);
}
