/*
 * What the files of the core share: one plug-in instance, its mechanisms, and how
 * they speak to the engine that authd gives each of them (Security/AuthorizationPlugin.h,
 * "Authorization Plug-ins").
 *
 * One process may hold several instances, and one instance several evaluations at
 * once, each call on any thread. So there are no globals, and one lock for all of an
 * instance. It is never held while the host, the agent, the view or a file is waited for.
 */
#ifndef SALLYPORT_PLUGIN_H
#define SALLYPORT_PLUGIN_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <Security/AuthorizationPlugin.h>

#include "screen.h"

struct login;
struct mechanism;
struct showing;

struct plugin {
	const AuthorizationCallbacks *calls; /* the host's, and good until PluginDestroy */

	pthread_mutex_t lock;   /* for all below, in mechanisms and logins too */
	pthread_cond_t changed; /* whatever changed */
	bool closed;            /* PluginDestroy was called: there is no host any more */
	unsigned users;         /* the host until PluginDestroy, each mechanism, each thread */
	struct login *logins;
	/* The thread that ended last, until the next one, or PluginDestroy, joins it. */
	pthread_t ended;
	bool has_ended, unjoined; /* unjoined: PluginDestroy has gone */
};

struct mechanism_kind {
	const char *id;
	/* Each without the lock. */
	void (*invoke)(struct mechanism *m);
	/* The host wants no result any more. NULL: nothing to do. */
	void (*leave)(struct mechanism *m);
};

extern const struct mechanism_kind begin_kind, begin_session_kind, prompt_kind, verify_kind;

struct mechanism {
	struct plugin *plugin;
	AuthorizationEngineRef engine;
	const struct mechanism_kind *kind;

	/* With the lock. */
	uint8_t state;    /* enum in mechanism.c */
	unsigned users;   /* the host until MechanismDestroy, and each call under way */
	unsigned calling; /* calls of the host's or to it that are under way */
	pthread_t caller; /* who made the last of them */
	struct login *login;     /* begin's: the one it started */
	bool verified, passed;   /* begin's: verify was asked in its evaluation; and allowed */
	struct showing *showing; /* prompt's: what is on the screen */
};

/* How an invocation ends. AuthorizationResult has zero for letting in; here it denies. */
enum outcome {
	OUTCOME_DENY = 0,
	OUTCOME_ALLOW,
	OUTCOME_CANCEL,
};

/* --- plugin.c: with the lock --- */

/* Waits until something has changed, ms at most. It may be over early. */
void plugin_wait(struct plugin *p, int64_t ms);
void plugin_changed(struct plugin *p);
/* Starts a thread that has the plug-in until it ends, by plugin_thread_end. */
bool plugin_thread(struct plugin *p, void *(*run)(void *), void *arg);

/* Gives the lock back; frees the plug-in when nobody has it any more. */
void plugin_unlock(struct plugin *p);
/* The same of the plug-in: for a thread, which then has only to return. */
void plugin_thread_end(struct plugin *p);
/* The same, and the caller has it no more. */
void plugin_leave(struct plugin *p);

/* --- mechanism.c --- */

OSStatus mechanism_create(AuthorizationPluginRef plugin, AuthorizationEngineRef engine,
			  AuthorizationMechanismId id, AuthorizationMechanismRef *mechanism);
OSStatus mechanism_invoke(AuthorizationMechanismRef mechanism);
OSStatus mechanism_deactivate(AuthorizationMechanismRef mechanism);
OSStatus mechanism_destroy(AuthorizationMechanismRef mechanism);

/* With the lock: whether it was invoked and owes a result. NULL does not. */
bool mechanism_waits(const struct mechanism *m);
/* With the lock: false once it was destroyed. */
bool mechanism_exists(const struct mechanism *m);

/* What is left in the engine beside the result. */
struct hint {
	const char *key;
	const void *data;
	size_t length;
};

/*
 * With the lock, of which it lets go meanwhile: sets the hint, if there is one, and
 * ends the invocation. Nothing happens when it has ended already.
 */
void mechanism_answer(struct mechanism *m, enum outcome outcome, const struct hint *hint);
/*
 * The same for RequestInterrupt: whatever was invoked behind this mechanism is
 * deactivated, and it is invoked again. False when the host said no.
 */
bool mechanism_interrupt(struct mechanism *m);

/* --- engine.c: what is in the engine; without the lock, within an invocation --- */

enum {
	/* As authd has them: text, and a uid_t. */
	USER_MAX = SCREEN_USER_MAX,
	RIGHT_MAX = 127,
};

/* Who is logging in, as builtin:authenticate found out. */
struct who {
	char user[USER_MAX + 1];
	bool has_uid;
	uint32_t uid;
};

/* False when there is no name, or one that is none. */
bool engine_who(struct mechanism *m, struct who *who);
bool who_equal(const struct who *a, const struct who *b);
/* The right that is asked for, as a hint says; "" when none does. */
void engine_right(struct mechanism *m, char right[RIGHT_MAX + 1]);
/* authd's number of the login session, or "". */
void engine_session(struct mechanism *m, char *out, size_t size);
/* Whether text is the password that builtin:authenticate took. */
bool engine_is_password(struct mechanism *m, const char *text, size_t length);

/* Both copy at once: what the engine hands out is its own. */
bool engine_screen(struct mechanism *m, struct screen *screen);
bool engine_answer(struct mechanism *m, struct answer *answer);
/* Leaves nothing of ours among the hints. */
void engine_wipe_hints(struct mechanism *m);

#endif
