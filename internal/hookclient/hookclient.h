/*
 * hookclient: the hooks' side of the login wire (proto/sallyport/login/v1).
 *
 * One hc_client is one login: one connection to the agent, one gRPC stream on
 * it, one verdict. It is shared by the PAM module, the credential provider and
 * the authorization plug-in; platform.h is what differs between them.
 *
 *	hc_new -> hc_connect -> hc_begin -> { hc_next -> hc_answer }... -> hc_free
 *
 * It runs inside sshd, LogonUI and SecurityAgent, so: no threads, no fork, no
 * signal handlers, no globals that change, no file but the socket, and every
 * buffer has a fixed size.
 *
 * Closed by default: hc_next hands out a verdict only when it is a whole, well
 * formed ALLOW, DENY or SKIP. Whatever else the agent says or does not say ends
 * in HC_FAILED, and the hook denies.
 */
#ifndef SALLYPORT_HOOKCLIENT_H
#define SALLYPORT_HOOKCLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sallyport/login/v1/login.pb.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
	/* What the agent is asked to speak (Begin.protocol_version). */
	HC_PROTOCOL_VERSION = 1,
	/* The longest answer a person can give. */
	HC_ANSWER_MAX = sizeof(((sallyport_login_v1_Answer *)0)->text.bytes),
	/* How often the tick is called while the agent is silent. */
	HC_TICK_MS = 250,
};

/* Zero is a failure, so that nothing cleared or forgotten reads as success. */
enum hc_status {
	HC_FAILED = 0,    /* hc_failure() says why: deny */
	HC_OK,            /* done; the next step may follow */
	HC_AGENT_ABSENT,  /* nobody listens at the address: the agent is not running */
	HC_TIMEOUT,       /* the agent did not answer in time: deny */
	HC_CANCELLED,     /* the tick said so: deny */
};

/*
 * Called before each wait and at least every HC_TICK_MS during it. True ends
 * the wait with HC_CANCELLED. May be NULL.
 */
typedef bool (*hc_tick)(void *arg);

struct hc_client;

/* Returns NULL when memory is short. */
struct hc_client *hc_new(hc_tick tick, void *tick_arg);

/*
 * Connects to the agent at address and checks from the kernel's word who
 * listens there, before a byte is sent: root (SYSTEM) or this process's own
 * user. HC_AGENT_ABSENT only when nobody listens. A full backlog is waited out.
 */
enum hc_status hc_connect(struct hc_client *c, const char *address, int timeout_ms);

/* Opens the login. */
enum hc_status hc_begin(struct hc_client *c, const sallyport_login_v1_Begin *begin);

/*
 * Waits for the agent's next directive, at most timeout_ms. *directive stays
 * valid until the next call. After HC_CANCELLED the hook may say something and
 * wait again; after anything else but HC_OK the login is over.
 */
enum hc_status hc_next(struct hc_client *c, int timeout_ms,
		       const sallyport_login_v1_Directive **directive);

/*
 * Answers prompt id with len bytes of text (at most HC_ANSWER_MAX), or says
 * that the answer was the first factor's password; then text is not sent.
 */
enum hc_status hc_answer(struct hc_client *c, uint32_t id, const char *text, size_t len);
enum hc_status hc_answer_is_password(struct hc_client *c, uint32_t id);

/* Tells the agent that the person gave up, as far as that goes without waiting. */
void hc_cancel(struct hc_client *c);

/* Why the last call failed, for the log: printable ASCII, never an answer. */
const char *hc_failure(const struct hc_client *c);

/*
 * What the agent itself said about it (grpc-message); "" when nothing. Printable
 * ASCII. It may name the user, so it belongs in a debug log only.
 */
const char *hc_agent_message(const struct hc_client *c);

/* Closes the connection and wipes everything. NULL is fine. */
void hc_free(struct hc_client *c);

#ifdef __cplusplus
}
#endif

#endif
