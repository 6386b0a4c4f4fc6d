/* The module's options, as they stand behind its name in /etc/pam.d. */
#ifndef SALLYPORT_PAM_OPTIONS_H
#define SALLYPORT_PAM_OPTIONS_H

#include <stdbool.h>

struct options {
	const char *socket; /* where the agent listens */
	int timeout_ms;     /* the agent's time for each step; the person's is not counted */
	int skip;           /* what SKIP returns: PAM_IGNORE or PAM_SUCCESS */
	bool debug;
};

/*
 * Reads argv into o. False when one of them is unknown or malformed; *bad is
 * that one, and the caller lets nobody in.
 */
bool options_parse(struct options *o, int argc, const char **argv, const char **bad);

#endif
