// libFuzzer types a user name. A name that is taken comes apart into parts that put
// together are the same account, and its UTF-8 is bounded.
#include "account.h"

#include <stdlib.h>
#include <string.h>

static void check(bool condition)
{
	if (!condition)
		abort();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Wide typed[2048], whole[accountNameMax + 1];
	size_t length = size / sizeof *typed, bytes;
	uint8_t utf8[1024];
	Account a, again;

	if (length > sizeof typed / sizeof *typed)
		return 0;
	memcpy(typed, data, length * sizeof *typed);
	if (parseAccount(typed, length, u"CORP", u"PC7", &a) != Named::Good) {
		check(a.empty());
		return 0;
	}
	check(!a.empty());
	accountName(a, whole);
	check(parseAccount(whole, wideLength(whole), u"ELSEWHERE", u"ELSEWHERE", &again) == Named::Good);
	// A space at its end is no part of a name, and "." is a domain only when typed.
	if (a.user[0] != ' ' && a.user[0] != '\t' && !(a.domain[0] == '.' && a.domain[1] == 0))
		check(sameText(a.user, again.user) && sameText(a.domain, again.domain));
	if (utf8Of(whole, wideLength(whole), utf8, sizeof utf8, &bytes))
		check(bytes <= sizeof utf8);
	return 0;
}
