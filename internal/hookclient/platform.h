/*
 * What hookclient needs of an operating system: a connection to the agent, a
 * clock that nobody can set, and a wipe that the compiler keeps. One source
 * file per platform implements it (transport_unix.c, transport_windows.c;
 * fuzz/transport_memory.c for the fuzzer), chosen when linking.
 */
#ifndef SALLYPORT_HOOKCLIENT_PLATFORM_H
#define SALLYPORT_HOOKCLIENT_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum hc_io {
	HC_IO_FAILED = 0, /* why says what */
	HC_IO_OK,
	HC_IO_AGAIN,  /* not now: try again */
	HC_IO_CLOSED, /* the agent closed the connection */
	HC_IO_ABSENT, /* connecting only: nobody listens */
};

struct hc_conn;

/* Where a function says why it failed. */
struct hc_why {
	char text[256];
};

/*
 * Connects, waiting at most wait_ms for room in the agent's backlog
 * (HC_IO_AGAIN when there was none), and checks who listens: HC_IO_FAILED
 * unless that is root (SYSTEM) or this process's own effective user.
 */
enum hc_io hc_conn_open(const char *address, int wait_ms, struct hc_conn **conn,
			struct hc_why *why);

/* Both move at most len bytes, say in *n how many, and never block. */
enum hc_io hc_conn_read(struct hc_conn *conn, void *buf, size_t len, size_t *n,
			struct hc_why *why);
enum hc_io hc_conn_write(struct hc_conn *conn, const void *buf, size_t len, size_t *n,
			 struct hc_why *why);

/*
 * Waits at most wait_ms for bytes to read, or for room to write if asked. It may
 * be over early.
 */
enum hc_io hc_conn_wait(struct hc_conn *conn, bool to_write, int wait_ms, struct hc_why *why);

/* NULL is fine. */
void hc_conn_close(struct hc_conn *conn);

/* Milliseconds on a clock that never goes back; -1 when there is none. */
int64_t hc_now_ms(void);

/* Overwrites memory that held a secret. */
void hc_wipe(void *p, size_t n);

#ifdef __cplusplus
}
#endif

#endif
