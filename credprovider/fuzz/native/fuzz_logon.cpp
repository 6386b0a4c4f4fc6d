// libFuzzer plays whoever sends a packed logon: a remote desktop's client, a program
// behind CredUI. What is found lies inside, is copied whole, and packs to the same again.
#include "logon.h"

#include <stdlib.h>
#include <string.h>

#include <initializer_list>

static void check(bool condition)
{
	if (!condition)
		abort();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum : size_t { max = 512 };

	for (Layout layout : {Layout::Native, Layout::Wow}) {
		Wide domain[max + 1], user[max + 1], password[max + 1];
		LogonRanges in, again;

		if (!unpackLogon(layout, data, size, &in) || !readLogon(data, in.domain, domain, max) || !readLogon(data, in.user, user, max) ||
		    !readLogon(data, in.password, password, max))
			continue;
		for (const LogonRange &r : {in.domain, in.user, in.password})
			check(r.length == 0 || (r.offset <= size && r.length * sizeof(Wide) <= size - r.offset));

		LogonParts parts = {in.type, {domain, in.domain.length}, {user, in.user.length}, {password, in.password.length}};
		size_t want = logonSize(layout, parts);
		uint8_t *out = static_cast<uint8_t *>(malloc(want));
		Wide text[max + 1];

		check(want != 0 && out != nullptr && packLogon(layout, parts, out, want) && unpackLogon(layout, out, want, &again));
		check(again.type == in.type && readLogon(out, again.user, text, max) && memcmp(text, user, (in.user.length + 1) * sizeof *text) == 0);
		check(readLogon(out, again.password, text, max) && memcmp(text, password, (in.password.length + 1) * sizeof *text) == 0);
		free(out);
	}
	return 0;
}
