/*
 * What the agent has said in one login, as far as the screen shows it. Directives go
 * in, the time is passed in; it knows no engine, no thread and no socket.
 */
#ifndef SALLYPORT_DIALOGUE_H
#define SALLYPORT_DIALOGUE_H

#include <stdbool.h>
#include <stdint.h>

#include "hookclient.h"
#include "screen.h"

/* Where a login stands. The first denies nobody and lets nobody in. */
enum stage {
	STAGE_WORKING = 0, /* the agent's turn */
	STAGE_ASKING,      /* the person's: a prompt is open */
	STAGE_ALLOWED,
	STAGE_REFUSED,
};

struct dialogue {
	enum stage stage;

	/* The open prompt: the agent's number of it, and how many there have been, by which
	 * a login sees that another one came. */
	uint32_t prompt, question;
	bool visible, may_be_empty;

	/* A phone is asked beside it, until so much on hc_now_ms's clock. */
	bool ringing;
	uint32_t number;
	int64_t until;
	char phone[SCREEN_PHONE_MAX + 1];

	/* UTF-8, harmless: the prompt, or why the login was refused; what was said
	 * before it; a new key as a picture. */
	char text[SCREEN_TEXT_MAX + 1];
	char notice[SCREEN_TEXT_MAX + 1];
	char qr[SCREEN_QR_MAX + 1];

	/* The verdict's name for the log, and whether an answer was sent before it. */
	char reason[65];
	bool answered;
};

bool dialogue_over(const struct dialogue *d);
/* Applies what the agent said. After a verdict nothing changes any more. */
void dialogue_take(struct dialogue *d, const sallyport_login_v1_Directive *directive, int64_t now);
/* The person's answer is on its way. */
void dialogue_answered(struct dialogue *d);
/* Ends the login without the agent's word; text is UTF-8 and ours. */
void dialogue_refuse(struct dialogue *d, const char *text);
/* Lets in without the agent's word: the break-glass list alone may. */
void dialogue_break_glass(struct dialogue *d);
/* Whether the agent refused an answer and another one may be right. */
bool dialogue_may_repeat(const struct dialogue *d);
/* Begins anew, with why as the notice. */
void dialogue_repeat(struct dialogue *d);
/* What is shown of it. */
void dialogue_show(const struct dialogue *d, struct screen *screen);

#endif
