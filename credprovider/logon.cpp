#include "logon.h"

#include <string.h>

namespace {

// UNICODE_STRING and the structures around it, as each kind of program has them:
// the type, padding up to a pointer's size, three strings, the LUID.
struct Shape {
	size_t pointer, strings, string, luid, size;
};

constexpr Shape native = {8, 8, 16, 56, 64};
constexpr Shape wow = {4, 4, 8, 28, 36};

const Shape &shapeOf(Layout layout)
{
	return layout == Layout::Wow ? wow : native;
}

// In a string: its length in bytes, the room it has, and behind these two (and padding)
// where it is.
enum : size_t { atLength = 0, atMaximum = 2 };

void put(uint8_t *at, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = static_cast<uint8_t>(value >> 8 * i);
}

uint64_t get(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;
	for (size_t i = 0; i < bytes; i++)
		value |= static_cast<uint64_t>(at[i]) << 8 * i;
	return value;
}

bool fits(const LogonText &text)
{
	return text.length <= UINT16_MAX / sizeof(Wide);
}

size_t putText(const Shape &shape, uint8_t *out, size_t index, const LogonText &text, size_t offset)
{
	uint8_t *at = out + shape.strings + index * shape.string;
	size_t bytes = text.length * sizeof(Wide);

	put(at + atLength, bytes, 2);
	put(at + atMaximum, bytes, 2);
	put(at + shape.pointer, offset, shape.pointer);
	if (bytes > 0)
		memcpy(out + offset, text.text, bytes);
	return offset + bytes;
}

bool getText(const Shape &shape, const uint8_t *in, size_t size, size_t index, LogonRange *out)
{
	const uint8_t *at = in + shape.strings + index * shape.string;
	uint64_t bytes = get(at + atLength, 2);
	uint64_t offset = get(at + shape.pointer, shape.pointer);

	*out = {};
	if (bytes == 0)
		return true;
	// The LUID is ours to ignore, and some leave it out.
	if (bytes % sizeof(Wide) != 0 || offset < shape.luid || offset > size || bytes > size - offset)
		return false;
	*out = {static_cast<size_t>(offset), static_cast<size_t>(bytes / sizeof(Wide))};
	return true;
}

} // namespace

size_t logonSize(Layout layout, const LogonParts &parts)
{
	if (!fits(parts.domain) || !fits(parts.user) || !fits(parts.password))
		return 0;
	return shapeOf(layout).size + (parts.domain.length + parts.user.length + parts.password.length) * sizeof(Wide);
}

bool packLogon(Layout layout, const LogonParts &parts, uint8_t *out, size_t size)
{
	const Shape &shape = shapeOf(layout);
	size_t want = logonSize(layout, parts);
	size_t offset = shape.size;

	if (want == 0 || size < want)
		return false;
	memset(out, 0, shape.size);
	put(out, parts.type, 4);
	offset = putText(shape, out, 0, parts.domain, offset);
	offset = putText(shape, out, 1, parts.user, offset);
	(void)putText(shape, out, 2, parts.password, offset);
	return true;
}

bool unpackLogon(Layout layout, const uint8_t *in, size_t size, LogonRanges *out)
{
	const Shape &shape = shapeOf(layout);

	*out = {};
	if (in == nullptr || size < shape.luid || size > logonMax)
		return false;
	out->type = static_cast<uint32_t>(get(in, 4));
	return (out->type == logonNoType || out->type == logonInteractive || out->type == logonUnlock) &&
	       getText(shape, in, size, 0, &out->domain) && getText(shape, in, size, 1, &out->user) &&
	       getText(shape, in, size, 2, &out->password);
}

bool readLogon(const uint8_t *in, LogonRange range, Wide *out, size_t max)
{
	out[0] = 0;
	if (range.length > max)
		return false;
	memcpy(out, in + range.offset, range.length * sizeof *out);
	out[range.length] = 0;
	return wideLength(out) == range.length;
}
