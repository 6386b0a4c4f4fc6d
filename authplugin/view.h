/*
 * The view: the one window that prompt shows, in SecurityAgent. view.m draws it on
 * macOS and under GNUstep; tests of the core link a view of their own.
 *
 * It knows no hints and no agent: it shows a screen and says what the person did.
 */
#ifndef SALLYPORT_VIEW_H
#define SALLYPORT_VIEW_H

#include <stddef.h>

#include "screen.h"

struct view;

/*
 * What the person did: ANSWER_TEXT with length bytes of UTF-8 (at most
 * ANSWER_TEXT_MAX), or ANSWER_CANCEL. Called at most once for a view, on any thread;
 * the text is only good during the call. ANSWER_NONE: the view broke.
 */
typedef void (*view_done)(void *arg, enum answer_kind kind, const char *text, size_t length);

/*
 * Shows the screen, which is copied. From any thread; returns at once. NULL when it
 * cannot be shown; then done is never called.
 */
struct view *view_open(const struct screen *screen, view_done done, void *arg);

/*
 * Takes the window away and frees the view, and wipes what was typed. From any
 * thread but from within done. When it has returned, done is not running and will
 * not be called. NULL is fine.
 */
void view_close(struct view *view);

#endif
