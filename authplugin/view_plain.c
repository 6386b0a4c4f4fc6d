#include "view_plain.h"

#include <stdio.h>
#include <string.h>

#include "view_texts.h"

/* One character of a QR code's lines: which of its two modules are light. */
static const struct {
	const char *bytes;
	bool upper, lower;
} blocks[] = {
	{" ", false, false},
	{"\xe2\x96\x88", true, true},  /* U+2588, full block */
	{"\xe2\x96\x80", true, false}, /* U+2580, upper half block */
	{"\xe2\x96\x84", false, true}, /* U+2584, lower half block */
};

static bool read_lines(struct view_qr *out, const char *text)
{
	unsigned x = 0, y = 0;

	for (; *text != '\0' && y < VIEW_QR_SIDE_MAX; x = 0, y += 2) {
		for (; *text != '\0' && *text != '\n'; x++) {
			size_t i = 0;

			while (i < sizeof(blocks) / sizeof(*blocks) &&
			       strncmp(text, blocks[i].bytes, strlen(blocks[i].bytes)) != 0)
				i++;
			if (i == sizeof(blocks) / sizeof(*blocks) || x == VIEW_QR_SIDE_MAX)
				return false;
			out->dark[y][x] = !blocks[i].upper;
			if (y + 1 < VIEW_QR_SIDE_MAX)
				out->dark[y + 1][x] = !blocks[i].lower;
			text += strlen(blocks[i].bytes);
		}
		if (*text == '\n')
			text++;
		if (y == 0)
			out->side = x;
		if (x != out->side)
			return false;
	}
	/* The smallest code has 21 modules: ISO/IEC 18004. */
	return *text == '\0' && out->side >= 21 && y == out->side + 1;
}

bool view_qr_read(struct view_qr *out, const char *text)
{
	memset(out, 0, sizeof(*out));
	if (read_lines(out, text))
		return true;
	memset(out, 0, sizeof(*out));
	return false;
}

unsigned view_seconds(int64_t until_ms, int64_t now_ms)
{
	const uint64_t most = 99 * 60 + 59; /* two digits of minutes */
	uint64_t seconds;

	if (until_ms <= now_ms)
		return 0;
	/* The difference of any two int64_t fits. */
	seconds = ((uint64_t)until_ms - (uint64_t)now_ms - 1) / 1000 + 1;
	return (unsigned)(seconds < most ? seconds : most);
}

void view_say_time(char out[VIEW_WORDS_MAX], unsigned seconds)
{
	(void)snprintf(out, VIEW_WORDS_MAX, VIEW_TIME, seconds / 60, seconds % 60);
}

void view_say_approve(char out[VIEW_WORDS_MAX], const struct screen *screen)
{
	unsigned number = screen->number;

	if (screen->phone[0] == '\0')
		(void)snprintf(out, VIEW_WORDS_MAX, VIEW_APPROVE, number);
	else
		(void)snprintf(out, VIEW_WORDS_MAX, VIEW_APPROVE_ON, number, screen->phone);
}
