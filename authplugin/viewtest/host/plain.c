/*
 * Calls what of the view needs no window, as told on stdin, for the Go tests:
 *
 *	qr HEX            the modules by row, 0 light and 1 dark, or "no"
 *	seconds UNTIL NOW
 *	time SECONDS
 *	approve NUMBER HEX of the phone's name
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "view_plain.h"

static size_t unhex(char *out, const char *hex)
{
	size_t n = 0;
	unsigned byte;

	for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
		out[n++] = (char)byte;
	out[n] = '\0';
	return n;
}

static void qr(const char *hex)
{
	static struct view_qr code;
	char *text = malloc(strlen(hex) / 2 + 1); /* its bounds are ASan's to guard */

	if (text == NULL)
		abort();
	(void)unhex(text, hex);
	if (!view_qr_read(&code, text)) {
		puts("no");
	} else {
		for (unsigned y = 0; y < code.side; y++)
			for (unsigned x = 0; x < code.side; x++)
				putchar(code.dark[y][x] ? '1' : '0');
		putchar('\n');
	}
	free(text);
}

int main(void)
{
	static char line[1 << 16], bytes[1 << 15], words[VIEW_WORDS_MAX];
	static struct screen screen;
	int64_t until, now;
	unsigned number;
	int at = 0;

	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (strncmp(line, "qr ", 3) == 0) {
			qr(line + 3);
		} else if (sscanf(line, "seconds %" SCNd64 " %" SCNd64, &until, &now) == 2) {
			printf("%u\n", view_seconds(until, now));
		} else if (sscanf(line, "time %u", &number) == 1) {
			view_say_time(words, number);
			puts(words);
		} else if (sscanf(line, "approve %u %n", &screen.number, &at) == 1) {
			if (unhex(bytes, line + at) > SCREEN_PHONE_MAX)
				abort();
			memcpy(screen.phone, bytes, sizeof(screen.phone));
			view_say_approve(words, &screen);
			puts(words);
		} else {
			abort();
		}
		fflush(stdout);
	}
	return 0;
}
