/*
 * The platform seam over an AF_UNIX stream socket; see platform.h, unix(7).
 */
#define _GNU_SOURCE /* struct ucred, explicit_bzero */

#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct hc_conn {
	int fd;
};

static enum hc_io fail(struct hc_why *why, const char *what, int error)
{
	errno = error; /* for %m */
	(void)snprintf(why->text, sizeof(why->text), "%s: %m", what);
	return HC_IO_FAILED;
}

/*
 * Whoever called listen() on the socket is the agent, as the kernel recorded
 * it then (unix(7), SO_PEERCRED): a name in the file system proves nothing.
 */
static enum hc_io check_peer(int fd, struct hc_why *why)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return fail(why, "asking the kernel who listens", errno);
	if (len != sizeof(peer)) {
		(void)snprintf(why->text, sizeof(why->text), "the kernel does not say who listens");
		return HC_IO_FAILED;
	}
	if (peer.uid != 0 && peer.uid != geteuid()) {
		(void)snprintf(why->text, sizeof(why->text),
			       "a process of uid %lu listens there, and the agent must be root%s",
			       (unsigned long)peer.uid,
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

enum hc_io hc_conn_open(const char *address, int wait_ms, struct hc_conn **conn,
			struct hc_why *why)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(address);
	struct hc_conn *c;
	enum hc_io io;

	*conn = NULL;
	if (len == 0 || len >= sizeof(addr.sun_path)) {
		(void)snprintf(why->text, sizeof(why->text),
			       "the socket's path has %zu bytes, and 1 to %zu fit", len,
			       sizeof(addr.sun_path) - 1);
		return HC_IO_FAILED;
	}
	memcpy(addr.sun_path, address, len);

	c = malloc(sizeof(*c));
	if (c == NULL)
		return fail(why, "opening the connection", ENOMEM);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		io = fail(why, "opening a socket", errno);
		free(c);
		return io;
	}
	/* A zero SO_SNDTIMEO would mean: wait for ever. */
	io = connect_bounded(c->fd, &addr, wait_ms < 1 ? 1 : wait_ms, why);
	if (io == HC_IO_OK)
		io = check_peer(c->fd, why);
	if (io != HC_IO_OK) {
		hc_conn_close(c);
		return io;
	}
	*conn = c;
	return HC_IO_OK;
}

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
	/* A SIGPIPE would kill the login program. */
	ssize_t put = send(conn->fd, buf, len, MSG_NOSIGNAL);

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

	if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		return -1;
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void hc_wipe(void *p, size_t n)
{
	explicit_bzero(p, n);
}
