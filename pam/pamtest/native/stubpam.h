/*
 * libpam for the unit tests and the fuzzer: what the module calls of it, with a
 * person who answers as told and a log that is searched for what must not be
 * there.
 */
#ifndef SALLYPORT_PAM_STUBPAM_H
#define SALLYPORT_PAM_STUBPAM_H

#include <security/pam_modules.h>
#include <stdbool.h>

/* What the person types; it must show up nowhere but in the answer. */
#define STUB_CANARY "canary-4711"

enum stub_answer { STUB_TYPES, STUB_EMPTY, STUB_PASSWORD, STUB_FAILS };

struct pam_handle {
	enum stub_answer answer;
	bool canary_known; /* the agent itself sends the canary: a fuzzer learns it */
	void *data;
	void (*cleanup)(pam_handle_t *pamh, void *data, int error);
	unsigned prompts, shown, logged;
};

/* Ends the transaction: frees what the module kept. */
void stub_end(pam_handle_t *pamh);

#endif
