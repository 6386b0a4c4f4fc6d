/*
 * The view of the tests: linked into the plug-in in place of view.m (make
 * VIEW=host/view_scripted.c), it hands every screen to the program that has loaded
 * it, where the test's script answers. It has no state.
 */
#include "view.h"

/* The host's; weak, as the plug-in is linked without it. */
__attribute__((weak, visibility("default"))) struct view *host_view_open(const struct screen *screen, view_done done,
									  void *arg);
__attribute__((weak, visibility("default"))) void host_view_close(struct view *view);

struct view *view_open(const struct screen *screen, view_done done, void *arg)
{
	return host_view_open != NULL ? host_view_open(screen, done, arg) : NULL;
}

void view_close(struct view *view)
{
	if (view != NULL && host_view_close != NULL)
		host_view_close(view);
}
