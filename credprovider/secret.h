// Memory for what was typed and must not stay: passwords and codes.
#pragma once

#include <string.h>

#include "platform.h"
#include "wide.h"

// Secret holds up to Max units in place: it never allocates, is never copied by
// accident, and is overwritten as soon as it is over.
template <size_t Max> class Secret {
public:
	Secret() = default;
	~Secret() { wipe(); }
	Secret(const Secret &) = delete;
	Secret &operator=(const Secret &) = delete;

	// set takes a text over. False when it is longer than Max; what was there stays.
	bool set(const Wide *text, size_t length)
	{
		if (length > Max)
			return false;
		wipe();
		memcpy(data, text, length * sizeof *data);
		count = length;
		return true;
	}
	void take(Secret &other)
	{
		(void)set(other.data, other.count);
		other.wipe();
	}
	void wipe()
	{
		hc_wipe(data, sizeof data);
		count = 0;
	}

	const Wide *text() const { return data; } // ends with a NUL
	size_t length() const { return count; }
	bool empty() const { return count == 0; }

	// equals does not tell by its time where the two differ.
	template <size_t Other> bool equals(const Secret<Other> &other) const
	{
		volatile unsigned differ = count != other.length();
		for (size_t i = 0; i < count && i < other.length(); i++)
			differ = differ | static_cast<unsigned>(data[i] ^ other.text()[i]);
		return differ == 0;
	}

private:
	Wide data[Max + 1] = {};
	size_t count = 0;
};

// The longest that Windows takes at a login (lmcons.h, PWLEN), and the longest code.
using Password = Secret<256>;
using Code = Secret<128>;
