/*
 * A view without a screen: the environment says what the person does at a question,
 * "code:123456" or "cancel". It is what the Makefile links where no other view is named.
 */
#define _GNU_SOURCE

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "view.h"

struct view {
	pthread_t thread;
	bool tells;
	view_done done;
	void *arg;
};

static void *act(void *arg)
{
	static const char code[] = "code:";
	struct view *v = arg;
	const char *what = getenv("SALLYPORT_VIEW");

	if (what != NULL && !v->tells && strncmp(what, code, sizeof(code) - 1) == 0)
		v->done(v->arg, ANSWER_TEXT, what + sizeof(code) - 1, strlen(what) - (sizeof(code) - 1));
	else
		v->done(v->arg, ANSWER_CANCEL, NULL, 0);
	return NULL;
}

struct view *view_open(const struct screen *screen, view_done done, void *arg)
{
	struct view *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return NULL;
	v->tells = screen->kind == SCREEN_TELL;
	v->done = done;
	v->arg = arg;
	if (pthread_create(&v->thread, NULL, act, v) == 0)
		return v;
	free(v);
	return NULL;
}

void view_close(struct view *view)
{
	if (view == NULL)
		return;
	(void)pthread_join(view->thread, NULL);
	free(view);
}
