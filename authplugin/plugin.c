/*
 * The authorization plug-in: what authd's host finds (AuthorizationPluginCreate), and
 * what all mechanisms of one instance have in common. See plugin.h.
 */
#define _GNU_SOURCE /* pthread_condattr_setclock */

#include "plugin.h"

#include <stdlib.h>
#include <time.h>
#ifdef __APPLE__
#include <xpc/xpc.h>
#endif

#include "log.h"
#include "login.h"
#include "platform.h"

enum {
	/* How long PluginDestroy waits for threads that are on their last steps. */
	THREADS_MS = 2000,
	/* Ours need few buffers; nghttp2 and the system's log need some room. */
	STACK_SIZE = 512 * 1024,
};

static OSStatus plugin_destroy(AuthorizationPluginRef plugin);

static const AuthorizationPluginInterface table = {
	.version = kAuthorizationPluginInterfaceVersion,
	.PluginDestroy = plugin_destroy,
	.MechanismCreate = mechanism_create,
	.MechanismInvoke = mechanism_invoke,
	.MechanismDeactivate = mechanism_deactivate,
	.MechanismDestroy = mechanism_destroy,
};

/* Waits are measured by a clock that nobody sets; Darwin has no name for that here,
 * and a wait of its own for it. */
static int init_cond(pthread_cond_t *cond)
{
#ifdef __APPLE__
	return pthread_cond_init(cond, NULL);
#else
	pthread_condattr_t attr;
	int error = pthread_condattr_init(&attr);

	if (error != 0)
		return error;
	error = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (error == 0)
		error = pthread_cond_init(cond, &attr);
	(void)pthread_condattr_destroy(&attr);
	return error;
#endif
}

void plugin_wait(struct plugin *p, int64_t ms)
{
	struct timespec t = { 0, 0 };

	if (ms <= 0)
		return;
#ifdef __APPLE__
	t.tv_sec = (time_t)(ms / 1000);
	t.tv_nsec = (long)(ms % 1000) * 1000000;
	(void)pthread_cond_timedwait_relative_np(&p->changed, &p->lock, &t);
#else
	if (clock_gettime(CLOCK_MONOTONIC, &t) != 0)
		return;
	t.tv_sec += (time_t)(ms / 1000);
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	(void)pthread_cond_timedwait(&p->changed, &p->lock, &t);
#endif
}

/* A host of plug-ins is an XPC service, which macOS may end when it has no request to
 * answer: and begin has answered long before a login is over (xpc_transaction_begin). */
static void keep_host(bool keep)
{
#ifdef __APPLE__
	if (keep)
		xpc_transaction_begin();
	else
		xpc_transaction_end();
#else
	(void)keep;
#endif
}

void plugin_changed(struct plugin *p)
{
	(void)pthread_cond_broadcast(&p->changed);
}

bool plugin_thread(struct plugin *p, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	bool started;

	if (pthread_attr_init(&attr) != 0)
		return false;
	started = pthread_attr_setstacksize(&attr, STACK_SIZE) == 0 &&
		  pthread_create(&thread, &attr, run, arg) == 0;
	(void)pthread_attr_destroy(&attr);
	if (started) {
		p->users++;
		keep_host(true);
	}
	return started;
}

void plugin_thread_end(struct plugin *p)
{
	pthread_t before = p->ended;
	bool join = p->has_ended;

	keep_host(false);
	p->has_ended = !p->unjoined;
	if (p->unjoined)
		(void)pthread_detach(pthread_self());
	else
		p->ended = pthread_self();
	plugin_leave(p);
	if (join)
		(void)pthread_join(before, NULL); /* it is on its last steps */
}

void plugin_leave(struct plugin *p)
{
	p->users--;
	plugin_changed(p);
	plugin_unlock(p);
}

void plugin_unlock(struct plugin *p)
{
	bool last = p->users == 0;

	(void)pthread_mutex_unlock(&p->lock);
	if (!last)
		return;
	(void)pthread_cond_destroy(&p->changed);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

static bool has_all_calls(const AuthorizationCallbacks *c)
{
	return c->SetResult != NULL && c->RequestInterrupt != NULL && c->DidDeactivate != NULL &&
	       c->GetContextValue != NULL && c->GetHintValue != NULL && c->SetHintValue != NULL &&
	       c->GetSessionId != NULL;
}

__attribute__((visibility("default")))
OSStatus AuthorizationPluginCreate(const AuthorizationCallbacks *callbacks, AuthorizationPluginRef *plugin,
				   const AuthorizationPluginInterface **interface)
{
	struct plugin *p;

	if (plugin != NULL)
		*plugin = NULL;
	if (interface != NULL)
		*interface = NULL;
	if (callbacks == NULL || plugin == NULL || interface == NULL || !has_all_calls(callbacks))
		return errAuthorizationInternal;
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return errAuthorizationInternal;
	p->calls = callbacks;
	p->users = 1;
	if (pthread_mutex_init(&p->lock, NULL) != 0) {
		free(p);
		return errAuthorizationInternal;
	}
	if (init_cond(&p->changed) != 0) {
		(void)pthread_mutex_destroy(&p->lock);
		free(p);
		return errAuthorizationInternal;
	}
	*plugin = p;
	*interface = &table;
	return errAuthorizationSuccess;
}

static OSStatus plugin_destroy(AuthorizationPluginRef plugin)
{
	struct plugin *p = plugin;
	int64_t until = hc_now_ms() + THREADS_MS, now;
	pthread_t last;
	bool join;

	if (p == NULL)
		return errAuthorizationInternal;
	(void)pthread_mutex_lock(&p->lock);
	p->closed = true;
	login_stop_all(p);
	plugin_changed(p);
	/* The code of a thread must not go before it does. */
	while (p->users > 1 && (now = hc_now_ms()) < until)
		plugin_wait(p, until - now);
	if (p->users > 1)
		log_line(LOG_ERROR, "the host ended the plug-in with %u mechanisms or threads left", p->users - 1);
	last = p->ended;
	join = p->has_ended;
	p->has_ended = false;
	p->unjoined = true;
	plugin_leave(p);
	if (join)
		(void)pthread_join(last, NULL);
	return errAuthorizationSuccess;
}
