#include "text.h"

#include <stdbool.h>

/*
 * The length of the UTF-8 character at in (RFC 3629: shortest form, no
 * surrogates, up to U+10FFFF), and its value; 0 when there is none.
 */
static size_t utf8_char(const uint8_t *in, size_t len, uint32_t *value)
{
	static const uint32_t lowest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n;
	uint32_t v;

	if (in[0] < 0x80) {
		*value = in[0];
		return 1;
	} else if ((in[0] & 0xe0) == 0xc0) {
		n = 2;
		v = in[0] & 0x1f;
	} else if ((in[0] & 0xf0) == 0xe0) {
		n = 3;
		v = in[0] & 0x0f;
	} else if ((in[0] & 0xf8) == 0xf0) {
		n = 4;
		v = in[0] & 0x07;
	} else {
		return 0;
	}
	if (n > len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((in[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | (in[i] & 0x3f);
	}
	if (v < lowest[n] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
		return 0;
	*value = v;
	return n;
}

static bool harmless(uint32_t v)
{
	if (v == '\n')
		return true;
	if (v < 0x20 || (v >= 0x7f && v < 0xa0)) /* C0, DEL, C1 */
		return false;
	/* Line and paragraph separators; overrides and isolates of direction. */
	return !(v >= 0x2028 && v <= 0x202e) && !(v >= 0x2066 && v <= 0x2069);
}

void text_for_person(char *out, size_t size, const uint8_t *in, size_t len)
{
	size_t o = 0;

	for (size_t i = 0; i < len;) {
		uint32_t value;
		size_t n = utf8_char(in + i, len - i, &value);
		bool keep = n > 0 && harmless(value);

		if (n == 0)
			n = 1;
		if ((keep ? n : 1) >= size - o)
			break;
		if (keep) {
			for (size_t k = 0; k < n; k++)
				out[o++] = (char)in[i + k];
		} else {
			out[o++] = '?';
		}
		i += n;
	}
	out[o] = '\0';
}

const char *text_for_log(char *out, size_t size, const uint8_t *in, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	size_t o = 0;

	for (size_t i = 0; i < len; i++) {
		bool plain = in[i] >= 0x20 && in[i] < 0x7f && in[i] != '\\';

		if ((plain ? 1 : 4) >= size - o)
			break;
		if (plain) {
			out[o++] = (char)in[i];
		} else {
			out[o++] = '\\';
			out[o++] = 'x';
			out[o++] = hex[in[i] >> 4];
			out[o++] = hex[in[i] & 15];
		}
	}
	out[o] = '\0';
	return out;
}
