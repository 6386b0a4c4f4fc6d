/*
 * gRPC over HTTP/2 (nghttp2) with protobuf (nanopb); see hookclient.h.
 *
 * What of gRPC is needed is small ("gRPC over HTTP2", PROTOCOL-HTTP2.md): one
 * request whose body is our messages and one response whose body is the
 * agent's, each behind a flag byte and four bytes of length, and trailers that
 * say how it ended.
 */
#include "hookclient.h"

#include <nghttp2/nghttp2.h>
#include <pb_decode.h>
#include <pb_encode.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform.h"

enum {
	/* The flag byte and the length before each message. */
	GRPC_PREFIX = 5,
	/* The longest directive read: what nanopb takes, and room for what a
	 * newer agent may add and we skip. */
	DIRECTIVE_MAX = 8192,
	/* How much is read at once. It is read only while no whole directive is
	 * left, so the inbox holds one of them, unfinished, and what is read. */
	READ_MAX = 4096,
	INBOX_MAX = GRPC_PREFIX + DIRECTIVE_MAX + READ_MAX,
	/* What a whole login may bring: no endless stream of notices. */
	RECEIVED_MAX = 1024 * 1024,
	DIRECTIVES_MAX = 256,
	GRPC_MESSAGE_MAX = 128,
};

struct hc_client {
	hc_tick tick;
	void *tick_arg;

	struct hc_conn *conn;
	nghttp2_session *session;
	int32_t stream;

	/* Our message on its way out; wiped as soon as nghttp2 has taken it. */
	uint8_t outbox[GRPC_PREFIX + sallyport_login_v1_HookMessage_size];
	size_t out_len, out_taken;
	bool last_message;  /* the stream ends behind it */
	bool write_closed;  /* the agent reads no more; what it sent may still be here */

	uint8_t inbox[INBOX_MAX];
	size_t in_len;
	size_t received;
	unsigned directives;
	sallyport_login_v1_Directive directive;

	bool http_ok;      /* :status 200 */
	bool grpc_ok;      /* content-type application/grpc */
	bool stream_over;  /* the agent ended the stream */
	bool read_closed;  /* the agent closed the connection */
	uint32_t stream_error;
	int grpc_status; /* -1: none came */
	char grpc_message[GRPC_MESSAGE_MAX];
	char http_error[128]; /* what nghttp2 found wrong */

	bool failed;
	char failure[384];
};

/* Copies what is printable ASCII, cut to size; the rest becomes '?'. */
static void printable(char *out, size_t size, const uint8_t *in, size_t len)
{
	size_t n = len < size ? len : size - 1;

	for (size_t i = 0; i < n; i++)
		out[i] = in[i] >= 0x20 && in[i] < 0x7f ? (char)in[i] : '?';
	out[n] = '\0';
}

/* Records why the login is over. The first reason is the one that counts. */
__attribute__((format(printf, 2, 3)))
static enum hc_status fail(struct hc_client *c, const char *format, ...)
{
	char text[sizeof(c->failure)];
	va_list args;

	if (!c->failed) {
		va_start(args, format);
		(void)vsnprintf(text, sizeof(text), format, args);
		va_end(args);
		/* An error of the system is in the program's language. */
		printable(c->failure, sizeof(c->failure), (const uint8_t *)text, strlen(text));
		c->failed = true;
	}
	return HC_FAILED;
}

/* --- memory: nghttp2 copies our messages, so what it frees is wiped --- */

union block {
	size_t size;
	max_align_t align;
};

static void *mem_malloc(size_t size, void *arg)
{
	union block *b;

	(void)arg;
	if (size > SIZE_MAX - sizeof(*b))
		return NULL;
	b = malloc(sizeof(*b) + size);
	if (b == NULL)
		return NULL;
	b->size = size;
	return b + 1;
}

static void mem_free(void *p, void *arg)
{
	union block *b = p;

	(void)arg;
	if (p == NULL)
		return;
	b--;
	hc_wipe(p, b->size);
	free(b);
}

static void *mem_calloc(size_t n, size_t size, void *arg)
{
	void *p;

	if (size != 0 && n > SIZE_MAX / size)
		return NULL;
	p = mem_malloc(n * size, arg);
	if (p != NULL)
		memset(p, 0, n * size);
	return p;
}

static void *mem_realloc(void *old, size_t size, void *arg)
{
	void *p = mem_malloc(size, arg);

	if (p != NULL && old != NULL) {
		size_t had = ((union block *)old - 1)->size;

		memcpy(p, old, had < size ? had : size);
		mem_free(old, arg);
	}
	return p;
}

/* --- what nghttp2 calls --- */

static ssize_t on_send(nghttp2_session *session, const uint8_t *data, size_t len, int flags,
		       void *arg)
{
	struct hc_client *c = arg;
	struct hc_why why;
	size_t n;

	(void)session;
	(void)flags;
	switch (hc_conn_write(c->conn, data, len, &n, &why)) {
	case HC_IO_OK:
		return (ssize_t)n;
	case HC_IO_CLOSED:
		c->write_closed = true;
		return NGHTTP2_ERR_WOULDBLOCK;
	case HC_IO_AGAIN:
		return NGHTTP2_ERR_WOULDBLOCK;
	default:
		(void)fail(c, "%s", why.text);
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
}

static ssize_t on_body_wanted(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t len,
			      uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct hc_client *c = arg;
	size_t n = c->out_len - c->out_taken;

	(void)session;
	(void)stream;
	(void)source;
	if (n == 0)
		return NGHTTP2_ERR_DEFERRED; /* until nghttp2_session_resume_data */
	if (n > len)
		n = len;
	memcpy(buf, c->outbox + c->out_taken, n);
	c->out_taken += n;
	if (c->out_taken == c->out_len) {
		hc_wipe(c->outbox, sizeof(c->outbox));
		c->out_len = c->out_taken = 0;
		if (c->last_message)
			*flags |= NGHTTP2_DATA_FLAG_EOF;
	}
	return (ssize_t)n;
}

static bool is(const char *want, const uint8_t *have, size_t len)
{
	return len == strlen(want) && memcmp(want, have, len) == 0;
}

static int hex_digit(uint8_t b)
{
	if (b >= '0' && b <= '9')
		return b - '0';
	if (b >= 'a' && b <= 'f')
		return b - 'a' + 10;
	if (b >= 'A' && b <= 'F')
		return b - 'A' + 10;
	return -1;
}

/* The same for a grpc-message, which is percent-encoded. */
static void decode_message(char *out, size_t size, const uint8_t *in, size_t len)
{
	size_t o = 0;

	for (size_t i = 0; i < len && o + 1 < size; i++) {
		int b = in[i];

		if (b == '%' && len - i > 2 && hex_digit(in[i + 1]) >= 0 &&
		    hex_digit(in[i + 2]) >= 0) {
			b = hex_digit(in[i + 1]) << 4 | hex_digit(in[i + 2]);
			i += 2;
		}
		out[o++] = b >= 0x20 && b < 0x7f ? (char)b : '?';
	}
	out[o] = '\0';
}

/* A status that is no number from 0 to 99 counts as 2, UNKNOWN. */
static int decode_status(const uint8_t *in, size_t len)
{
	int n = 0;

	if (len < 1 || len > 2)
		return 2;
	for (size_t i = 0; i < len; i++) {
		if (in[i] < '0' || in[i] > '9')
			return 2;
		n = n * 10 + (in[i] - '0');
	}
	return n;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *arg)
{
	static const char grpc[] = "application/grpc";
	struct hc_client *c = arg;

	(void)session;
	(void)flags;
	if (frame->hd.stream_id != c->stream)
		return 0;
	if (is(":status", name, name_len)) {
		c->http_ok = is("200", value, value_len);
		if (!c->http_ok) {
			char shown[16];

			printable(shown, sizeof(shown), value, value_len);
			(void)fail(c, "the agent answered with HTTP status %s", shown);
		}
	} else if (is("content-type", name, name_len)) {
		/* "application/grpc", "application/grpc+proto" */
		c->grpc_ok = value_len >= sizeof(grpc) - 1 &&
			     memcmp(value, grpc, sizeof(grpc) - 1) == 0;
	} else if (is("grpc-status", name, name_len)) {
		c->grpc_status = decode_status(value, value_len);
	} else if (is("grpc-message", name, name_len)) {
		decode_message(c->grpc_message, sizeof(c->grpc_message), value, value_len);
	}
	return 0;
}

static int on_body(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
		   size_t len, void *arg)
{
	struct hc_client *c = arg;

	(void)session;
	(void)flags;
	if (stream != c->stream)
		return 0;
	if (!c->http_ok || !c->grpc_ok) {
		(void)fail(c, "the agent's answer is not gRPC");
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	if (len > sizeof(c->inbox) - c->in_len) {
		(void)fail(c, "more than %d bytes at once", INBOX_MAX);
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	memcpy(c->inbox + c->in_len, data, len);
	c->in_len += len;
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct hc_client *c = arg;

	(void)session;
	if (frame->hd.stream_id == c->stream && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
	    (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS))
		c->stream_over = true;
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream, uint32_t error, void *arg)
{
	struct hc_client *c = arg;

	(void)session;
	if (stream == c->stream) {
		c->stream_over = true;
		c->stream_error = error;
	}
	return 0;
}

/* nghttp2 answers most errors by itself, with a GOAWAY; the log wants to know. */
static int on_error(nghttp2_session *session, int code, const char *text, size_t len, void *arg)
{
	struct hc_client *c = arg;

	(void)session;
	(void)code;
	if (c->http_error[0] == '\0')
		printable(c->http_error, sizeof(c->http_error), (const uint8_t *)text, len);
	return 0;
}

static bool start_session(struct hc_client *c)
{
	static const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0 },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 8192 },
	};
	nghttp2_mem mem = { NULL, mem_malloc, mem_free, mem_calloc, mem_realloc };
	nghttp2_session_callbacks *calls;
	int error;

	if (nghttp2_session_callbacks_new(&calls) != 0)
		return false;
	nghttp2_session_callbacks_set_send_callback(calls, on_send);
	nghttp2_session_callbacks_set_on_header_callback(calls, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_body);
	nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_stream_close);
	nghttp2_session_callbacks_set_error_callback2(calls, on_error);
	error = nghttp2_session_client_new3(&c->session, calls, c, NULL, &mem);
	nghttp2_session_callbacks_del(calls);
	return error == 0 &&
	       nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings,
				       sizeof(settings) / sizeof(settings[0])) == 0;
}

/* --- one login --- */

struct hc_client *hc_new(hc_tick tick, void *tick_arg)
{
	struct hc_client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->tick = tick;
	c->tick_arg = tick_arg;
	c->grpc_status = -1;
	return c;
}

/* One round of a wait: how long it may last, or why there is none. */
static enum hc_status next_wait(struct hc_client *c, int64_t deadline, int *wait_ms)
{
	int64_t now = hc_now_ms();

	if (c->tick != NULL && c->tick(c->tick_arg))
		return HC_CANCELLED;
	if (now < 0)
		return fail(c, "this computer has no clock");
	if (now >= deadline)
		return HC_TIMEOUT;
	*wait_ms = deadline - now < HC_TICK_MS ? (int)(deadline - now) : HC_TICK_MS;
	return HC_OK;
}

enum hc_status hc_connect(struct hc_client *c, const char *address, int timeout_ms)
{
	int64_t deadline = hc_now_ms() + timeout_ms;
	enum hc_status status;
	struct hc_why why;
	int wait_ms;

	if (c->failed || c->conn != NULL)
		return fail(c, "connected twice");
	while ((status = next_wait(c, deadline, &wait_ms)) == HC_OK) {
		switch (hc_conn_open(address, wait_ms, &c->conn, &why)) {
		case HC_IO_OK:
			return start_session(c) ? HC_OK : fail(c, "out of memory");
		case HC_IO_AGAIN:
			break;
		case HC_IO_ABSENT:
			(void)fail(c, "%s", why.text);
			return HC_AGENT_ABSENT;
		default:
			return fail(c, "%s", why.text);
		}
	}
	if (status == HC_TIMEOUT)
		(void)fail(c, "no room in the agent's backlog");
	return status;
}

/* Hands nghttp2's pending bytes to the socket, as far as it takes them now. */
static enum hc_status flush(struct hc_client *c)
{
	int error;

	if (c->write_closed)
		return HC_OK;
	error = nghttp2_session_send(c->session);
	if (error != 0)
		return fail(c, "sending: %s", nghttp2_strerror(error));
	return HC_OK;
}

/*
 * Puts one message into the outbox, and wipes it. There is room for one only:
 * the agent speaks next after each, so it has read the one before.
 */
static enum hc_status post(struct hc_client *c, sallyport_login_v1_HookMessage *m)
{
	pb_ostream_t out = pb_ostream_from_buffer(c->outbox + GRPC_PREFIX,
						  sizeof(c->outbox) - GRPC_PREFIX);
	bool encoded = false;

	if (c->failed || c->session == NULL)
		(void)fail(c, "nothing is connected");
	else if (c->out_len != 0)
		(void)fail(c, "the agent asks again without having read the last answer");
	else if (!(encoded = pb_encode(&out, sallyport_login_v1_HookMessage_fields, m)))
		(void)fail(c, "encoding: %s", PB_GET_ERROR(&out));
	hc_wipe(m, sizeof(*m));
	if (!encoded)
		return HC_FAILED;

	c->outbox[0] = 0; /* not compressed */
	c->outbox[1] = (uint8_t)(out.bytes_written >> 24);
	c->outbox[2] = (uint8_t)(out.bytes_written >> 16);
	c->outbox[3] = (uint8_t)(out.bytes_written >> 8);
	c->outbox[4] = (uint8_t)out.bytes_written;
	c->out_len = GRPC_PREFIX + out.bytes_written;
	c->out_taken = 0;
	return HC_OK;
}

#define HEADER(name, value)                                                                     \
	{                                                                                       \
		(uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), sizeof(name) - 1,  \
			sizeof(value) - 1,                                                      \
			NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE            \
	}

enum hc_status hc_begin(struct hc_client *c, const sallyport_login_v1_Begin *begin)
{
	/* grpc-go refuses a request without :authority. No grpc-timeout: the
	 * person's time is theirs, and our own waits are bounded here. */
	static const nghttp2_nv headers[] = {
		HEADER(":method", "POST"),
		HEADER(":scheme", "http"),
		HEADER(":path", "/sallyport.login.v1.LoginService/Converse"),
		HEADER(":authority", "localhost"),
		HEADER("content-type", "application/grpc"),
		HEADER("te", "trailers"),
	};
	sallyport_login_v1_HookMessage m = sallyport_login_v1_HookMessage_init_zero;
	nghttp2_data_provider body = { .read_callback = on_body_wanted };

	m.which_message = sallyport_login_v1_HookMessage_begin_tag;
	m.message.begin = *begin;
	if (post(c, &m) != HC_OK)
		return HC_FAILED;
	c->stream = nghttp2_submit_request(c->session, NULL, headers,
					   sizeof(headers) / sizeof(headers[0]), &body, NULL);
	if (c->stream < 0)
		return fail(c, "opening the stream: %s", nghttp2_strerror(c->stream));
	return flush(c);
}

/* Sends a message on the stream that hc_begin opened. */
static enum hc_status say(struct hc_client *c, sallyport_login_v1_HookMessage *m)
{
	/* The agent came to its verdict without this answer (an approval on the
	 * phone while the prompt was open): hc_next brings it. */
	if (c->stream_over) {
		hc_wipe(m, sizeof(*m));
		return HC_OK;
	}
	if (post(c, m) != HC_OK)
		return HC_FAILED;
	/* Any other error means that there is nothing to resume: the message
	 * before this one is still on its way, and this one follows it. */
	if (nghttp2_session_resume_data(c->session, c->stream) == NGHTTP2_ERR_NOMEM)
		return fail(c, "out of memory");
	return flush(c);
}

static enum hc_status answer(struct hc_client *c, uint32_t id, const char *text, size_t len,
			     bool is_password)
{
	sallyport_login_v1_HookMessage m = sallyport_login_v1_HookMessage_init_zero;
	sallyport_login_v1_Answer *a = &m.message.answer;

	if (len > sizeof(a->text.bytes))
		return fail(c, "the answer has more than %zu bytes", sizeof(a->text.bytes));
	m.which_message = sallyport_login_v1_HookMessage_answer_tag;
	a->prompt_id = id;
	a->is_password = is_password;
	if (len > 0)
		memcpy(a->text.bytes, text, len);
	a->text.size = (pb_size_t)len;
	return say(c, &m);
}

enum hc_status hc_answer(struct hc_client *c, uint32_t id, const char *text, size_t len)
{
	return answer(c, id, text, len, false);
}

enum hc_status hc_answer_is_password(struct hc_client *c, uint32_t id)
{
	return answer(c, id, NULL, 0, true);
}

void hc_cancel(struct hc_client *c)
{
	sallyport_login_v1_HookMessage m = sallyport_login_v1_HookMessage_init_zero;

	if (c->failed || c->stream <= 0)
		return;
	m.which_message = sallyport_login_v1_HookMessage_cancel_tag;
	c->last_message = true;
	/* Best effort: hc_free closes the connection, and that cancels too. */
	(void)say(c, &m);
}

/* Refuses what must not reach a hook, which then denies. */
static enum hc_status check_directive(struct hc_client *c)
{
	const sallyport_login_v1_Directive *d = &c->directive;

	switch (d->which_directive) {
	case sallyport_login_v1_Directive_prompt_tag:
		if (d->directive.prompt.id == 0)
			return fail(c, "the agent sent a prompt without an id");
		return HC_OK;
	case sallyport_login_v1_Directive_notice_tag:
	case sallyport_login_v1_Directive_waiting_tag:
	case sallyport_login_v1_Directive_close_prompt_tag:
		return HC_OK;
	case sallyport_login_v1_Directive_verdict_tag:
		switch (d->directive.verdict.decision) {
		case sallyport_login_v1_Verdict_Decision_DECISION_ALLOW:
		case sallyport_login_v1_Verdict_Decision_DECISION_DENY:
		case sallyport_login_v1_Verdict_Decision_DECISION_SKIP:
			return HC_OK;
		default:
			return fail(c, "the agent sent verdict %u, which nobody knows",
				    (unsigned)d->directive.verdict.decision);
		}
	default:
		return fail(c, "the agent sent an empty or unknown directive");
	}
}

/* Takes the next directive out of the inbox; *whole says whether one is there. */
static enum hc_status take_directive(struct hc_client *c, bool *whole)
{
	pb_istream_t in;
	size_t len;

	*whole = false;
	if (c->in_len < GRPC_PREFIX)
		return HC_OK;
	if (c->inbox[0] != 0)
		return fail(c, "the agent sent a compressed message");
	len = (size_t)c->inbox[1] << 24 | (size_t)c->inbox[2] << 16 | (size_t)c->inbox[3] << 8 |
	      (size_t)c->inbox[4];
	if (len > DIRECTIVE_MAX)
		return fail(c, "the agent sent a message of %zu bytes, and at most %d are read",
			    len, DIRECTIVE_MAX);
	if (c->in_len < GRPC_PREFIX + len)
		return HC_OK;
	if (++c->directives > DIRECTIVES_MAX)
		return fail(c, "the agent sent more than %d directives", DIRECTIVES_MAX);

	in = pb_istream_from_buffer(c->inbox + GRPC_PREFIX, len);
	if (!pb_decode(&in, sallyport_login_v1_Directive_fields, &c->directive))
		return fail(c, "the agent sent what is no directive: %s", PB_GET_ERROR(&in));
	c->in_len -= GRPC_PREFIX + len;
	memmove(c->inbox, c->inbox + GRPC_PREFIX + len, c->in_len);
	*whole = true;
	return check_directive(c);
}

/* Why no directive can come any more, if so. */
static enum hc_status check_open(struct hc_client *c)
{
	if (c->failed)
		return HC_FAILED;
	if (c->http_error[0] != '\0')
		return fail(c, "the agent does not speak HTTP/2 as it should: %s", c->http_error);
	if (c->stream_over && c->grpc_status >= 0)
		return fail(c, "the agent ended the login without a verdict: gRPC status %d",
			    c->grpc_status);
	if (c->stream_over)
		return fail(c, "the agent ended the login without a verdict: HTTP/2 error %u",
			    (unsigned)c->stream_error);
	if (c->read_closed)
		return fail(c, "the agent closed the connection without a verdict");
	if (!nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session))
		return fail(c, "the agent ended the connection without a verdict");
	return HC_OK;
}

/* Reads what is there, if anything is. */
static enum hc_status receive(struct hc_client *c)
{
	uint8_t buf[READ_MAX];
	struct hc_why why;
	ssize_t taken;
	size_t n;

	switch (hc_conn_read(c->conn, buf, sizeof(buf), &n, &why)) {
	case HC_IO_OK:
		break;
	case HC_IO_AGAIN:
		return HC_OK;
	case HC_IO_CLOSED:
		c->read_closed = true;
		return HC_OK;
	default:
		return fail(c, "%s", why.text);
	}
	c->received += n;
	if (c->received > RECEIVED_MAX)
		return fail(c, "the agent sent more than %d bytes", RECEIVED_MAX);
	taken = nghttp2_session_mem_recv(c->session, buf, n);
	if (taken < 0)
		return fail(c, "the agent does not speak HTTP/2 as it should: %s",
			    nghttp2_strerror((int)taken));
	return c->failed ? HC_FAILED : HC_OK;
}

enum hc_status hc_next(struct hc_client *c, int timeout_ms,
		       const sallyport_login_v1_Directive **directive)
{
	int64_t deadline = hc_now_ms() + timeout_ms;
	enum hc_status status;
	struct hc_why why;
	int wait_ms;
	bool whole;

	*directive = NULL;
	if (c->failed || c->stream <= 0)
		return fail(c, "no login was begun");
	for (;;) {
		status = take_directive(c, &whole);
		if (status != HC_OK)
			return status;
		if (whole) {
			*directive = &c->directive;
			return HC_OK;
		}
		if ((status = check_open(c)) != HC_OK || (status = flush(c)) != HC_OK ||
		    (status = next_wait(c, deadline, &wait_ms)) != HC_OK)
			break;
		if (hc_conn_wait(c->conn,
				 !c->write_closed && nghttp2_session_want_write(c->session),
				 wait_ms, &why) != HC_IO_OK)
			return fail(c, "%s", why.text);
		if ((status = receive(c)) != HC_OK)
			break;
	}
	if (status == HC_TIMEOUT)
		(void)fail(c, "the agent did not answer in time");
	return status;
}

const char *hc_failure(const struct hc_client *c)
{
	return c->failure;
}

const char *hc_agent_message(const struct hc_client *c)
{
	return c->grpc_message;
}

void hc_free(struct hc_client *c)
{
	if (c == NULL)
		return;
	nghttp2_session_del(c->session);
	hc_conn_close(c->conn);
	hc_wipe(c, sizeof(*c));
	free(c);
}
