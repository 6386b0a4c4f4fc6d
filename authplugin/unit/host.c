#define _GNU_SOURCE

#include "host.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

OSStatus host_result_error, host_hint_error, host_interrupt_error, host_deactivate_error;
bool host_lingers;
AuthorizationPluginRef host_plugin;
const AuthorizationPluginInterface *host_table;

static char logged[1024]; /* the last line */

static void violation(const struct engine *e, const char *what)
{
	fprintf(stderr, "host: %s: %s\n", e != NULL ? e->id : "view", what);
	abort();
}

/* With the lock. */
static void wait_changed(const struct engine *e, const char *what)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 60;
	if (pthread_cond_timedwait(&changed, &lock, &t) != 0)
		violation(e, what);
}

/* --- items --- */

static struct item *find(struct item *items, const char *key, bool make)
{
	for (size_t i = 0; i < ITEMS; i++) {
		if (strcmp(items[i].key, key) == 0)
			return &items[i];
	}
	for (size_t i = 0; make && i < ITEMS; i++) {
		if (items[i].key[0] == '\0') {
			(void)snprintf(items[i].key, sizeof(items[i].key), "%s", key);
			return &items[i];
		}
	}
	return NULL;
}

/* What was handed out stays until the plug-in is unloaded: authd gives every mechanism
 * its own copy. */
static AuthorizationValue **kept;
static size_t kept_count;

static void keep(AuthorizationValue *value)
{
	if (value == NULL)
		return;
	kept = realloc(kept, (kept_count + 1) * sizeof(*kept));
	if (kept == NULL)
		abort();
	kept[kept_count++] = value;
}

/* With the lock. In memory of its own size, so that whoever reads on is found out, and
 * the whole value anew, which others may be reading. */
static void put(struct item *items, const char *key, const void *data, size_t length)
{
	struct item *i = find(items, key, true);

	if (i == NULL)
		abort();
	keep(i->value);
	i->value = NULL;
	if (data == NULL)
		return;
	i->value = malloc(sizeof(*i->value));
	if (i->value == NULL)
		abort();
	i->value->length = length;
	i->value->data = malloc(length > 0 ? length : 1);
	if (i->value->data == NULL)
		abort();
	memcpy(i->value->data, data, length);
}

void item_set(struct item *items, const char *key, const void *data, size_t length)
{
	pthread_mutex_lock(&lock);
	put(items, key, data, length);
	pthread_mutex_unlock(&lock);
}

size_t item_get(struct item *items, const char *key, void *data, size_t size)
{
	struct item *i;
	size_t n = 0;

	pthread_mutex_lock(&lock);
	i = find(items, key, false);
	if (i != NULL && i->value != NULL && i->value->length <= size) {
		n = i->value->length;
		memcpy(data, i->value->data, n);
	}
	pthread_mutex_unlock(&lock);
	return n;
}

/* --- callbacks --- */

static struct engine *engine_of(AuthorizationEngineRef ref)
{
	return (struct engine *)(void *)ref;
}

static OSStatus set_result(AuthorizationEngineRef ref, AuthorizationResult result)
{
	struct engine *e = engine_of(ref);

	pthread_mutex_lock(&lock);
	if (e->destroyed)
		violation(e, "a result after MechanismDestroy");
	if (e->owed == 0)
		violation(e, "a result that nobody asked for");
	e->owed--;
	e->in_result = true;
	pthread_cond_broadcast(&changed);
	if (host_lingers) {
		struct timespec t;

		(void)clock_gettime(CLOCK_REALTIME, &t);
		t.tv_sec += 1;
		while (!e->destroyed && e->deactivated == 0 && pthread_cond_timedwait(&changed, &lock, &t) == 0)
			;
	}
	e->in_result = false;
	if (host_lingers && (e->destroyed || e->deactivated > 0))
		violation(e, "the host was told that nothing comes while the result did");
	e->results++;
	e->last = result;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return host_result_error;
}

static OSStatus request_interrupt(AuthorizationEngineRef ref)
{
	struct engine *e = engine_of(ref);

	pthread_mutex_lock(&lock);
	if (e->destroyed)
		violation(e, "an interrupt after MechanismDestroy");
	if (e->results == 0)
		violation(e, "an interrupt before a result");
	if (host_interrupt_error == 0)
		e->interrupts++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return host_interrupt_error;
}

static OSStatus did_deactivate(AuthorizationEngineRef ref)
{
	struct engine *e = engine_of(ref);

	pthread_mutex_lock(&lock);
	if (e->destroyed || !e->deactivating)
		violation(e, "DidDeactivate that nobody asked for");
	e->deactivating = false;
	e->owed = 0;
	e->deactivated++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return host_deactivate_error;
}

static OSStatus get(struct engine *e, struct item *items, const char *key, const AuthorizationValue **value)
{
	struct item *i;

	pthread_mutex_lock(&lock);
	if (e->destroyed)
		violation(e, "a look at the engine after MechanismDestroy");
	i = find(items, key, false);
	*value = i != NULL ? i->value : NULL;
	pthread_mutex_unlock(&lock);
	return *value != NULL ? errAuthorizationSuccess : errAuthorizationInternal;
}

static OSStatus get_context(AuthorizationEngineRef ref, AuthorizationString key, AuthorizationContextFlags *flags,
			    const AuthorizationValue **value)
{
	struct engine *e = engine_of(ref);

	*flags = 0;
	return get(e, e->evaluation->context, key, value);
}

static OSStatus set_context(AuthorizationEngineRef ref, AuthorizationString key, AuthorizationContextFlags flags,
			    const AuthorizationValue *value)
{
	(void)key;
	(void)flags;
	(void)value;
	violation(engine_of(ref), "the context was written");
	return errAuthorizationInternal;
}

static OSStatus get_hint(AuthorizationEngineRef ref, AuthorizationString key, const AuthorizationValue **value)
{
	struct engine *e = engine_of(ref);

	return get(e, e->evaluation->hints, key, value);
}

static OSStatus set_hint(AuthorizationEngineRef ref, AuthorizationString key, const AuthorizationValue *value)
{
	struct engine *e = engine_of(ref);

	if (host_hint_error != 0)
		return host_hint_error;
	item_set(e->evaluation->hints, key, value->data, value->length);
	return errAuthorizationSuccess;
}

static OSStatus get_arguments(AuthorizationEngineRef ref, const AuthorizationValueVector **arguments)
{
	(void)ref;
	*arguments = NULL;
	return errAuthorizationInternal;
}

static OSStatus get_session(AuthorizationEngineRef ref, AuthorizationSessionId *session)
{
	(void)ref;
	*session = (void *)(uintptr_t)100003;
	return errAuthorizationSuccess;
}

static OSStatus get_immutable(AuthorizationEngineRef ref, AuthorizationString key, const AuthorizationValue **value)
{
	struct engine *e = engine_of(ref);

	return get(e, e->evaluation->immutable, key, value);
}

static OSStatus remove_hint(AuthorizationEngineRef ref, AuthorizationString key)
{
	struct engine *e = engine_of(ref);

	if (host_hint_error != 0)
		return host_hint_error;
	item_set(e->evaluation->hints, key, NULL, 0);
	return errAuthorizationSuccess;
}

const AuthorizationCallbacks *host_callbacks(UInt32 version)
{
	static const AuthorizationCallbacks of0 = {
		0, set_result, request_interrupt, did_deactivate, get_context, set_context, get_hint, set_hint,
		get_arguments, get_session,
		/* Whatever follows is not this version's to call. */
		.GetImmutableHintValue = (void *)1, .RemoveHintValue = (void *)1,
	};
	static const AuthorizationCallbacks of1 = {
		1, set_result, request_interrupt, did_deactivate, get_context, set_context, get_hint, set_hint,
		get_arguments, get_session, get_immutable, .RemoveHintValue = (void *)1,
	};
	static const AuthorizationCallbacks of4 = {
		4, set_result, request_interrupt, did_deactivate, get_context, set_context, get_hint, set_hint,
		get_arguments, get_session, get_immutable, .RemoveHintValue = remove_hint,
	};

	return version == 0 ? &of0 : version < 4 ? &of1 : &of4;
}

/* In libc's place: what the core has logged is for a test to see. */
void syslog(int priority, const char *format, ...)
{
	va_list args;
	char line[1024];

	(void)priority;
	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (strstr(line, "123456") != NULL || strstr(line, "her password") != NULL)
		violation(NULL, "what was typed is in the log");
	pthread_mutex_lock(&lock);
	(void)snprintf(logged, sizeof(logged), "%s", line);
	pthread_mutex_unlock(&lock);
	if (getenv("SALLYPORT_UNIT_LOG") != NULL)
		(void)fprintf(stderr, "%s\n", line);
}

bool host_logged(const char *text)
{
	bool found;

	pthread_mutex_lock(&lock);
	found = strstr(logged, text) != NULL;
	pthread_mutex_unlock(&lock);
	return found;
}

/* --- the host's calls --- */

void host_load(UInt32 version)
{
	if (AuthorizationPluginCreate(host_callbacks(version), &host_plugin, &host_table) != errAuthorizationSuccess)
		abort();
}

void host_unload(void)
{
	if (host_table->PluginDestroy(host_plugin) != errAuthorizationSuccess)
		abort();
	if (view_is_open())
		violation(NULL, "it is still open");
	for (size_t i = 0; i < kept_count; i++) {
		free(kept[i]->data);
		free(kept[i]);
	}
	free(kept);
	kept = NULL;
	kept_count = 0;
}

void evaluation_new(struct evaluation *e, const char *begin)
{
	const char *ids[ENGINES] = { begin, "prompt", "verify" };
	uint32_t uid = 501;

	memset(e, 0, sizeof(*e));
	item_set(e->context, "username", "ada", 4);
	item_set(e->context, "uid", &uid, sizeof(uid));
	item_set(e->context, "password", "her password", 12);
	for (size_t i = 0; i < ENGINES; i++) {
		e->engines[i] = (struct engine){ .evaluation = e, .id = ids[i] };
		if (host_table->MechanismCreate(host_plugin, (AuthorizationEngineRef)(void *)&e->engines[i], ids[i],
						&e->engines[i].ref) != errAuthorizationSuccess)
			abort();
	}
}

void evaluation_end(struct evaluation *e)
{
	for (size_t i = 0; i < ENGINES; i++)
		engine_destroy(&e->engines[i]);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < ITEMS; i++) {
		keep(e->hints[i].value);
		keep(e->context[i].value);
		keep(e->immutable[i].value);
	}
	pthread_mutex_unlock(&lock);
}

OSStatus engine_invoke(struct engine *e)
{
	OSStatus status;

	pthread_mutex_lock(&lock);
	e->owed++;
	pthread_mutex_unlock(&lock);
	status = host_table->MechanismInvoke(e->ref);
	if (status != errAuthorizationSuccess) {
		pthread_mutex_lock(&lock);
		e->owed--;
		pthread_mutex_unlock(&lock);
	}
	return status;
}

void engine_wait_in_result(struct engine *e)
{
	pthread_mutex_lock(&lock);
	while (!e->in_result && e->results == 0) /* or it was, before this thread ran */
		wait_changed(e, "no result");
	pthread_mutex_unlock(&lock);
}

OSStatus engine_deactivate(struct engine *e)
{
	unsigned before;
	OSStatus status;

	pthread_mutex_lock(&lock);
	before = e->deactivated;
	e->deactivating = true;
	pthread_mutex_unlock(&lock);
	status = host_table->MechanismDeactivate(e->ref);
	pthread_mutex_lock(&lock);
	while (e->deactivated == before)
		wait_changed(e, "Deactivate was not answered");
	pthread_mutex_unlock(&lock);
	return status;
}

void engine_destroy(struct engine *e)
{
	if (e->ref == NULL)
		return;
	if (host_table->MechanismDestroy(e->ref) != errAuthorizationSuccess)
		abort();
	pthread_mutex_lock(&lock);
	e->destroyed = true;
	e->ref = NULL;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

void engine_wait_results(struct engine *e, unsigned results)
{
	pthread_mutex_lock(&lock);
	while (e->results < results)
		wait_changed(e, "no result");
	pthread_mutex_unlock(&lock);
}

void engine_wait_all(struct engine *e)
{
	pthread_mutex_lock(&lock);
	while (e->owed > 0)
		wait_changed(e, "no result");
	pthread_mutex_unlock(&lock);
}

void engine_wait_interrupts(struct engine *e, unsigned interrupts)
{
	pthread_mutex_lock(&lock);
	while (e->interrupts < interrupts)
		wait_changed(e, "no interrupt");
	pthread_mutex_unlock(&lock);
}

/* --- the view --- */

struct view {
	struct screen screen;
	view_done done;
	void *arg;
	bool acting, acted;
};

static struct view *shown;
bool view_broken;

struct view *view_open(const struct screen *screen, view_done done, void *arg)
{
	struct view *v;

	if (view_broken)
		return NULL;
	v = calloc(1, sizeof(*v));
	if (v == NULL)
		abort();
	v->screen = *screen;
	v->done = done;
	v->arg = arg;
	pthread_mutex_lock(&lock);
	while (shown != NULL) /* the one before is being closed */
		wait_changed(NULL, "a second one was opened");
	shown = v;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return v;
}

void view_close(struct view *v)
{
	if (v == NULL)
		return;
	pthread_mutex_lock(&lock);
	v->acted = true;
	while (v->acting)
		wait_changed(NULL, "done does not return");
	shown = NULL;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	free(v);
}

void view_wait(struct screen *s)
{
	pthread_mutex_lock(&lock);
	while (shown == NULL || shown->acted)
		wait_changed(NULL, "none was opened");
	*s = shown->screen;
	pthread_mutex_unlock(&lock);
}

void view_wait_closed(void)
{
	pthread_mutex_lock(&lock);
	while (shown != NULL)
		wait_changed(NULL, "it stays open");
	pthread_mutex_unlock(&lock);
}

bool view_is_open(void)
{
	bool open;

	pthread_mutex_lock(&lock);
	open = shown != NULL;
	pthread_mutex_unlock(&lock);
	return open;
}

void view_act(enum answer_kind kind, const char *text)
{
	struct view *v;
	char *copy = strdup(text);

	if (copy == NULL)
		abort();
	pthread_mutex_lock(&lock);
	v = shown;
	if (v == NULL || v->acted) {
		pthread_mutex_unlock(&lock);
		free(copy);
		return;
	}
	v->acted = v->acting = true;
	pthread_mutex_unlock(&lock);
	v->done(v->arg, kind, copy, strlen(copy));
	free(copy);
	pthread_mutex_lock(&lock);
	v->acting = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}
