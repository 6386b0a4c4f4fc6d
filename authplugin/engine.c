/* What authd keeps for an evaluation: context, hints, session. */
#include <stdio.h>
#include <string.h>

#include "platform.h"
#include "plugin.h"

/* kAuthorizationEnvironmentUsername and -Password (AuthorizationTags.h). */
static const char user_key[] = "username", uid_key[] = "uid", password_key[] = "password";
/* Which right is asked for. authd sets it as an ordinary hint (engine.c of its published
 * source), so another plug-in could change it: it only tells unlocking from elevating. */
static const char right_key[] = "authorize-right";

static const AuthorizationValue *context(struct mechanism *m, const char *key)
{
	AuthorizationContextFlags flags = 0;
	const AuthorizationValue *value = NULL;

	if (m->plugin->calls->GetContextValue(m->engine, key, &flags, &value) != errAuthorizationSuccess ||
	    value == NULL || value->data == NULL)
		return NULL;
	return value;
}

/* The text of a value, which some write with a NUL behind it and some do not. */
static bool text_of(const AuthorizationValue *value, char *out, size_t size)
{
	const char *data;
	size_t length;

	out[0] = '\0';
	if (value == NULL)
		return false;
	data = value->data;
	length = value->length;
	if (length > 0 && data[length - 1] == '\0')
		length--;
	if (length == 0 || length >= size || memchr(data, '\0', length) != NULL)
		return false;
	memcpy(out, data, length);
	out[length] = '\0';
	return true;
}

bool engine_who(struct mechanism *m, struct who *who)
{
	const AuthorizationValue *uid;

	memset(who, 0, sizeof(*who));
	if (!text_of(context(m, user_key), who->user, sizeof(who->user)))
		return false;
	uid = context(m, uid_key);
	who->has_uid = uid != NULL && uid->length == sizeof(who->uid);
	if (who->has_uid)
		memcpy(&who->uid, uid->data, sizeof(who->uid));
	return true;
}

bool who_equal(const struct who *a, const struct who *b)
{
	return strcmp(a->user, b->user) == 0 && a->has_uid == b->has_uid && a->uid == b->uid;
}

void engine_session(struct mechanism *m, char *out, size_t size)
{
	AuthorizationSessionId session = NULL;

	out[0] = '\0';
	if (m->plugin->calls->GetSessionId(m->engine, &session) == errAuthorizationSuccess)
		(void)snprintf(out, size, "%ju", (uintmax_t)(uintptr_t)session);
}

bool engine_is_password(struct mechanism *m, const char *text, size_t length)
{
	const AuthorizationValue *value = context(m, password_key);
	const char *password;
	size_t had;
	unsigned char differ = 0;

	if (value == NULL || length == 0)
		return false;
	password = value->data;
	had = value->length;
	if (had > 0 && password[had - 1] == '\0')
		had--;
	if (had != length)
		return false;
	for (size_t i = 0; i < length; i++)
		differ |= (unsigned char)(password[i] ^ text[i]);
	return differ == 0;
}

static const AuthorizationValue *hint(struct mechanism *m, const char *key)
{
	const AuthorizationValue *value = NULL;

	if (m->plugin->calls->GetHintValue(m->engine, key, &value) != errAuthorizationSuccess)
		return NULL;
	return value;
}

void engine_right(struct mechanism *m, char right[RIGHT_MAX + 1])
{
	const AuthorizationValue *value = hint(m, right_key);

	(void)text_of(value != NULL && value->data != NULL ? value : NULL, right, RIGHT_MAX + 1);
}

bool engine_screen(struct mechanism *m, struct screen *screen)
{
	const AuthorizationValue *value = hint(m, SCREEN_HINT);

	return screen_read(screen, value != NULL ? value->data : NULL, value != NULL ? value->length : 0);
}

bool engine_answer(struct mechanism *m, struct answer *answer)
{
	const AuthorizationValue *value = hint(m, ANSWER_HINT);

	return answer_read(answer, value != NULL ? value->data : NULL, value != NULL ? value->length : 0);
}

/*
 * Overwritten, not removed: authd takes a mechanism's hints over one by one, so what a
 * mechanism has removed stays, for every mechanism behind it.
 */
static void wipe_hint(struct mechanism *m, const char *key)
{
	char nothing = 0;
	AuthorizationValue wiped = { sizeof(nothing), &nothing };

	(void)m->plugin->calls->SetHintValue(m->engine, key, &wiped);
}

void engine_wipe_hints(struct mechanism *m)
{
	wipe_hint(m, ANSWER_HINT);
	wipe_hint(m, SCREEN_HINT);
}
