#define _DEFAULT_SOURCE /* explicit_bzero */

#include "transport_memory.h"

#include <stdlib.h>
#include <string.h>

#include "platform.h"

struct memory_agent memory_agent;

/* Time passes only while somebody waits. */
static int64_t now;

struct hc_conn {
	size_t read;
};

enum hc_io hc_conn_open(const char *address, int wait_ms, struct hc_conn **conn,
			struct hc_why *why)
{
	(void)address;
	(void)wait_ms;
	*conn = calloc(1, sizeof(**conn));
	if (*conn != NULL)
		return HC_IO_OK;
	strcpy(why->text, "out of memory");
	return HC_IO_FAILED;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

enum hc_io hc_conn_read(struct hc_conn *conn, void *buf, size_t len, size_t *n,
			struct hc_why *why)
{
	(void)why;
	*n = least(least(len, memory_agent.chunk), memory_agent.len - conn->read);
	if (*n == 0)
		return memory_agent.stays ? HC_IO_AGAIN : HC_IO_CLOSED;
	memcpy(buf, memory_agent.bytes + conn->read, *n);
	conn->read += *n;
	return HC_IO_OK;
}

enum hc_io hc_conn_write(struct hc_conn *conn, const void *buf, size_t len, size_t *n,
			 struct hc_why *why)
{
	(void)conn;
	(void)buf;
	(void)why;
	*n = least(len, memory_agent.chunk);
	return HC_IO_OK;
}

enum hc_io hc_conn_wait(struct hc_conn *conn, bool to_write, int wait_ms, struct hc_why *why)
{
	(void)to_write;
	(void)why;
	if (conn->read == memory_agent.len && memory_agent.stays)
		now += wait_ms;
	return HC_IO_OK;
}

void hc_conn_close(struct hc_conn *conn)
{
	free(conn);
}

int64_t hc_now_ms(void)
{
	return now;
}

void hc_wipe(void *p, size_t n)
{
	explicit_bzero(p, n);
}
