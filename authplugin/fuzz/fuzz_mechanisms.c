/*
 * authd out of order: the input is a list of calls, and the agent's scripts. Whatever
 * comes when, every invocation ends by exactly one result or by DidDeactivate
 * (unit/host.c aborts otherwise), and nothing is left.
 */
#define _GNU_SOURCE

#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "host.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const plays[][6] = {
	{ "prompt =123456 allow" },
	{ "prompt =1 deny:wrong_code", "prompt =123456 allow", "skip" },
	{ "prompt =123456 deny:wrong_code", "prompt =123456 deny:wrong_code", "prompt =123456 deny:wrong_code", "allow" },
	{ "ring prompt0 phone close allow", "ring prompt0 phone close deny:push_denied", "ring prompt0 =123456 allow" },
	{ "ring prompt0 phone ring prompt0 phone close allow", "prompt prompt prompt =123456 allow" },
	{ "skip", "skip", "skip" },
	{ "silence", "broken", "prompt =123456 silence", "prompt =123456 broken" },
	{ NULL },
	{ "absent", "full", "zero", "deny:no_text" },
	{ "qr notice visible =123456 prompt0 =123456 allow", "close close allow" },
};

enum { MOST = 48 }; /* calls, for time's sake */

static void finish(struct evaluation *e)
{
	/* Whoever looks at a window ends it; another may follow. */
	for (size_t i = 0; i < ENGINES; i++) {
		struct engine *engine = &e->engines[i];

		if (engine->ref == NULL)
			continue;
		if (i == PROMPT)
			(void)engine_deactivate(engine);
		else
			engine_wait_all(engine);
	}
	evaluation_end(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t junk[2 * sizeof(struct answer)] = { 1, 0, 0, 0, 1 };
	static struct evaluation evals[2];
	struct answer copy;
	int open;

	if (size < 2)
		return 0;
	agent_play(plays[data[0] % (sizeof(plays) / sizeof(plays[0]))]);
	host_load(data[1] & 7);
	view_broken = (data[1] & 8) != 0;
	evaluation_new(&evals[0], data[1] & 16 ? "begin-session" : "begin");
	evaluation_new(&evals[1], "begin");
	size = size < MOST ? size : MOST;
	for (size_t i = 2; i < size; i++) {
		struct evaluation *eval = &evals[(data[i] & 0x80) != 0];
		unsigned what = (data[i] >> 4) & 7;
		struct engine *e = &eval->engines[(data[i] & 15) % ENGINES];
		uint32_t uid = 501 + (data[i] & 1);

		switch (what) {
		case 0:
		case 1:
			/* The stand-in has one window. */
			if (e->ref != NULL && !(eval == &evals[1] && e == &eval->engines[PROMPT]))
				(void)engine_invoke(e);
			break;
		case 2:
			if (e->ref != NULL)
				(void)engine_deactivate(e);
			break;
		case 3:
			if (data[i] & 8)
				engine_destroy(e);
			else if (e->ref != NULL && e != &eval->engines[PROMPT])
				engine_wait_all(e);
			break;
		case 4:
			view_act(data[i] & 1 ? ANSWER_CANCEL : ANSWER_TEXT, data[i] & 2 ? "" : "123456");
			break;
		case 5:
			agent_phone();
			break;
		case 6:
			if (data[i] & 8)
				item_set(eval->context, "uid", &uid, sizeof(uid));
			else if (data[i] & 4)
				item_set(eval->hints, ANSWER_HINT, junk, (data[i] & 3) != 0 ? sizeof(struct answer) : sizeof(junk));
			/* The other evaluation's answer. */
			else if (item_get(evals[0].hints, ANSWER_HINT, &copy, sizeof(copy)) == sizeof(copy))
				item_set(evals[1].hints, ANSWER_HINT, &copy, sizeof(copy));
			break;
		default:
			host_result_error = data[i] & 1 ? -1 : 0;
			host_hint_error = data[i] & 2 ? -1 : 0;
			host_interrupt_error = data[i] & 4 ? -1 : 0;
			host_deactivate_error = data[i] & 8 ? -1 : 0;
		}
	}
	finish(&evals[0]);
	finish(&evals[1]);
	host_result_error = host_hint_error = host_interrupt_error = host_deactivate_error = 0;
	view_wait_closed();
	host_unload();
	agent_seen(NULL, &open, NULL);
	if (open != 0)
		abort();
	return 0;
}
