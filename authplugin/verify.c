/*
 * verify: hands what the person did to the login that begin started, which decides.
 * It denies whatever it cannot bring together.
 */
#include <string.h>

#include "breakglass.h"
#include "log.h"
#include "login.h"
#include "platform.h"
#include "text.h"
#include "texts.h"

static void deny(struct mechanism *m)
{
	(void)pthread_mutex_lock(&m->plugin->lock);
	mechanism_answer(m, OUTCOME_DENY, NULL);
	(void)pthread_mutex_unlock(&m->plugin->lock);
}

/* Reads what prompt left. Without a word of prompt's the screen says which login it
 * would have been: one that is allowed already needs no answer. */
static void collect(struct mechanism *m, struct answer *answer)
{
	struct screen screen;

	if (!engine_answer(m, answer) && engine_screen(m, &screen)) {
		memcpy(answer->login, screen.login, sizeof(answer->login));
		hc_wipe(&screen, sizeof(screen));
	}
	engine_wipe_hints(m);
}

static void invoke(struct mechanism *m)
{
	struct plugin *p = m->plugin;
	struct answer answer;
	struct login *l;
	struct who who;
	char name[4 * USER_MAX + 1];
	bool known, same = false, listed = false, is_password, taken = false;

	collect(m, &answer);
	known = engine_who(m, &who);
	is_password = answer.kind == ANSWER_TEXT && engine_is_password(m, answer.text, answer.length);
	/* Read anew: who is taken off the list is off it at once. */
	if (known && who.has_uid) {
		bool break_glass;

		(void)pthread_mutex_lock(&p->lock);
		l = login_find(p, answer.login);
		break_glass = l != NULL && login_is_break_glass(l);
		(void)pthread_mutex_unlock(&p->lock);
		listed = break_glass && breakglass_lists(who.uid);
	}

	(void)pthread_mutex_lock(&p->lock);
	l = login_find(p, answer.login);
	if (l != NULL) {
		same = known && who_equal(&who, &login_request(l)->who);
		if (!same || (login_is_break_glass(l) && !listed))
			login_stop(l);
		else
			taken = login_verify(l, m, &answer, is_password);
	}
	(void)pthread_mutex_unlock(&p->lock);
	hc_wipe(&answer, sizeof(answer));
	if (taken)
		return;
	(void)text_for_log(name, sizeof(name), (const uint8_t *)who.user, strlen(who.user));
	if (l == NULL)
		log_line(LOG_ERROR, TEXT_LOG_NO_LOGIN);
	else if (!same)
		log_line(LOG_LOUD, TEXT_LOG_OTHER_USER, name);
	else
		log_line(LOG_ERROR, TEXT_LOG_NO_LONGER_LISTED, name);
	deny(m);
}

static void leave(struct mechanism *m)
{
	(void)pthread_mutex_lock(&m->plugin->lock);
	login_forget(m->plugin, m);
	(void)pthread_mutex_unlock(&m->plugin->lock);
}

const struct mechanism_kind verify_kind = { "verify", invoke, leave };
