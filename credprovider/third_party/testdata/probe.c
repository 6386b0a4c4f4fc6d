/* Something of each library that the sysroot has, and two mistakes. */
#include "probe.h"

#include <windows.h>
#include <nghttp2/nghttp2.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <stdio.h>
#include <string.h>
#include <wtsapi32.h>

static nghttp2_ssize count(nghttp2_session *session, const uint8_t *data, size_t len, int flags, void *sent)
{
	(void)session, (void)data, (void)flags;
	*(size_t *)sent += len;
	return (nghttp2_ssize)len;
}

/* How many bytes a client's connection begins with: 24 of preface, 9 of settings. */
static int http2_greeting(void)
{
	nghttp2_session_callbacks *callbacks;
	nghttp2_session *session;
	size_t sent = 0;

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		return -1;
	nghttp2_session_callbacks_set_send_callback2(callbacks, count);
	if (nghttp2_session_client_new(&session, callbacks, &sent) != 0 ||
	    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, NULL, 0) != 0 || nghttp2_session_send(session) != 0)
		return -1;
	nghttp2_session_del(session);
	nghttp2_session_callbacks_del(callbacks);
	return (int)sent;
}

/* 300 as a varint, there and back. */
static int protobuf_round_trip(void)
{
	uint8_t buf[8];
	uint64_t value = 0;
	pb_ostream_t out = pb_ostream_from_buffer(buf, sizeof buf);
	if (!pb_encode_varint(&out, 300))
		return -1;
	pb_istream_t in = pb_istream_from_buffer(buf, out.bytes_written);
	return pb_decode_varint(&in, &value) ? (int)value : -1;
}

/* Steps far down a stack, and comes back with what it was given. */
static __attribute__((noinline)) int deep(int a, int b, int c, int d, int e)
{
	volatile char frame[512 * 1024];
	frame[0] = (char)a;
	frame[sizeof frame - 1] = (char)b;
	return frame[0] + frame[sizeof frame - 1] + c + d + e;
}

#ifdef BIG
static const char big[300 * 1024] = {1};
#endif

void Probe(char *text, size_t len)
{
	const char *version = nghttp2_version(0)->version_str;
#ifdef BIG
	version = big + ((uintptr_t)text & 1);
#endif
	snprintf(text, len, "nghttp2 %s %d nanopb %d object %d stack %d session %s", version, http2_greeting(),
		 protobuf_round_trip(), sum_to(10), deep(1, 2, 3, 4, 5),
		 WTSGetActiveConsoleSessionId() == 0xFFFFFFFF ? "none" : "some");
}

/* Writes behind a buffer, where the compiler cannot know how far. */
__attribute__((noinline)) static void scribble(volatile char *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = 'x';
}

#ifdef EXPORT_MORE
__declspec(dllexport) void More(void) {}
#endif

void Smash(size_t len)
{
	char buf[16];
	scribble(buf, len);
}

void Overflow(const char *from, size_t len)
{
	char buf[16];
	memcpy(buf, from, len);
	scribble(buf, sizeof buf);
}
