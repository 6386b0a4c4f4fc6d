/* Runs lists of mechanisms, and plays what the plug-in calls. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

enum { GRAVES = 64 }; /* destroyed mechanisms whose memory is kept, to see who uses them */

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static struct engine *engines[ENGINES];
static struct mechanism *graves;
static const AuthorizationPluginInterface *plugin;
static AuthorizationPluginRef instances[2]; /* SecurityAgent's and the privileged host's */
static unsigned instance_count;
static AuthorizationCallbacks *callbacks;

static const char *const results[] = { "allow", "deny", "undefined", "cancel" };

/* --- what the plug-in calls --- */

static struct {
	const char *name;
	int count; /* of calls that fail from now on; negative: all */
} failures[] = {
	{ "SetResult", 0 },	  { "RequestInterrupt", 0 }, { "DidDeactivate", 0 },
	{ "GetContextValue", 0 }, { "SetContextValue", 0 },  { "GetHintValue", 0 },
	{ "SetHintValue", 0 },	  { "GetArguments", 0 },     { "GetSessionId", 0 },
	{ "GetImmutableHintValue", 0 }, { "RemoveHintValue", 0 }, { "RemoveContextValue", 0 },
};

int *failing(const char *callback)
{
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++)
		if (strcmp(failures[i].name, callback) == 0)
			return &failures[i].count;
	return NULL;
}

/* Takes the lock; NULL: the call fails, and the lock is not held. */
static struct mechanism *enter(AuthorizationEngineRef ref, const char *callback)
{
	struct mechanism *m = (struct mechanism *)ref;
	int *fails = failing(callback);

	pthread_mutex_lock(&lock);
	if (m->standing == DESTROYED) {
		violation(NULL, "%s: %s with an engine that was destroyed", m->name, callback);
	} else if (fails != NULL && *fails != 0) {
		if (*fails > 0)
			(*fails)--;
		say(m->engine, "failed %s %s", m->name, callback);
	} else {
		return m;
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

static OSStatus leave(OSStatus status)
{
	pthread_mutex_unlock(&lock);
	return status;
}

static OSStatus set_result(AuthorizationEngineRef ref, AuthorizationResult result)
{
	struct mechanism *m = enter(ref, "SetResult");

	if (m == NULL)
		return errAuthorizationInternal;
	if (result > kAuthorizationResultUserCanceled) {
		violation(m->engine, "%s sets the result %u", m->name, result);
		result = kAuthorizationResultUndefined;
	}
	m->results++;
	if (m->results > 1) {
		violation(m->engine, "%s sets %u results for one invocation", m->name, m->results);
	} else if (m->standing == DEACTIVATING) {
		/* It crossed Deactivate, and counts no more. */
		if (m->did_deactivate)
			violation(m->engine, "%s sets a result behind its DidDeactivate", m->name);
	} else if (m->standing != CURRENT) {
		violation(m->engine, "%s sets a result and is not invoked", m->name);
	} else {
		m->has_result = true;
		m->result = result;
		pthread_cond_broadcast(&changed);
	}
	return leave(errAuthorizationSuccess);
}

/* What authd does on a mechanism's request. */
static void interrupt(struct mechanism *by)
{
	struct engine *e = by->engine;

	by->standing = INTERRUPTING;
	for (size_t i = 0; i < e->count; i++)
		if (e->list[i]->standing == ACTIVE)
			e->list[i]->standing = INTERRUPTED;
	pthread_cond_broadcast(&changed);
}

static OSStatus request_interrupt(AuthorizationEngineRef ref)
{
	struct mechanism *m = enter(ref, "RequestInterrupt");

	if (m == NULL)
		return errAuthorizationInternal;
	if (!m->has_result && m->standing == CURRENT)
		violation(m->engine, "%s interrupts, and has set no result", m->name);
	say(m->engine, m->engine->deaf ? "ignored %s" : "interrupt %s", m->name);
	if (!m->engine->deaf && m->standing != DEACTIVATING)
		interrupt(m);
	return leave(errAuthorizationSuccess);
}

static OSStatus did_deactivate(AuthorizationEngineRef ref)
{
	struct mechanism *m = enter(ref, "DidDeactivate");

	if (m == NULL)
		return errAuthorizationInternal;
	if (m->standing != DEACTIVATING)
		violation(m->engine, "%s: DidDeactivate, and nobody asked", m->name);
	else if (m->did_deactivate)
		violation(m->engine, "%s: DidDeactivate twice", m->name);
	m->did_deactivate = true;
	pthread_cond_broadcast(&changed);
	return leave(errAuthorizationSuccess);
}

static OSStatus get(const struct items *items, AuthorizationString key, AuthorizationContextFlags *flags,
		    const AuthorizationValue **value)
{
	const struct item *item = items_find(items, key);

	if (item == NULL)
		return errAuthorizationInternal;
	if (flags != NULL)
		*flags = item->flags;
	*value = &item->value;
	return errAuthorizationSuccess;
}

static OSStatus set(struct mechanism *m, struct items *items, AuthorizationString key,
		    AuthorizationContextFlags flags, const AuthorizationValue *value)
{
	if (key == NULL || strlen(key) >= NAME_SIZE || value == NULL || (value->data == NULL && value->length > 0)) {
		violation(m->engine, "%s sets a value that is none", m->name);
		return errAuthorizationInternal;
	}
	items_set(items, key, flags, value->data, value->length, false);
	return errAuthorizationSuccess;
}

static OSStatus get_context(AuthorizationEngineRef ref, AuthorizationString key, AuthorizationContextFlags *flags,
			    const AuthorizationValue **value)
{
	struct mechanism *m = enter(ref, "GetContextValue");

	return m == NULL ? errAuthorizationInternal : leave(get(&m->context, key, flags, value));
}

static OSStatus set_context(AuthorizationEngineRef ref, AuthorizationString key, AuthorizationContextFlags flags,
			    const AuthorizationValue *value)
{
	struct mechanism *m = enter(ref, "SetContextValue");

	return m == NULL ? errAuthorizationInternal : leave(set(m, &m->context, key, flags, value));
}

static OSStatus get_hint(AuthorizationEngineRef ref, AuthorizationString key, const AuthorizationValue **value)
{
	struct mechanism *m = enter(ref, "GetHintValue");

	return m == NULL ? errAuthorizationInternal : leave(get(&m->hints, key, NULL, value));
}

static OSStatus set_hint(AuthorizationEngineRef ref, AuthorizationString key, const AuthorizationValue *value)
{
	struct mechanism *m = enter(ref, "SetHintValue");

	return m == NULL ? errAuthorizationInternal : leave(set(m, &m->hints, key, 0, value));
}

static OSStatus get_arguments(AuthorizationEngineRef ref, const AuthorizationValueVector **arguments)
{
	static const AuthorizationValueVector none = { 0, NULL };
	struct mechanism *m = enter(ref, "GetArguments");

	if (m == NULL)
		return errAuthorizationInternal;
	*arguments = &none;
	return leave(errAuthorizationSuccess);
}

static OSStatus get_session(AuthorizationEngineRef ref, AuthorizationSessionId *session)
{
	struct mechanism *m = enter(ref, "GetSessionId");

	if (m == NULL)
		return errAuthorizationInternal;
	*session = m->engine;
	return leave(errAuthorizationSuccess);
}

static OSStatus get_immutable(AuthorizationEngineRef ref, AuthorizationString key, const AuthorizationValue **value)
{
	struct mechanism *m = enter(ref, "GetImmutableHintValue");

	return m == NULL ? errAuthorizationInternal : leave(get(&m->engine->immutable, key, NULL, value));
}

static OSStatus get_la(AuthorizationEngineRef ref, const void **context)
{
	(void)ref;
	(void)context;
	return errAuthorizationInternal;
}

static OSStatus get_identities(AuthorizationEngineRef ref, const void *context, const void **identities)
{
	(void)ref;
	(void)context;
	(void)identities;
	return errAuthorizationInternal;
}

static OSStatus remove_hint(AuthorizationEngineRef ref, AuthorizationString key)
{
	struct mechanism *m = enter(ref, "RemoveHintValue");

	if (m == NULL)
		return errAuthorizationInternal;
	items_remove(&m->hints, key);
	return leave(errAuthorizationSuccess);
}

static OSStatus remove_context(AuthorizationEngineRef ref, AuthorizationString key)
{
	struct mechanism *m = enter(ref, "RemoveContextValue");

	if (m == NULL)
		return errAuthorizationInternal;
	items_remove(&m->context, key);
	return leave(errAuthorizationSuccess);
}

/* --- the plug-in --- */

/* An older system's callbacks end earlier; what is behind is not there to be read. */
static AuthorizationCallbacks *make_callbacks(unsigned version)
{
	static const size_t ends[] = {
		offsetof(AuthorizationCallbacks, GetImmutableHintValue),
		offsetof(AuthorizationCallbacks, GetLAContext),
		offsetof(AuthorizationCallbacks, GetTKTokenWatcher),
		offsetof(AuthorizationCallbacks, RemoveHintValue),
	};
	const AuthorizationCallbacks all = {
		version,       set_result,  request_interrupt, did_deactivate, get_context, set_context,
		get_hint,      set_hint,    get_arguments,     get_session,    get_immutable, get_la,
		get_identities, get_la,     remove_hint,       remove_context,
	};
	size_t size = version < sizeof(ends) / sizeof(ends[0]) ? ends[version] : sizeof(all);
	AuthorizationCallbacks *made = must(malloc(size));

	memcpy(made, &all, size);
	return made;
}

bool plugin_load(const char *path, unsigned version, unsigned count)
{
	OSStatus (*create)(const AuthorizationCallbacks *, AuthorizationPluginRef *,
			   const AuthorizationPluginInterface **);
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (handle == NULL) {
		fprintf(stderr, "authd: %s\n", dlerror());
		return false;
	}
	*(void **)&create = dlsym(handle, "AuthorizationPluginCreate");
	if (create == NULL) {
		fprintf(stderr, "authd: %s exports no AuthorizationPluginCreate\n", path);
		return false;
	}
	callbacks = make_callbacks(version);
	for (instance_count = 0; instance_count < count; instance_count++) {
		OSStatus status = create(callbacks, &instances[instance_count], &plugin);

		if (status != errAuthorizationSuccess || plugin == NULL) {
			fprintf(stderr, "authd: AuthorizationPluginCreate: %d\n", status);
			return false;
		}
	}
	return true;
}

void plugin_unload(void)
{
	while (instance_count > 0)
		if (plugin->PluginDestroy(instances[--instance_count]) != errAuthorizationSuccess)
			violation(NULL, "PluginDestroy failed");
	while (graves != NULL) {
		struct mechanism *m = graves;

		graves = m->next;
		free(m);
	}
	free(callbacks);
}

/* --- a mechanism; the lock is held --- */

static bool create(struct mechanism *m)
{
	AuthorizationPluginRef instance = instances[m->privileged && instance_count > 1 ? 1 : 0];
	OSStatus status;

	pthread_mutex_unlock(&lock);
	status = plugin->MechanismCreate(instance, (AuthorizationEngineRef)m, m->name, &m->ref);
	pthread_mutex_lock(&lock);
	if (status != errAuthorizationSuccess) {
		say(m->engine, "uncreated %s %d", m->name, status);
		return false;
	}
	m->standing = CREATED;
	return true;
}

/* Whether one before the list's place has asked for the list to go on from it. */
static bool interrupted(const struct engine *e, size_t *from)
{
	for (size_t i = 0; i < e->at; i++)
		if (e->list[i]->standing == INTERRUPTING) {
			*from = i;
			return true;
		}
	return false;
}

/* Waits for a change; false once, when it is late. */
static bool wait_until(const struct timespec *deadline)
{
	return pthread_cond_timedwait(&changed, &lock, deadline) == 0;
}

struct timespec in_seconds(int seconds)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += seconds;
	return t;
}

static AuthorizationResult run_foreign(struct mechanism *m)
{
	struct engine *e = m->engine;
	size_t from;

	m->standing = CURRENT;
	m->result = kAuthorizationResultUndefined;
	if (strstr(m->name, "slow") != NULL) {
		say(e, "busy %s", m->name);
		while (!e->go && !e->abandoned && !interrupted(e, &from))
			pthread_cond_wait(&changed, &lock);
		e->go = false;
		if (e->abandoned || interrupted(e, &from))
			return kAuthorizationResultUndefined;
	}
	m->standing = ACTIVE;
	m->result = kAuthorizationResultAllow;
	return m->result;
}

static AuthorizationResult run(struct mechanism *m)
{
	struct engine *e = m->engine;
	struct timespec deadline = in_seconds(RESULT_LATE_S);
	OSStatus status;
	size_t from;

	if (m->standing == INTERRUPTED) { /* it is not even invoked: what it said before counts */
		say(e, "skip %s", m->name);
		items_merge(&e->hints, &m->hints);
		items_merge(&e->context, &m->context);
		return m->result;
	}
	if (m->foreign)
		return run_foreign(m);
	if (m->standing == ABSENT && !create(m))
		return kAuthorizationResultUndefined;
	items_clear(&m->hints);
	items_clear(&m->context);
	items_merge(&m->hints, &e->hints);
	items_merge(&m->context, &e->context);
	m->standing = CURRENT;
	m->has_result = false;
	m->results = 0;
	m->result = kAuthorizationResultUndefined;
	say(e, "invoke %s", m->name);
	pthread_mutex_unlock(&lock);
	invoking = e;
	status = plugin->MechanismInvoke(m->ref);
	invoking = NULL;
	pthread_mutex_lock(&lock);
	if (status != errAuthorizationSuccess && !m->has_result) {
		say(e, "uninvoked %s %d", m->name, status);
		m->standing = ACTIVE;
		return kAuthorizationResultUndefined;
	}
	while (!m->has_result && !interrupted(e, &from) && !e->abandoned)
		if (!wait_until(&deadline)) {
			if (e->view == NULL)
				violation(e, "%s sets no result", m->name);
			deadline = in_seconds(RESULT_LATE_S);
		}
	if (!m->has_result)
		return kAuthorizationResultUndefined;
	say(e, "result %s %s", m->name, results[m->result]);
	if (m->standing == CURRENT)
		m->standing = ACTIVE;
	items_merge(&e->hints, &m->hints);
	items_merge(&e->context, &m->context);
	items_renew(&m->hints);
	items_renew(&m->context);
	return m->result;
}

static void deactivate(struct mechanism *m)
{
	struct engine *e = m->engine;
	struct timespec deadline;

	if (m->foreign) {
		m->standing = ACTIVE;
		return;
	}
	m->standing = DEACTIVATING;
	m->did_deactivate = false;
	say(e, "deactivate %s", m->name);
	pthread_mutex_unlock(&lock);
	if (plugin->MechanismDeactivate(m->ref) != errAuthorizationSuccess)
		violation(e, "MechanismDeactivate of %s failed", m->name);
	pthread_mutex_lock(&lock);
	deadline = in_seconds(RESULT_LATE_S);
	while (!m->did_deactivate && !e->abandoned)
		if (!wait_until(&deadline)) {
			violation(e, "%s does not say DidDeactivate", m->name);
			deadline = in_seconds(RESULT_LATE_S);
		}
	if (m->did_deactivate)
		say(e, "deactivated %s", m->name);
	m->standing = ACTIVE;
}

static void destroy(struct mechanism *m)
{
	struct mechanism **end = &graves;

	if (m->ref != NULL) {
		pthread_mutex_unlock(&lock);
		if (plugin->MechanismDestroy(m->ref) != errAuthorizationSuccess)
			violation(m->engine, "MechanismDestroy of %s failed", m->name);
		pthread_mutex_lock(&lock);
	}
	m->standing = DESTROYED;
	items_clear(&m->hints);
	items_clear(&m->context);
	m->next = graves;
	graves = m;
	for (unsigned n = 0; *end != NULL; n++) {
		if (n == GRAVES) {
			free(*end);
			*end = NULL;
			break;
		}
		end = &(*end)->next;
	}
}

/* --- a list; the lock is held --- */

/* Waits for the driver where it wants to be asked. False: that is the end. */
static bool driver_agrees(struct engine *e)
{
	e->paused = true;
	while (!e->go && !e->stop && !e->abandoned)
		pthread_cond_wait(&changed, &lock);
	e->paused = e->go = false;
	return !e->stop && !e->abandoned;
}

/* Goes on with one that has interrupted, and what it left. */
static void go_on_from(struct engine *e, size_t from)
{
	items_merge(&e->context, &e->list[from]->context);
	items_merge(&e->hints, &e->list[from]->hints);
	e->at = from;
}

/*
 * engine.c of authd, _evaluate_mechanisms. Whoever runs when another interrupts is
 * deactivated, and then all are invoked again. Between two mechanisms nobody is
 * deactivated, and INTERRUPTED stays: until an interrupt comes while one runs, those
 * that had their say are not asked again, in later tries neither.
 */
static AuthorizationResult evaluate(struct engine *e)
{
	size_t from;

	items_clear(&e->hints);
	items_clear(&e->context);
	items_merge(&e->hints, &e->given_hints);
	items_merge(&e->context, &e->given_context);
	items_merge(&e->context, &e->sticky);
	for (e->at = 0; e->at < e->count;) {
		struct mechanism *m = e->list[e->at];
		AuthorizationResult result;

		if (e->stepping) {
			say(e, "pause %s", m->name);
			if (!driver_agrees(e))
				return kAuthorizationResultUndefined;
		}
		if (interrupted(e, &from)) {
			go_on_from(e, from);
			continue;
		}
		result = run(m);
		if (e->abandoned)
			return kAuthorizationResultUndefined;
		if (m == e->crossed) {
			e->crossed = NULL;
			interrupt(e->crosses);
		}
		if (interrupted(e, &from)) {
			deactivate(m);
			if (e->abandoned)
				return kAuthorizationResultUndefined;
			go_on_from(e, from);
			for (size_t i = 0; i < e->count; i++)
				if (e->list[i]->standing == INTERRUPTED)
					e->list[i]->standing = ACTIVE;
			continue;
		}
		if (result != kAuthorizationResultAllow)
			return result;
		e->at++;
	}
	return kAuthorizationResultAllow;
}

/* What was typed is in no value that a later mechanism of the list could read. */
static void look_for_answers(struct engine *e, const struct items *items, const char *where)
{
	for (size_t i = 0; i < items->count; i++)
		for (size_t t = 0; t < e->typed_count; t++) {
			const struct item *item = &items->list[i];

			if (!item->given && e->typed_length[t] >= 4 &&
			    memmem(item->value.data, item->value.length, e->typed[t], e->typed_length[t]) != NULL)
				violation(e, "what was typed is in the %s %s", where, item->key);
		}
}

static void *evaluation(void *arg)
{
	struct engine *e = arg;
	AuthorizationResult result = kAuthorizationResultUndefined;

	pthread_mutex_lock(&lock);
	for (unsigned tries = 1;; tries++) {
		result = evaluate(e);
		items_clear(&e->sticky);
		for (size_t i = 0; i < e->context.count; i++)
			if ((e->context.list[i].flags & kAuthorizationContextFlagSticky) != 0)
				items_set(&e->sticky, e->context.list[i].key, e->context.list[i].flags,
					  e->context.list[i].value.data, e->context.list[i].value.length,
					  e->context.list[i].given);
		if (!e->abandoned) {
			look_for_answers(e, &e->hints, "hint");
			look_for_answers(e, &e->context, "context value");
		}
		if (result != kAuthorizationResultDeny || tries >= e->tries || e->abandoned)
			break;
		e->between = true;
		say(e, "again %u", tries);
		if (!driver_agrees(e))
			break;
		e->between = false;
	}
	if (!e->abandoned && !view_wait_closed(e))
		violation(e, "the view is still open behind the end");
	say(e, "ended %s", e->abandoned ? "abandoned" : results[result]);
	e->running = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* --- engines; the lock is held --- */

struct engine *engine_get(unsigned number)
{
	if (engines[number] == NULL) {
		engines[number] = must(calloc(1, sizeof(struct engine)));
		engines[number]->number = number;
		engines[number]->tries = 1;
	}
	return engines[number];
}

bool engine_list(struct engine *e, char *names)
{
	static const char privileged[] = ",privileged";
	char *rest = NULL;

	for (char *name = strtok_r(names, " ", &rest); name != NULL; name = strtok_r(NULL, " ", &rest)) {
		struct mechanism *m;
		char *flag = strstr(name, privileged);

		if (e->count == MECHANISMS)
			return false;
		m = must(calloc(1, sizeof(*m)));
		m->engine = e;
		m->privileged = flag != NULL;
		if (flag != NULL)
			*flag = '\0';
		m->foreign = strncmp(name, "other:", 6) == 0;
		snprintf(m->name, sizeof(m->name), "%s", name);
		e->list[e->count++] = m;
	}
	return true;
}

bool engine_run(struct engine *e)
{
	if (e->running || e->count == 0)
		return false;
	if (e->started)
		pthread_join(e->thread, NULL);
	e->started = e->running = true;
	e->stop = e->go = false;
	return pthread_create(&e->thread, NULL, evaluation, e) == 0;
}

struct mechanism *engine_mechanism(struct engine *e, const char *name)
{
	for (size_t i = 0; i < e->count; i++)
		if (strcmp(e->list[i]->name, name) == 0)
			return e->list[i];
	return NULL;
}

void engine_interrupt(struct engine *e, const char *name)
{
	struct mechanism *m = engine_mechanism(e, name);

	if (m != NULL && m->standing == ACTIVE)
		interrupt(m);
}

void engine_cross(struct engine *e, const char *by, const char *result_of)
{
	e->crosses = engine_mechanism(e, by);
	e->crossed = e->crosses != NULL ? engine_mechanism(e, result_of) : NULL;
}

void engine_remember(struct engine *e, const char *text, size_t length)
{
	size_t i = e->typed_count < TYPED ? e->typed_count++ : TYPED - 1;

	free(e->typed[i]);
	e->typed[i] = must(malloc(length + 1));
	memcpy(e->typed[i], text, length);
	e->typed[i][length] = '\0';
	e->typed_length[i] = length;
}

void engine_close(struct engine *e)
{
	bool open = e->running;

	/* An abandoned mechanism is destroyed as it stands; the thread only waits. */
	e->abandoned = true;
	pthread_cond_broadcast(&changed);
	if (e->started) {
		pthread_mutex_unlock(&lock);
		pthread_join(e->thread, NULL);
		pthread_mutex_lock(&lock);
	}
	for (size_t i = 0; i < e->count; i++)
		destroy(e->list[i]);
	if (!view_wait_closed(e))
		violation(e, "the view is still open behind Destroy");
	items_clear(&e->given_hints);
	items_clear(&e->given_context);
	items_clear(&e->immutable);
	items_clear(&e->hints);
	items_clear(&e->context);
	items_clear(&e->sticky);
	for (size_t i = 0; i < e->typed_count; i++)
		free(e->typed[i]);
	say(e, open ? "destroyed open" : "destroyed");
	engines[e->number] = NULL;
	free(e);
}

struct engine *engine_showing(const struct screen *screen)
{
	struct engine *found = NULL;

	for (size_t i = 0; i < ENGINES; i++) {
		struct engine *e = engines[i];

		for (size_t j = 0; e != NULL && j < e->count; j++) {
			const struct item *hint = items_find(&e->list[j]->hints, SCREEN_HINT);

			/* Two may have the same, where one of them was given the other's. */
			if (hint != NULL && hint->value.length == sizeof(*screen) &&
			    memcmp((const uint8_t *)hint->value.data + offsetof(struct screen, login), screen->login,
				   sizeof(screen->login)) == 0 &&
			    (found == NULL || found->view != NULL))
				found = e;
		}
	}
	return found;
}

void engines_close(void)
{
	for (size_t i = 0; i < ENGINES; i++)
		if (engines[i] != NULL)
			engine_close(engines[i]);
}
