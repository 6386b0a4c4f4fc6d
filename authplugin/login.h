/*
 * One login, from the password that macOS took to the agent's verdict, on a thread of
 * its own: the host's must never wait for the agent, and an approval on the phone
 * must find somebody who listens while the person looks at the window. All that decides
 * is here, in the privileged process.
 *
 * All functions are called with the plug-in's lock.
 */
#ifndef SALLYPORT_LOGIN_H
#define SALLYPORT_LOGIN_H

#include "dialogue.h"
#include "plugin.h"

enum {
	SERVICE_MAX = 31,
	SESSION_MAX = 31,
};

/* What a login is about; it does not change once it has begun. */
struct login_request {
	struct who who;
	sallyport_login_v1_Scenario scenario;
	char service[SERVICE_MAX + 1];
	char session[SESSION_MAX + 1];
};

/* Starts one for begin, which gets its result when the first screen is known. False
 * when memory or threads are short. */
bool login_start(struct mechanism *begin, const struct login_request *request);

/* begin was invoked again. Whether that is because its login asked for it, and for the
 * same person; then it goes on. Else it ends. */
bool login_continues(struct login *l, const struct login_request *request);

/* begin lost interest (deactivated, destroyed), unless its own login had it so. */
void login_leave(struct login *l, bool destroyed);
void login_stop_all(struct plugin *p);

/* The login of that name; NULL when there is none. */
struct login *login_find(struct plugin *p, const uint8_t id[SCREEN_LOGIN_SIZE]);

/* verify was invoked with what the person did, and gets its result, or is deactivated.
 * False when another one is there. */
bool login_verify(struct login *l, struct mechanism *verify, const struct answer *answer, bool is_password);
/* verify was deactivated or destroyed. */
void login_forget(struct plugin *p, const struct mechanism *verify);

const struct login_request *login_request(const struct login *l);
/* The login cannot be what it began as: it ends. */
void login_stop(struct login *l);
/* Whether the break-glass list alone lets it in. */
bool login_is_break_glass(const struct login *l);

#endif
