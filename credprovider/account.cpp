#include "account.h"

static bool isSpace(Wide c)
{
	return c == ' ' || c == '\t';
}

static const Wide *find(const Wide *text, size_t length, Wide c)
{
	for (size_t i = 0; i < length; i++)
		if (text[i] == c)
			return text + i;
	return nullptr;
}

Named parseAccount(const Wide *name, size_t length, const Wide *home, const Wide *computer, Account *out)
{
	const Wide *domain = home, *slash;
	size_t domainLength = wideLength(home);

	*out = {};
	while (length > 0 && isSpace(*name))
		name++, length--;
	while (length > 0 && isSpace(name[length - 1]))
		length--;
	if (length == 0)
		return Named::Empty;
	for (size_t i = 0; i < length; i++)
		if (name[i] < ' ' || name[i] == 0x7f)
			return Named::Bad;

	slash = find(name, length, '\\');
	if (slash != nullptr) {
		domain = name;
		domainLength = static_cast<size_t>(slash - name);
		name = slash + 1;
		length -= domainLength + 1;
		if (find(name, length, '\\') != nullptr)
			return Named::Bad;
		if (domainLength == 1 && *domain == '.') {
			domain = computer;
			domainLength = wideLength(computer);
		}
	} else if (const Wide *at = find(name, length, '@')) {
		if (at == name || at == name + length - 1)
			return Named::Bad;
		return wideCopy(out->user, Account::userMax + 1, name, length) ? Named::Good : Named::Bad;
	}
	if (length == 0 || domainLength == 0 || !wideCopy(out->domain, Account::domainMax + 1, domain, domainLength) ||
	    !wideCopy(out->user, Account::userMax + 1, name, length)) {
		*out = {};
		return Named::Bad;
	}
	return Named::Good;
}

void accountName(const Account &account, Wide (&out)[accountNameMax + 1])
{
	size_t n = 0;

	if (account.domain[0] != 0) {
		while (account.domain[n] != 0) {
			out[n] = account.domain[n];
			n++;
		}
		out[n++] = '\\';
	}
	for (size_t i = 0; account.user[i] != 0; i++)
		out[n++] = account.user[i];
	out[n] = 0;
}

static Wide lower(Wide c)
{
	return c >= 'A' && c <= 'Z' ? static_cast<Wide>(c + ('a' - 'A')) : c;
}

bool sameText(const Wide *a, const Wide *b)
{
	while (*a != 0 && lower(*a) == lower(*b))
		a++, b++;
	return *a == 0 && *b == 0;
}
