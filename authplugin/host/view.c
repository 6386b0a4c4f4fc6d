/* SecurityAgent's window, as far as a script needs one. */
#include <stdlib.h>
#include <string.h>

#include "host.h"

struct view {
	struct engine *engine;
	struct screen screen;
	view_done done;
	void *arg;
	bool asked;   /* the person has done something: done was called, or is to be */
	bool calling; /* done runs */
};

_Thread_local struct engine *invoking;
static unsigned to_fail;

void views_fail(unsigned count) { to_fail = count; }

void view_say(const struct engine *e) { say(e, "idle"); }

static void say_shown(const struct engine *e, const struct screen *s)
{
	static const char *const kinds[] = { "none", "ask", "tell" };
	char *text[5] = { to_hex(s->phone, strnlen(s->phone, sizeof(s->phone))),
			  to_hex(s->user, strnlen(s->user, sizeof(s->user))),
			  to_hex(s->text, strnlen(s->text, sizeof(s->text))),
			  to_hex(s->notice, strnlen(s->notice, sizeof(s->notice))),
			  to_hex(s->qr, strnlen(s->qr, sizeof(s->qr))) };

	say(e, "shown %s %u %u %u %u %u %s %s %s %s %s", s->kind < 3 ? kinds[s->kind] : "unknown", s->prompt,
	    s->visible, s->may_be_empty, s->ringing, s->number, text[0], text[1], text[2], text[3], text[4]);
	for (size_t i = 0; i < 5; i++)
		free(text[i]);
}

bool view_wait_closed(struct engine *e)
{
	struct timespec deadline = in_seconds(CLOSE_LATE_S);

	while (e->view != NULL)
		if (pthread_cond_timedwait(&changed, &lock, &deadline) != 0)
			return false;
	return true;
}

struct view *host_view_open(const struct screen *screen, view_done done, void *arg)
{
	struct view *v = must(calloc(1, sizeof(*v)));
	struct engine *e;

	pthread_mutex_lock(&lock);
	e = invoking != NULL ? invoking : engine_showing(screen);
	if (e == NULL) { /* destroyed meanwhile: nobody sees it, and it is closed at once */
		pthread_mutex_unlock(&lock);
		return v;
	}
	if (to_fail > 0) {
		to_fail--;
		pthread_mutex_unlock(&lock);
		free(v);
		say(e, "unshown");
		return NULL;
	}
	/* The one before may be closed on another thread yet. */
	if (!view_wait_closed(e))
		violation(e, "a second view is opened");
	*v = (struct view){ .engine = e, .screen = *screen, .done = done, .arg = arg };
	e->view = v;
	say_shown(e, screen);
	pthread_mutex_unlock(&lock);
	return v;
}

bool view_answer(struct engine *e, enum answer_kind kind, const char *text, size_t length)
{
	struct view *v = e->view;

	if (v == NULL || v->asked)
		return false;
	v->asked = true;
	v->calling = true;
	/* In memory of its own size, and gone when done returns. */
	char *copy = must(malloc(length > 0 ? length : 1));
	if (length > 0)
		memcpy(copy, text, length);
	pthread_mutex_unlock(&lock);
	v->done(v->arg, kind, copy, length);
	memset(copy, 0xDB, length);
	free(copy);
	pthread_mutex_lock(&lock);
	v->calling = false;
	pthread_cond_broadcast(&changed);
	return true;
}

void host_view_close(struct view *v)
{
	struct engine *e = v->engine;

	if (e == NULL) {
		free(v);
		return;
	}
	pthread_mutex_lock(&lock);
	if (e->view != v)
		violation(e, "a view is closed that is not open");
	v->asked = true;
	while (v->calling)
		pthread_cond_wait(&changed, &lock);
	e->view = NULL;
	say(e, "closed");
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	memset(v, 0xDB, sizeof(*v));
	free(v);
}
