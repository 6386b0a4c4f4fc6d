#include "wide.h"

#include <string.h>

#include "platform.h"

bool wideCopy(Wide *out, size_t size, const Wide *text, size_t length)
{
	out[0] = 0;
	if (length >= size)
		return false;
	memcpy(out, text, length * sizeof *out);
	out[length] = 0;
	return true;
}

bool utf8Of(const Wide *text, size_t length, uint8_t *out, size_t max, size_t *size)
{
	size_t n = 0;

	*size = 0;
	for (size_t i = 0; i < length; i++) {
		uint32_t c = static_cast<uint16_t>(text[i]);
		uint8_t bytes[4];
		size_t count;

		if (c >= 0xd800 && c <= 0xdfff) {
			uint32_t low = i + 1 < length ? static_cast<uint16_t>(text[i + 1]) : 0;
			if (c > 0xdbff || low < 0xdc00 || low > 0xdfff)
				goto bad;
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			i++;
		}
		if (c < 0x80) {
			count = 1;
			bytes[0] = static_cast<uint8_t>(c);
		} else if (c < 0x800) {
			count = 2;
			bytes[0] = static_cast<uint8_t>(0xc0 | c >> 6);
		} else if (c < 0x10000) {
			count = 3;
			bytes[0] = static_cast<uint8_t>(0xe0 | c >> 12);
		} else {
			count = 4;
			bytes[0] = static_cast<uint8_t>(0xf0 | c >> 18);
		}
		for (size_t k = 1; k < count; k++)
			bytes[k] = static_cast<uint8_t>(0x80 | (c >> 6 * (count - 1 - k) & 0x3f));
		if (count > max - n)
			goto bad;
		memcpy(out + n, bytes, count);
		n += count;
	}
	*size = n;
	return true;
bad:
	hc_wipe(out, n);
	return false;
}
