// Text as Windows has it: UTF-16. What only works on text and bytes is compiled on
// Linux too, where it is tested and fuzzed; wchar_t has 32 bits there.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
using Wide = wchar_t;
#else
using Wide = char16_t;
#endif

static_assert(sizeof(Wide) == 2, "UTF-16");

inline size_t wideLength(const Wide *text)
{
	size_t n = 0;
	while (text[n] != 0)
		n++;
	return n;
}

// wideCopy copies a whole text to out, which has room for size with the NUL. False
// when it does not fit; out is then empty.
bool wideCopy(Wide *out, size_t size, const Wide *text, size_t length);

// utf8Of writes length units of text as UTF-8, at most max bytes, no NUL; *size says
// how many. False when it does not fit or is no UTF-16 (half of a surrogate pair);
// then nothing of it is left in out.
bool utf8Of(const Wide *text, size_t length, uint8_t *out, size_t max, size_t *size);
