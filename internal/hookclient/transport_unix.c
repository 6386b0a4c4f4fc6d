/*
 * The platform seam over an AF_UNIX stream socket; see platform.h, unix(7), and for
 * macOS unix(4), getsockopt(2) and clock_gettime(3) there.
 */
#define _GNU_SOURCE               /* struct ucred, explicit_bzero */
#define __STDC_WANT_LIB_EXT1__ 1 /* macOS: memset_s */

#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#ifdef __APPLE__
#include <sys/ucred.h>
#endif
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct hc_conn {
	int fd;
};

/* --- what macOS has otherwise --- */

#ifdef __APPLE__

enum {
	/* A SIGPIPE would kill the login program: SO_NOSIGPIPE. */
	SEND_FLAGS = 0,
	REFUSED_MS = 20,
};

static void system_text(char *out, size_t size, const char *what, int error)
{
	char text[128];

	/* The one of POSIX; a number that it does not know is in the text too. */
	if (strerror_r(error, text, sizeof(text)) != 0 && text[0] == '\0')
		(void)snprintf(text, sizeof(text), "error %d", error);
	(void)snprintf(out, size, "%s: %s", what, text);
}

static int open_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	int on = 1;

	if (fd < 0)
		return -1;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on)) == 0)
		return fd;
	on = errno;
	(void)close(fd);
	errno = on;
	return -1;
}

/* False and errno 0: the kernel does not say. */
static bool peer_uid(int fd, uid_t *uid)
{
	struct xucred peer;
	socklen_t len = sizeof(peer);

	memset(&peer, 0, sizeof(peer));
	if (getsockopt(fd, SOL_LOCAL, LOCAL_PEERCRED, &peer, &len) != 0)
		return false;
	errno = 0;
	*uid = peer.cr_uid;
	return len == sizeof(peer) && peer.cr_version == XUCRED_VERSION;
}

/*
 * Whether to connect once more. Here a full backlog refuses, as does a socket that
 * nobody listens at. So a refusal is tried again until the wait is over, and only then
 * says that nobody is there: whichever it was, nobody gets in.
 */
static bool refused_for_now(int64_t until)
{
	if (hc_now_ms() >= until)
		return false;
	(void)poll(NULL, 0, REFUSED_MS);
	return true;
}

#else

enum {
	/* A SIGPIPE would kill the login program. */
	SEND_FLAGS = MSG_NOSIGNAL,
};

static void system_text(char *out, size_t size, const char *what, int error)
{
	errno = error; /* for %m */
	(void)snprintf(out, size, "%s: %m", what);
}

static int open_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* False and errno 0: the kernel does not say. */
static bool peer_uid(int fd, uid_t *uid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return false;
	errno = 0;
	*uid = peer.uid;
	return len == sizeof(peer);
}

/* Here only a socket that nobody listens at refuses. */
static bool refused_for_now(int64_t until)
{
	(void)until;
	return false;
}

#endif

/* --- opening --- */

static enum hc_io fail(struct hc_why *why, const char *what, int error)
{
	system_text(why->text, sizeof(why->text), what, error);
	return HC_IO_FAILED;
}

/*
 * Whoever called listen() on the socket is the agent, as the kernel recorded
 * it then (SO_PEERCRED, LOCAL_PEERCRED): a name in the file system proves nothing.
 */
static enum hc_io check_peer(int fd, struct hc_why *why)
{
	uid_t uid;

	if (!peer_uid(fd, &uid)) {
		if (errno != 0)
			return fail(why, "asking the kernel who listens", errno);
		(void)snprintf(why->text, sizeof(why->text), "the kernel does not say who listens");
		return HC_IO_FAILED;
	}
	if (uid != 0 && uid != geteuid()) {
		(void)snprintf(why->text, sizeof(why->text),
			       "a process of uid %lu listens there, and the agent must be root%s",
			       (unsigned long)uid,
			       geteuid() == 0 ? "" : " or the user of this process");
		return HC_IO_FAILED;
	}
	return HC_IO_OK;
}

/*
 * A stream socket whose backlog is full makes a non-blocking connect() fail at
 * once with EAGAIN and offers nothing to poll for. A blocking connect() wakes
 * as soon as there is room, and SO_SNDTIMEO bounds it (socket(7)); so connect
 * blocks for wait_ms at most and everything after it does not block.
 */
static enum hc_io connect_bounded(int fd, const struct sockaddr_un *addr, int wait_ms,
				  struct hc_why *why)
{
	struct timeval limit = {
		.tv_sec = wait_ms / 1000,
		.tv_usec = (wait_ms % 1000) * 1000,
	};
	int flags;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0)
		return fail(why, "bounding the connect", errno);
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0) {
		switch (errno) {
		case EAGAIN:
		case EINTR:
			return HC_IO_AGAIN;
		case ENOENT:
		case ECONNREFUSED:
			(void)fail(why, "connecting", errno);
			return HC_IO_ABSENT;
		default:
			return fail(why, "connecting", errno);
		}
	}
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
		return fail(why, "making the socket non-blocking", errno);
	return HC_IO_OK;
}

static enum hc_io connect_once(const struct sockaddr_un *addr, int wait_ms, struct hc_conn **conn,
			       struct hc_why *why)
{
	struct hc_conn *c = malloc(sizeof(*c));
	enum hc_io io;

	if (c == NULL)
		return fail(why, "opening the connection", ENOMEM);
	c->fd = open_socket();
	if (c->fd < 0) {
		io = fail(why, "opening a socket", errno);
		free(c);
		return io;
	}
	io = connect_bounded(c->fd, addr, wait_ms, why);
	if (io == HC_IO_OK)
		io = check_peer(c->fd, why);
	if (io != HC_IO_OK) {
		hc_conn_close(c);
		return io;
	}
	*conn = c;
	return HC_IO_OK;
}

enum hc_io hc_conn_open(const char *address, int wait_ms, struct hc_conn **conn,
			struct hc_why *why)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(address);
	int64_t until;
	enum hc_io io;

	*conn = NULL;
	if (len == 0 || len >= sizeof(addr.sun_path)) {
		(void)snprintf(why->text, sizeof(why->text),
			       "the socket's path has %zu bytes, and 1 to %zu fit", len,
			       sizeof(addr.sun_path) - 1);
		return HC_IO_FAILED;
	}
	memcpy(addr.sun_path, address, len);
	if (wait_ms < 1)
		wait_ms = 1; /* a zero SO_SNDTIMEO would mean: wait for ever */
	until = hc_now_ms() + wait_ms;
	do {
		io = connect_once(&addr, wait_ms, conn, why);
	} while (io == HC_IO_ABSENT && refused_for_now(until));
	return io;
}

/* --- moving bytes --- */

enum hc_io hc_conn_read(struct hc_conn *conn, void *buf, size_t len, size_t *n,
			struct hc_why *why)
{
	ssize_t got = recv(conn->fd, buf, len, 0);

	*n = 0;
	if (got > 0) {
		*n = (size_t)got;
		return HC_IO_OK;
	}
	if (got == 0 || errno == ECONNRESET)
		return HC_IO_CLOSED;
	if (errno == EAGAIN || errno == EINTR)
		return HC_IO_AGAIN;
	return fail(why, "reading from the agent", errno);
}

enum hc_io hc_conn_write(struct hc_conn *conn, const void *buf, size_t len, size_t *n,
			 struct hc_why *why)
{
	ssize_t put = send(conn->fd, buf, len, SEND_FLAGS);

	*n = 0;
	if (put >= 0) {
		*n = (size_t)put;
		return HC_IO_OK;
	}
	if (errno == EPIPE || errno == ECONNRESET)
		return HC_IO_CLOSED;
	if (errno == EAGAIN || errno == EINTR)
		return HC_IO_AGAIN;
	return fail(why, "writing to the agent", errno);
}

enum hc_io hc_conn_wait(struct hc_conn *conn, bool to_write, int wait_ms, struct hc_why *why)
{
	struct pollfd p = {
		.fd = conn->fd,
		.events = (short)(to_write ? POLLIN | POLLOUT : POLLIN),
	};

	if (poll(&p, 1, wait_ms) < 0 && errno != EINTR)
		return fail(why, "waiting for the agent", errno);
	if (p.revents & POLLNVAL)
		return fail(why, "waiting for the agent", EBADF);
	return HC_IO_OK;
}

void hc_conn_close(struct hc_conn *conn)
{
	if (conn == NULL)
		return;
	(void)close(conn->fd);
	free(conn);
}

int64_t hc_now_ms(void)
{
	struct timespec now;
	clockid_t clock = CLOCK_MONOTONIC;

#ifdef __APPLE__
	/* It goes on while the computer sleeps, and nobody sets it. */
	clock = CLOCK_MONOTONIC_RAW;
#endif
	if (clock_gettime(clock, &now) != 0)
		return -1;
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void hc_wipe(void *p, size_t n)
{
#ifdef __APPLE__
	(void)memset_s(p, n, 0, n);
#else
	explicit_bzero(p, n);
#endif
}
