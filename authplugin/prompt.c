/*
 * prompt: shows the screen that begin left, in SecurityAgent, and leaves verify what
 * the person did. It decides nothing and always lets pass; it has no files and no
 * socket.
 */
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "platform.h"
#include "plugin.h"
#include "view.h"

/* More than a login lasts: it has its own bound, and tells when that is over. */
static const int64_t shown_max_ms = 45 * 60 * 1000;

/* What one invocation shows, on a thread of its own: the view is closed where nobody
 * waits for it, least of all the host's main thread, on which the view draws. */
struct showing {
	struct plugin *plugin;
	struct screen screen;

	/* With the lock. */
	struct mechanism *mechanism; /* NULL: nobody wants the answer any more */
	struct answer answer;
	bool done;
};

static void answer_init(struct answer *a, const struct screen *s)
{
	memset(a, 0, sizeof(*a));
	a->version = SCREEN_VERSION;
	a->kind = ANSWER_NONE;
	memcpy(a->login, s->login, sizeof(a->login));
	a->prompt = s->prompt;
}

/* With the lock. */
static void leave_answer(struct mechanism *m, struct answer *a)
{
	struct hint hint = { ANSWER_HINT, a, sizeof(*a) };

	mechanism_answer(m, OUTCOME_ALLOW, &hint);
}

static void on_done(void *arg, enum answer_kind kind, const char *text, size_t length)
{
	struct showing *s = arg;

	(void)pthread_mutex_lock(&s->plugin->lock);
	if (!s->done && (kind == ANSWER_CANCEL || (kind == ANSWER_TEXT && length <= sizeof(s->answer.text)))) {
		s->answer.kind = (uint32_t)kind;
		s->answer.length = kind == ANSWER_TEXT ? (uint32_t)length : 0;
		if (s->answer.length > 0)
			memcpy(s->answer.text, text, length);
	}
	s->done = true;
	plugin_changed(s->plugin);
	(void)pthread_mutex_unlock(&s->plugin->lock);
}

static void *show(void *arg)
{
	struct showing *s = arg;
	struct plugin *p = s->plugin;
	int64_t until = hc_now_ms() + shown_max_ms, now;
	struct view *view = NULL;
	struct mechanism *m;
	bool wanted;

	(void)pthread_mutex_lock(&p->lock);
	wanted = s->mechanism != NULL && !p->closed; /* else it would only flash up */
	(void)pthread_mutex_unlock(&p->lock);
	if (wanted) {
		view = view_open(&s->screen, on_done, s);
		if (view == NULL)
			log_line(LOG_ERROR, "the window for the second factor could not be opened");
	}
	(void)pthread_mutex_lock(&p->lock);
	while (view != NULL && !s->done && s->mechanism != NULL && !p->closed && (now = hc_now_ms()) < until)
		plugin_wait(p, until - now);
	(void)pthread_mutex_unlock(&p->lock);
	view_close(view);
	(void)pthread_mutex_lock(&p->lock);
	m = s->mechanism;
	if (m != NULL) {
		m->showing = NULL;
		leave_answer(m, &s->answer);
	}
	hc_wipe(s, sizeof(*s));
	free(s);
	plugin_thread_end(p);
	return NULL;
}

static void invoke(struct mechanism *m)
{
	struct plugin *p = m->plugin;
	struct showing *s = calloc(1, sizeof(*s));
	struct screen screen;
	struct answer none;
	bool shown = false;

	if (!engine_screen(m, &screen))
		log_line(LOG_ERROR, "begin left no screen that can be read");
	answer_init(&none, &screen);
	(void)pthread_mutex_lock(&p->lock);
	if (s != NULL && screen.kind != SCREEN_NONE) {
		s->plugin = p;
		s->screen = screen;
		s->mechanism = m;
		s->answer = none;
		shown = plugin_thread(p, show, s);
	}
	if (shown)
		m->showing = s;
	else
		leave_answer(m, &none);
	(void)pthread_mutex_unlock(&p->lock);
	hc_wipe(&screen, sizeof(screen));
	if (shown)
		return;
	if (s != NULL)
		hc_wipe(s, sizeof(*s));
	free(s);
}

static void leave(struct mechanism *m)
{
	(void)pthread_mutex_lock(&m->plugin->lock);
	if (m->showing != NULL) {
		m->showing->mechanism = NULL;
		m->showing = NULL;
		plugin_changed(m->plugin);
	}
	(void)pthread_mutex_unlock(&m->plugin->lock);
}

const struct mechanism_kind prompt_kind = { "prompt", invoke, leave };
