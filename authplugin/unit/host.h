/*
 * The engine's side in small, which the unit tests and the fuzzer drive by hand, call
 * by call and on any thread. It aborts when the core breaks a rule: a result without
 * an invocation, a second one, one after DidDeactivate or MechanismDestroy.
 */
#ifndef SALLYPORT_UNIT_HOST_H
#define SALLYPORT_UNIT_HOST_H

#include <pthread.h>
#include <stdbool.h>

#include "plugin.h"
#include "view.h"

enum { ITEMS = 6, ITEM_MAX = 16 * 1024, ENGINES = 3 };

struct item {
	char key[32];
	AuthorizationValue *value; /* NULL: not there */
};

struct evaluation;

/* One mechanism's AuthorizationEngineRef. */
struct engine {
	struct evaluation *evaluation;
	AuthorizationMechanismRef ref;
	const char *id;
	bool deactivating, destroyed;
	bool in_result; /* SetResult is under way */
	unsigned owed; /* results; two while an Invoke is under way that may be refused */
	unsigned results, deactivated, interrupts; /* since it was made */
	AuthorizationResult last;
};

struct evaluation {
	struct item hints[ITEMS], context[ITEMS], immutable[ITEMS];
	struct engine engines[ENGINES]; /* begin, prompt, verify */
};

enum { BEGIN, PROMPT, VERIFY };

/* What the callbacks answer, beside doing their work: 0, or an error without it. */
extern OSStatus host_result_error, host_hint_error, host_interrupt_error, host_deactivate_error;
/* SetResult takes its time, or as long as until the host comes across it. */
extern bool host_lingers;
/* The callbacks of that version: the pointers behind it are no pointers. */
const AuthorizationCallbacks *host_callbacks(UInt32 version);

void host_load(UInt32 version);
void host_unload(void);
extern AuthorizationPluginRef host_plugin;
extern const AuthorizationPluginInterface *host_table;

/* A person has given the password: "ada", uid 501. */
void evaluation_new(struct evaluation *e, const char *begin);
void evaluation_end(struct evaluation *e); /* destroys what is left */
void item_set(struct item *items, const char *key, const void *data, size_t length);
/* Copies what is there; 0 when nothing is. */
size_t item_get(struct item *items, const char *key, void *data, size_t size);

OSStatus engine_invoke(struct engine *e);
OSStatus engine_deactivate(struct engine *e);
void engine_destroy(struct engine *e);
void engine_wait_in_result(struct engine *e);
/* Wait for it, a minute at most; what was waited for is then not so. */
void engine_wait_results(struct engine *e, unsigned results);
void engine_wait_all(struct engine *e); /* until it owes none */
void engine_wait_interrupts(struct engine *e, unsigned interrupts);

/* Whether the last line of the log has that text. */
bool host_logged(const char *text);

/* --- the view --- */

/* The screen of the open view; waits for one. */
void view_wait(struct screen *s);
bool view_is_open(void);
/* It is closed on a thread of its own, a moment after DidDeactivate. */
void view_wait_closed(void);
void view_act(enum answer_kind kind, const char *text);
extern bool view_broken; /* none can be opened */

#endif
