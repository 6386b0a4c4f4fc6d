/*
 * What the view makes of a screen without a window: the QR code, the number and the
 * time. What is read of a code is the same when it is written and read again.
 */
#include <stdlib.h>
#include <string.h>

#include "view_plain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool so)
{
	if (!so)
		abort();
}

/* As internal/qr writes one. */
static void write_again(char *to, const struct view_qr *code)
{
	static const char *const blocks[] = {"\xe2\x96\x88", "\xe2\x96\x80", "\xe2\x96\x84", " "};

	for (unsigned y = 0; y < code->side; y += 2) {
		for (unsigned x = 0; x < code->side; x++) {
			bool lower = y + 1 < VIEW_QR_SIDE_MAX && code->dark[y + 1][x];
			const char *block = blocks[2 * code->dark[y][x] + lower];

			memcpy(to, block, strlen(block));
			to += strlen(block);
		}
		*to++ = '\n';
	}
	*to = '\0';
}

static void read_code(const char *text)
{
	static const struct view_qr none;
	static char again[VIEW_QR_SIDE_MAX * (3 * VIEW_QR_SIDE_MAX + 1) + 1];
	static struct view_qr code, same;

	if (!view_qr_read(&code, text)) {
		check(memcmp(&code, &none, sizeof(none)) == 0);
		return;
	}
	check(code.side >= 21 && code.side <= VIEW_QR_SIDE_MAX && code.side % 2 == 1);
	write_again(again, &code);
	check(view_qr_read(&same, again) && memcmp(&same, &code, sizeof(code)) == 0);
}

static void say(const uint8_t *data, size_t size)
{
	static const uint64_t most = 99 * 60 + 59;
	char words[VIEW_WORDS_MAX];
	struct screen screen;
	unsigned seconds;
	int64_t now = 0;

	memset(&screen, 0, sizeof(screen));
	memcpy(&screen, data, size < sizeof(screen) ? size : sizeof(screen));
	screen.phone[SCREEN_PHONE_MAX] = '\0'; /* as screen_read has it */
	memset(words, 'x', sizeof(words));
	view_say_approve(words, &screen);
	check(memchr(words, '\0', sizeof(words)) != NULL && strstr(words, screen.phone) != NULL);
	memcpy(&now, screen.login, sizeof(now));
	seconds = view_seconds(screen.until_ms, now);
	check(seconds <= most && (seconds > 0) == (screen.until_ms > now));
	view_say_time(words, seconds);
	check(memchr(words, '\0', sizeof(words)) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1); /* its bounds are ASan's to guard */

	check(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	read_code(text);
	free(text);
	say(data, size);
	return 0;
}
