/*
 * What others can write: the hints, and the break-glass list. The first byte says
 * which; nothing half read may be left behind.
 */
#include <stdlib.h>
#include <string.h>

#include "breakglass.h"
#include "screen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void is_zero(const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++) {
		if (b[i] != 0)
			abort();
	}
}

/* A hint of the right size, whose beginning is the input. */
static const uint8_t *padded(uint8_t *room, size_t whole, const uint8_t *data, size_t size)
{
	memset(room, 0, whole);
	memcpy(room, data, size < whole ? size : whole);
	return room;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t room[sizeof(struct screen)];
	struct screen screen;
	struct answer answer;
	bool good, listed;
	unsigned line;
	uint8_t which;

	if (size == 0)
		return 0;
	which = *data++;
	size--;
	switch (which % 5) {
	case 0:
	case 1:
		if (which % 5 == 1) {
			data = padded(room, sizeof(screen), data, size);
			size = sizeof(screen);
		}
		if (!screen_read(&screen, data, size))
			is_zero(&screen, sizeof(screen));
		else if (size != sizeof(screen) || screen.kind > SCREEN_TELL ||
			 strlen(screen.text) + strlen(screen.notice) + strlen(screen.qr) + strlen(screen.phone) +
					 strlen(screen.user) > sizeof(screen))
			abort();
		break;
	case 2:
	case 3:
		if (which % 5 == 3) {
			data = padded(room, sizeof(answer), data, size);
			size = sizeof(answer);
		}
		if (!answer_read(&answer, data, size))
			is_zero(&answer, sizeof(answer));
		else if (size != sizeof(answer) || answer.length > ANSWER_TEXT_MAX || answer.kind > ANSWER_CANCEL)
			abort();
		break;
	default:
		listed = breakglass_parse((const char *)data, size, 501, &good, &line);
		if (listed && (!good || size < 3))
			abort();
	}
	return 0;
}
