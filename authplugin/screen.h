/*
 * What the mechanisms leave each other as hints. begin and verify run as root,
 * prompt as _securityagent; hints go through authd between their processes, and
 * every other plug-in can read and write them. So a hint only ever says what to
 * show and what was typed. Who is let in is known to begin's process alone, which
 * is verify's too.
 *
 * Each is one struct without pointers, of one size, every text in it ended by NUL.
 * screen_read and answer_read refuse whatever else they find there.
 */
#ifndef SALLYPORT_SCREEN_H
#define SALLYPORT_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCREEN_HINT "sallyport.screen" /* from begin to prompt */
#define ANSWER_HINT "sallyport.answer" /* from prompt to verify */

enum {
	SCREEN_VERSION = 1,
	SCREEN_LOGIN_SIZE = 16, /* random: which login of begin's process this is about */
	SCREEN_TEXT_MAX = 1024,
	SCREEN_QR_MAX = 6144,
	SCREEN_PHONE_MAX = 64,
	SCREEN_USER_MAX = 255,
	ANSWER_TEXT_MAX = 128, /* HC_ANSWER_MAX */
};

enum screen_kind {
	SCREEN_NONE = 0, /* nothing to ask: prompt shows nothing */
	SCREEN_ASK,      /* a field for an answer */
	SCREEN_TELL,     /* why not, and a button to go back */
};

struct screen {
	uint32_t version;
	uint32_t kind; /* enum screen_kind */
	uint8_t login[SCREEN_LOGIN_SIZE];
	uint32_t prompt;       /* which of the screens of the login this is */
	uint32_t visible;      /* 1: what is typed may be seen */
	uint32_t may_be_empty; /* 1: an empty answer is one */
	uint32_t ringing;      /* 1: a phone is asked beside it */
	uint32_t number;       /* to type on the phone, at least two digits */
	uint32_t pad;
	int64_t until_ms; /* when the phone's time is over, on hc_now_ms's clock */
	char phone[SCREEN_PHONE_MAX + 1];
	char user[SCREEN_USER_MAX + 1];
	char text[SCREEN_TEXT_MAX + 1];   /* UTF-8: the question, or why not */
	char notice[SCREEN_TEXT_MAX + 1]; /* UTF-8: shown above it, such as what was wrong before */
	char qr[SCREEN_QR_MAX + 1];       /* UTF-8: lines of block characters, or "" */
};

enum answer_kind {
	ANSWER_NONE = 0, /* there was no view, or it broke: verify denies */
	ANSWER_TEXT,     /* what was typed; empty asks the phone again, or says it was answered */
	ANSWER_CANCEL,
};

struct answer {
	uint32_t version;
	uint32_t kind; /* enum answer_kind */
	uint8_t login[SCREEN_LOGIN_SIZE];
	uint32_t prompt;
	uint32_t length;
	char text[ANSWER_TEXT_MAX];
};

/* Copy from a hint's bytes. False, and *out all zero, unless they are whole. */
bool screen_read(struct screen *out, const void *data, size_t length);
bool answer_read(struct answer *out, const void *data, size_t length);

#endif
