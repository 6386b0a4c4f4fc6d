/* What may happen to a mechanism when; what it is for is in begin.c, prompt.c, verify.c. */
#include "plugin.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "platform.h"

enum state {
	IDLE = 0, /* created, or deactivated */
	INVOKED,  /* a result is owed */
	DONE,     /* it was given */
	GONE,     /* destroyed: no word to the host any more */
	STATES,
	NO = STATES,
};

enum event {
	INVOKE,
	ANSWER, /* ours; the others are the host's */
	DEACTIVATE,
	DESTROY,
	EVENTS,
};

/* Whatever is not here is refused. An invocation ends once: by ANSWER, which only an
 * invoked mechanism has, or by the host, which then wants none. */
static const uint8_t legal[STATES][EVENTS] = {
	/*             INVOKE   ANSWER  DEACTIVATE  DESTROY */
	[IDLE]    = {  INVOKED, NO,     IDLE,       GONE },
	[INVOKED] = {  NO,      DONE,   IDLE,       GONE },
	[DONE]    = {  INVOKED, NO,     IDLE,       GONE },
	[GONE]    = {  NO,      NO,     NO,         NO   },
};

/* How long the host is kept waiting for a call to it that another thread makes. */
enum { SETTLE_MS = 2000 };

static bool step(struct mechanism *m, enum event event)
{
	uint8_t next = legal[m->state][event];

	if (next == NO)
		return false;
	m->state = next;
	return true;
}

bool mechanism_waits(const struct mechanism *m)
{
	return m != NULL && m->state == INVOKED;
}

bool mechanism_exists(const struct mechanism *m)
{
	return m->state != GONE;
}

/* --- calls under way --- */

static void enter(struct mechanism *m)
{
	m->users++;
	m->calling++;
	m->caller = pthread_self();
}

static void unuse(struct mechanism *m)
{
	if (--m->users > 0)
		return;
	m->plugin->users--;
	plugin_changed(m->plugin);
	free(m);
}

static void leave(struct mechanism *m)
{
	struct plugin *p = m->plugin;

	m->calling--;
	plugin_changed(p);
	unuse(m);
}

/*
 * A result that is on its way must be there before the host is told that there will
 * be none, or before its engine is gone. A host may call us from within a call of
 * ours, and then there is nothing to wait for.
 */
static void settle(struct mechanism *m)
{
	int64_t until = hc_now_ms() + SETTLE_MS, now;

	while (m->calling > 0 && !pthread_equal(m->caller, pthread_self()) && (now = hc_now_ms()) < until)
		plugin_wait(m->plugin, until - now);
}

/* --- the host's calls --- */

OSStatus mechanism_create(AuthorizationPluginRef plugin, AuthorizationEngineRef engine,
			  AuthorizationMechanismId id, AuthorizationMechanismRef *mechanism)
{
	static const struct mechanism_kind *const kinds[] = { &begin_kind, &begin_session_kind, &prompt_kind, &verify_kind };
	struct plugin *p = plugin;
	struct mechanism *m;

	if (mechanism != NULL)
		*mechanism = NULL;
	if (p == NULL || id == NULL || mechanism == NULL)
		return errAuthorizationInternal;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(id, kinds[i]->id) != 0)
			continue;
		m = calloc(1, sizeof(*m));
		if (m == NULL)
			return errAuthorizationInternal;
		m->plugin = p;
		m->engine = engine;
		m->kind = kinds[i];
		m->users = 1;
		(void)pthread_mutex_lock(&p->lock);
		p->users++;
		(void)pthread_mutex_unlock(&p->lock);
		*mechanism = m;
		return errAuthorizationSuccess;
	}
	log_line(LOG_ERROR, "the rights database asks for a mechanism that is not ours. Look at: sallyport authdb check");
	return errAuthorizationInternal;
}

OSStatus mechanism_invoke(AuthorizationMechanismRef mechanism)
{
	struct mechanism *m = mechanism;
	struct plugin *p;

	if (m == NULL)
		return errAuthorizationInternal;
	p = m->plugin;
	(void)pthread_mutex_lock(&p->lock);
	settle(m);
	if (!step(m, INVOKE)) {
		(void)pthread_mutex_unlock(&p->lock);
		log_line(LOG_ERROR, "%s was invoked while it was", m->kind->id);
		return errAuthorizationInternal;
	}
	enter(m);
	(void)pthread_mutex_unlock(&p->lock);
	m->kind->invoke(m);
	(void)pthread_mutex_lock(&p->lock);
	leave(m);
	plugin_unlock(p);
	return errAuthorizationSuccess;
}

OSStatus mechanism_deactivate(AuthorizationMechanismRef mechanism)
{
	struct mechanism *m = mechanism;
	struct plugin *p;
	OSStatus status;

	if (m == NULL)
		return errAuthorizationInternal;
	p = m->plugin;
	(void)pthread_mutex_lock(&p->lock);
	settle(m);
	if (!step(m, DEACTIVATE)) {
		(void)pthread_mutex_unlock(&p->lock);
		return errAuthorizationInternal;
	}
	enter(m);
	(void)pthread_mutex_unlock(&p->lock);
	if (m->kind->leave != NULL)
		m->kind->leave(m);
	status = p->calls->DidDeactivate(m->engine);
	if (status != errAuthorizationSuccess)
		log_line(LOG_ERROR, "%s: authd took no DidDeactivate: error %d", m->kind->id, (int)status);
	(void)pthread_mutex_lock(&p->lock);
	leave(m);
	plugin_unlock(p);
	return errAuthorizationSuccess;
}

OSStatus mechanism_destroy(AuthorizationMechanismRef mechanism)
{
	struct mechanism *m = mechanism;
	struct plugin *p;

	if (m == NULL)
		return errAuthorizationInternal;
	p = m->plugin;
	(void)pthread_mutex_lock(&p->lock);
	settle(m);
	(void)step(m, DESTROY);
	(void)pthread_mutex_unlock(&p->lock);
	if (m->kind->leave != NULL)
		m->kind->leave(m);
	(void)pthread_mutex_lock(&p->lock);
	unuse(m);
	plugin_unlock(p);
	return errAuthorizationSuccess;
}

/* --- our calls --- */

void mechanism_answer(struct mechanism *m, enum outcome outcome, const struct hint *hint)
{
	struct plugin *p = m->plugin;
	AuthorizationResult result = kAuthorizationResultDeny;
	OSStatus status;

	if (p->closed || !step(m, ANSWER))
		return;
	enter(m);
	(void)pthread_mutex_unlock(&p->lock);
	switch (outcome) {
	case OUTCOME_ALLOW:
		result = kAuthorizationResultAllow;
		break;
	case OUTCOME_CANCEL:
		result = kAuthorizationResultUserCanceled;
		break;
	case OUTCOME_DENY:
		break;
	}
	if (hint != NULL) {
		/* The engine copies it; the structure has no const. */
		AuthorizationValue value = { hint->length, (void *)(uintptr_t)hint->data };

		status = p->calls->SetHintValue(m->engine, hint->key, &value);
		if (status != errAuthorizationSuccess)
			log_line(LOG_ERROR, "%s: authd took no hint: error %d", m->kind->id, (int)status);
	}
	status = p->calls->SetResult(m->engine, result);
	if (status != errAuthorizationSuccess)
		log_line(LOG_ERROR, "%s: authd took no result: error %d", m->kind->id, (int)status);
	(void)pthread_mutex_lock(&p->lock);
	leave(m);
}

bool mechanism_interrupt(struct mechanism *m)
{
	struct plugin *p = m->plugin;
	OSStatus status;

	if (p->closed || m->state != DONE)
		return false;
	enter(m);
	(void)pthread_mutex_unlock(&p->lock);
	status = p->calls->RequestInterrupt(m->engine);
	if (status != errAuthorizationSuccess)
		log_line(LOG_ERROR, "%s: authd took no interrupt: error %d", m->kind->id, (int)status);
	(void)pthread_mutex_lock(&p->lock);
	leave(m);
	return status == errAuthorizationSuccess;
}
