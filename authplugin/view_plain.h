/* What of the view is only about text and numbers; it knows no window. */
#ifndef SALLYPORT_VIEW_PLAIN_H
#define SALLYPORT_VIEW_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "screen.h"

enum {
	VIEW_WORDS_MAX = 256,  /* room for a line of ours with a phone's name in it */
	VIEW_QR_SIDE_MAX = 89, /* modules; more than SCREEN_QR_MAX bytes can draw */
};

/* A QR code, its quiet zone included. */
struct view_qr {
	unsigned side;
	bool dark[VIEW_QR_SIDE_MAX][VIEW_QR_SIDE_MAX]; /* by row */
};

/*
 * Reads lines of block characters as internal/qr writes them: light on dark, two
 * modules above each other in one character, and half a line too much at the end,
 * as a code's side is odd. False, and nothing in *out, unless it is a square.
 */
bool view_qr_read(struct view_qr *out, const char *text);

/* Whole seconds from now until then, rounded up: zero is when the time is over. */
unsigned view_seconds(int64_t until_ms, int64_t now_ms);

/* The lines with a number in them. */
void view_say_time(char out[VIEW_WORDS_MAX], unsigned seconds);
void view_say_approve(char out[VIEW_WORDS_MAX], const struct screen *screen);

#endif
