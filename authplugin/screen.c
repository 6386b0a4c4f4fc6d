/* The hints, read with the suspicion that screen.h asks for. */
#include "screen.h"

#include <string.h>

#include "platform.h"

static bool is_text(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static bool is_flag(uint32_t flag)
{
	return flag <= 1;
}

bool screen_read(struct screen *out, const void *data, size_t length)
{
	memset(out, 0, sizeof(*out));
	if (data == NULL || length != sizeof(*out))
		return false;
	memcpy(out, data, sizeof(*out));
	if (out->version == SCREEN_VERSION && out->kind <= SCREEN_TELL && is_flag(out->visible) &&
	    is_flag(out->may_be_empty) && is_flag(out->ringing) && is_text(out->phone, sizeof(out->phone)) &&
	    is_text(out->user, sizeof(out->user)) && is_text(out->text, sizeof(out->text)) &&
	    is_text(out->notice, sizeof(out->notice)) && is_text(out->qr, sizeof(out->qr)))
		return true;
	hc_wipe(out, sizeof(*out));
	return false;
}

bool answer_read(struct answer *out, const void *data, size_t length)
{
	memset(out, 0, sizeof(*out));
	if (data == NULL || length != sizeof(*out))
		return false;
	memcpy(out, data, sizeof(*out));
	if (out->version == SCREEN_VERSION && out->kind <= ANSWER_CANCEL && out->length <= sizeof(out->text) &&
	    (out->kind == ANSWER_TEXT || out->length == 0))
		return true;
	hc_wipe(out, sizeof(*out));
	return false;
}
