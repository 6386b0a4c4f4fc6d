/*
 * authd: a stand-in for macOS's authd, its privileged host and SecurityAgent, for
 * tests on Linux. It runs a list of mechanisms as Apple's documents and the
 * published source of authd (engine.c, agent.c) have it, and says where a plug-in
 * breaks the rules. main.c lists what it understands and says.
 */
#ifndef SALLYPORT_AUTHD_H
#define SALLYPORT_AUTHD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <Security/AuthorizationPlugin.h>

#include "view.h"

enum {
	ENGINES = 4096,   /* the most at a time; their numbers are below it */
	MECHANISMS = 8,   /* the longest list */
	NAME_SIZE = 64,   /* of a mechanism or a key */
	TYPED = 8,        /* answers remembered of an engine */
	RESULT_LATE_S = 60, /* longer than every wait of the plug-in, on a busy machine too */
	CLOSE_LATE_S = 60,  /* for a window to go away */
};

/* --- values: items.c --- */

struct item {
	char key[NAME_SIZE];
	AuthorizationContextFlags flags;
	AuthorizationValue value;
	bool given; /* by the driver, not by a mechanism */
};

/* A dictionary, as hints and context are. All zero is an empty one. */
struct items {
	struct item *list;
	size_t count;
};

struct item *items_find(const struct items *items, const char *key);
void items_set(struct items *items, const char *key, AuthorizationContextFlags flags, const void *data,
	       size_t length, bool given);
void items_remove(struct items *items, const char *key);
/* Adds from's values, in memory of their own; what else is in to stays. */
void items_merge(struct items *to, const struct items *from);
/* Moves every value to new memory: whoever kept a pointer reads nonsense. */
void items_renew(struct items *items);
void items_clear(struct items *items);

void *must(void *memory); /* ends the program where there is none */

/* --- engines: engine.c --- */

/* Where a mechanism stands; agent.c of authd has the same. */
enum standing {
	ABSENT = 0,
	CREATED,
	CURRENT,      /* invoked, no result yet */
	ACTIVE,       /* has set its result */
	INTERRUPTING, /* has asked for the list to go on from it */
	INTERRUPTED,  /* active, when another interrupted: "mechinterrupting" */
	DEACTIVATING,
	DESTROYED,
};

/* What a plug-in knows as an AuthorizationEngineRef: one for each mechanism. */
struct mechanism {
	struct engine *engine;
	struct mechanism *next; /* of those destroyed */
	char name[NAME_SIZE];
	bool privileged, foreign;
	enum standing standing;
	AuthorizationMechanismRef ref;
	AuthorizationResult result;
	bool has_result, did_deactivate, in_deactivate;
	unsigned results; /* of this invocation */
	struct items hints, context;
};

struct engine {
	unsigned number;
	struct mechanism *list[MECHANISMS];
	size_t count;
	unsigned tries;
	struct items given_hints, given_context, immutable; /* before an evaluation */
	struct items hints, context;                        /* of the evaluation */
	struct items sticky;
	bool running, started, stepping, paused, between, go, stop, abandoned, deaf;
	size_t at;
	struct mechanism *crosses, *crossed; /* whose interrupt comes with whose result */
	pthread_t thread;
	struct view *view;
	char *typed[TYPED];
	size_t typed_length[TYPED], typed_count;
};

/* One lock for everything here; never held while the plug-in is called. */
extern pthread_mutex_t lock;
extern pthread_cond_t changed;

bool plugin_load(const char *path, unsigned version, unsigned instances);
void plugin_unload(void);
/* NULL: no such callback. */
int *failing(const char *callback);

struct engine *engine_get(unsigned number); /* made when it is not there */
bool engine_list(struct engine *e, char *names);
bool engine_run(struct engine *e);
void engine_close(struct engine *e);
void engine_interrupt(struct engine *e, const char *mechanism);
void engine_cross(struct engine *e, const char *by, const char *result_of);
struct mechanism *engine_mechanism(struct engine *e, const char *name);
void engine_remember(struct engine *e, const char *text, size_t length);
/* The one with a mechanism that was given that login's screen. */
struct engine *engine_showing(const struct screen *screen);
void engines_close(void);
struct timespec in_seconds(int seconds);

/* --- what is said: main.c --- */

/* One line; the lock is held or not, as it comes. */
void say(const struct engine *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
void violation(const struct engine *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
unsigned violations(void);

/* --- the scripted view: view.c; or the real one: view_screen.m --- */

struct view *host_view_open(const struct screen *screen, view_done done, void *arg);
void host_view_close(struct view *view);
/* The person does it; the lock is held. False: there is no view. */
bool view_answer(struct engine *e, enum answer_kind kind, const char *text, size_t length);
/* False: the engine's window is open all that time. The lock is held. */
bool view_wait_closed(struct engine *e);
void views_fail(unsigned count); /* so many cannot be shown */
void view_say(const struct engine *e);

/* Which engine this thread invokes a mechanism of. */
extern _Thread_local struct engine *invoking;

char *to_hex(const void *data, size_t length); /* to be freed; "-" when empty */

#endif
