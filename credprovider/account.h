// Whose login it is.
#pragma once

#include "wide.h"

// Account is a name in the two parts that LSA takes. The agent is told the same two,
// so that both mean one person: a name without a domain is never passed on, as either
// might look it up in another place.
struct Account {
	enum : size_t { domainMax = 255, userMax = 512 };

	Wide domain[domainMax + 1]; // empty: user is alice@corp.example
	Wide user[userMax + 1];

	bool empty() const { return user[0] == 0; }
};

enum class Named : uint8_t {
	Bad = 0, // no account has such a name
	Empty,
	Good,
};

// parseAccount takes apart DOMAIN\user, .\user, user@domain and user. "." is the
// computer; who names no domain means home, which is the computer's domain or, without
// one, the computer.
Named parseAccount(const Wide *name, size_t length, const Wide *home, const Wide *computer, Account *out);

// accountName puts it together again: DOMAIN\user or user@domain.
enum : size_t { accountNameMax = Account::domainMax + 1 + Account::userMax };
void accountName(const Account &account, Wide (&out)[accountNameMax + 1]);

// sameText compares as Windows does names, for ASCII; the rest must be equal.
bool sameText(const Wide *a, const Wide *b);
