// Tests of what is only about text and bytes. It prints what failed and ends with 1.
#include "account.h"
#include "dialogue.h"
#include "logo.h"
#include "logon.h"
#include "secret.h"
#include "wide.h"

#include <stdio.h>
#include <string.h>

#include <initializer_list>

static int failures;

#define CHECK(condition)                                                                                                                                       \
	do {                                                                                                                                                   \
		if (!(condition)) {                                                                                                                            \
			fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, #condition);                                                  \
			failures++;                                                                                                                            \
		}                                                                                                                                              \
	} while (0)

static bool same(const Wide *a, const Wide *b)
{
	size_t n = wideLength(a);
	return n == wideLength(b) && memcmp(a, b, n * sizeof *a) == 0;
}

// --- text ---

static void utf8IsWhatTheStandardSays()
{
	const Wide text[] = u"a\u00fc\u20ac\U0001f511";
	const uint8_t want[] = {'a', 0xc3, 0xbc, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x94, 0x91};
	uint8_t out[16];
	size_t n;

	CHECK(utf8Of(text, wideLength(text), out, sizeof out, &n));
	CHECK(n == sizeof want && memcmp(out, want, sizeof want) == 0);
	CHECK(utf8Of(text, wideLength(text), out, sizeof want, &n));
	CHECK(utf8Of(text, 0, out, 0, &n) && n == 0);
}

static void textThatDoesNotFitOrIsNoneLeavesNothing()
{
	const Wide key[] = u"pa\U0001f511";
	const Wide high[] = {'p', 0xd83d, 0}, low[] = {'p', 0xdd11, 0}, swapped[] = {'p', 0xdd11, 0xd83d, 0};
	const uint8_t nothing[8] = {};
	uint8_t out[8];
	size_t n = 9;

	for (size_t max = 0; max < 6; max++) {
		memset(out, 0, sizeof out);
		CHECK(!utf8Of(key, 4, out, max, &n) && n == 0);
		CHECK(memcmp(out, nothing, sizeof out) == 0);
	}
	for (const Wide *bad : {high, low, swapped}) {
		CHECK(!utf8Of(bad, wideLength(bad), out, sizeof out, &n) && n == 0);
		CHECK(memcmp(out, nothing, sizeof out) == 0);
	}
}

static void aSecretIsBoundedAndLeavesNothing()
{
	Secret<4> s, other;
	Secret<8> longer;
	const uint8_t nothing[5 * sizeof(Wide)] = {};

	CHECK(s.empty() && s.length() == 0 && s.text()[0] == 0);
	CHECK(s.set(u"abcd", 4) && same(s.text(), u"abcd"));
	CHECK(!s.set(u"abcde", 5) && same(s.text(), u"abcd")); // not cut short
	CHECK(longer.set(u"abcd", 4) && s.equals(longer));
	CHECK(longer.set(u"abcde", 5) && !s.equals(longer));
	CHECK(longer.set(u"abce", 4) && !s.equals(longer));
	CHECK(s.set(u"xy", 2) && same(s.text(), u"xy"));
	other.take(s);
	CHECK(same(other.text(), u"xy") && s.empty() && memcmp(s.text(), nothing, sizeof nothing) == 0);
	other.wipe();
	CHECK(other.empty() && memcmp(other.text(), nothing, sizeof nothing) == 0);
}

// --- names ---

struct Name {
	const Wide *typed;
	Named named;
	const Wide *domain, *user, *whole;
};

static const Name names[] = {
	{u"alice", Named::Good, u"CORP", u"alice", u"CORP\\alice"},
	{u"  alice\t", Named::Good, u"CORP", u"alice", u"CORP\\alice"},
	{u"Corp\\Alice", Named::Good, u"Corp", u"Alice", u"Corp\\Alice"},
	{u".\\alice", Named::Good, u"PC7", u"alice", u"PC7\\alice"},
	{u"alice@corp.example", Named::Good, u"", u"alice@corp.example", u"alice@corp.example"},
	{u"MicrosoftAccount\\a@b.c", Named::Good, u"MicrosoftAccount", u"a@b.c", u"MicrosoftAccount\\a@b.c"},
	{u"J\u00fcrgen M\u00fc\u00dfig", Named::Good, u"CORP", u"J\u00fcrgen M\u00fc\u00dfig", u"CORP\\J\u00fcrgen M\u00fc\u00dfig"},
	{u"", Named::Empty, u"", u"", u""},
	{u" \t ", Named::Empty, u"", u"", u""},
	{u"\\", Named::Bad, u"", u"", u""},
	{u"\\alice", Named::Bad, u"", u"", u""},
	{u"CORP\\", Named::Bad, u"", u"", u""},
	{u"CORP\\x\\alice", Named::Bad, u"", u"", u""},
	{u"@corp.example", Named::Bad, u"", u"", u""},
	{u"alice@", Named::Bad, u"", u"", u""},
	{u"ali\nce", Named::Bad, u"", u"", u""},
	{u"ali\x7f", Named::Bad, u"", u"", u""},
};

static void namesAreTakenApartAsWindowsDoes()
{
	for (const Name &n : names) {
		Wide whole[accountNameMax + 1];
		Account a;
		Named named = parseAccount(n.typed, wideLength(n.typed), u"CORP", u"PC7", &a);

		accountName(a, whole);
		CHECK(named == n.named);
		CHECK(same(a.domain, n.domain) && same(a.user, n.user) && same(whole, n.whole));
		if (failures > 0)
			fprintf(stderr, "  name %d\n", static_cast<int>(&n - names));
	}
}

static void namesAreBoundedNotCut()
{
	Wide text[1024];
	Account a;

	for (Wide &c : text)
		c = 'n';
	CHECK(parseAccount(text, 256, u"CORP", u"PC7", &a) == Named::Good && wideLength(a.user) == 256);
	CHECK(parseAccount(text, Account::userMax, u"CORP", u"PC7", &a) == Named::Good && wideLength(a.user) == Account::userMax);
	CHECK(parseAccount(text, Account::userMax + 1, u"CORP", u"PC7", &a) == Named::Bad && a.empty());
	text[Account::domainMax] = '\\';
	CHECK(parseAccount(text, Account::domainMax + 2, u"CORP", u"PC7", &a) == Named::Good && wideLength(a.domain) == Account::domainMax);
	text[Account::domainMax] = 'n';
	text[Account::domainMax + 1] = '\\';
	CHECK(parseAccount(text, Account::domainMax + 3, u"CORP", u"PC7", &a) == Named::Bad && a.empty());
	// No domain to put it in: not a name that is looked up anywhere.
	CHECK(parseAccount(u"alice", 5, u"", u"", &a) == Named::Bad && a.empty());
	CHECK(parseAccount(u".\\alice", 7, u"CORP", u"", &a) == Named::Bad && a.empty());
}

static void namesCompareWithoutCase()
{
	CHECK(sameText(u"Alice", u"aLICE") && sameText(u"", u""));
	CHECK(!sameText(u"Alice", u"Alic") && !sameText(u"Alic", u"Alice") && !sameText(u"a", u"b"));
}

// --- what LSA gets ---

static LogonParts parts(uint32_t type, const Wide *domain, const Wide *user, const Wide *password)
{
	return {type, {domain, wideLength(domain)}, {user, wideLength(user)}, {password, wideLength(password)}};
}

static void aLogonIsPackedByteByByte()
{
	// Type 7; domain "D" at 64, user "me" at 66, password "p" with an umlaut at 70.
	static const uint8_t native[] = {
		7, 0, 0, 0, 0, 0, 0, 0,				//
		2, 0, 2, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, //
		4, 0, 4, 0, 0, 0, 0, 0, 66, 0, 0, 0, 0, 0, 0, 0, //
		4, 0, 4, 0, 0, 0, 0, 0, 70, 0, 0, 0, 0, 0, 0, 0, //
		0, 0, 0, 0, 0, 0, 0, 0,				//
		'D', 0, 'm', 0, 'e', 0, 'p', 0, 0xfc, 0,
	};
	static const uint8_t wow[] = {
		7, 0, 0, 0,		//
		2, 0, 2, 0, 36, 0, 0, 0, //
		4, 0, 4, 0, 38, 0, 0, 0, //
		4, 0, 4, 0, 42, 0, 0, 0, //
		0, 0, 0, 0, 0, 0, 0, 0,	//
		'D', 0, 'm', 0, 'e', 0, 'p', 0, 0xfc, 0,
	};
	LogonParts p = parts(logonUnlock, u"D", u"me", u"p\u00fc");
	uint8_t out[128];

	CHECK(logonSize(Layout::Native, p) == sizeof native);
	CHECK(packLogon(Layout::Native, p, out, sizeof native) && memcmp(out, native, sizeof native) == 0);
	CHECK(!packLogon(Layout::Native, p, out, sizeof native - 1));
	CHECK(logonSize(Layout::Wow, p) == sizeof wow);
	CHECK(packLogon(Layout::Wow, p, out, sizeof wow) && memcmp(out, wow, sizeof wow) == 0);
}

static void aTextTooLongForItsLengthIsNotPacked()
{
	static Wide longText[40000];
	LogonParts p = parts(logonInteractive, u"D", u"me", u"p");

	p.password = {longText, 32768};
	CHECK(logonSize(Layout::Native, p) == 0);
	p.password = {longText, 32767};
	CHECK(logonSize(Layout::Native, p) == 64 + 2 * (1 + 2 + 32767));
}

static void whatWasPackedIsUnpacked()
{
	for (Layout layout : {Layout::Native, Layout::Wow}) {
		LogonParts p = parts(logonInteractive, u"", u"alice@corp.example", u"");
		Wide text[32];
		LogonRanges r;
		uint8_t out[256];
		size_t size = logonSize(layout, p);

		CHECK(packLogon(layout, p, out, sizeof out));
		CHECK(unpackLogon(layout, out, size, &r));
		CHECK(r.type == logonInteractive && r.domain.length == 0 && r.password.length == 0);
		CHECK(readLogon(out, r.user, text, 31) && same(text, u"alice@corp.example"));
		CHECK(readLogon(out, r.user, text, 18));
		CHECK(!readLogon(out, r.user, text, 17));
		// Each byte that is missing is noticed.
		for (size_t n = 0; n < size; n++)
			CHECK(!unpackLogon(layout, out, n, &r));
	}
}

static void whatIsOutOfBoundsIsRefused()
{
	struct Change {
		size_t at;
		uint64_t value;
		size_t bytes;
	};
	static const Change bad[] = {
		{0, 6, 4},			  // a smart card's
		{0, 0xffffffff, 4},		  //
		{8, 3, 2},			  // half a unit
		{8, 0xfffe, 2},			  // longer than all
		{16, 1u << 20, 8},		  // behind the end
		{16, 0xfffffffffffffffe, 8},	  // behind the end, and around
		{16, 0x7fffffffffffffff, 8},	  //
		{16, 0, 8},			  // in the head
		{16, 55, 8},			  //
		{16, 68, 8},			  // the last byte is outside
		{24, 4096, 2},			  //
		{40, 0x100, 2},			  //
	};
	LogonParts p = parts(logonInteractive, u"D", u"", u"");
	uint8_t out[68];
	LogonRanges r;

	for (const Change &c : bad) {
		memset(out, 0, sizeof out);
		CHECK(packLogon(Layout::Native, p, out, sizeof out));
		CHECK(unpackLogon(Layout::Native, out, 66, &r));
		for (size_t i = 0; i < c.bytes; i++)
			out[c.at + i] = static_cast<uint8_t>(c.value >> 8 * i);
		bool unpacked = unpackLogon(Layout::Native, out, 67, &r);
		CHECK(!unpacked);
		if (unpacked)
			fprintf(stderr, "  change at %zu to %llx\n", c.at, static_cast<unsigned long long>(c.value));
	}
	CHECK(!unpackLogon(Layout::Native, nullptr, 64, &r));
	CHECK(!unpackLogon(Layout::Native, out, logonMax + 1, &r));
}

static void aNulInsideANameIsRefused()
{
	const Wide sly[] = {'a', 'd', 'm', 0, 'x', 0};
	LogonParts p = parts(logonInteractive, u"D", u"me", u"p");
	Wide text[16];
	LogonRanges r;
	uint8_t out[128];

	p.user = {sly, 5};
	CHECK(packLogon(Layout::Native, p, out, sizeof out) && unpackLogon(Layout::Native, out, logonSize(Layout::Native, p), &r));
	CHECK(!readLogon(out, r.user, text, 15));
}

// --- the dialogue ---

static sallyport_login_v1_Directive empty()
{
	return sallyport_login_v1_Directive_init_zero;
}

template <class Bytes> static void put(Bytes &field, const char *text)
{
	field.size = static_cast<pb_size_t>(strlen(text));
	memcpy(field.bytes, text, field.size);
}

static sallyport_login_v1_Directive prompt(uint32_t id, const char *text, bool emptyAllowed = false)
{
	sallyport_login_v1_Directive d = empty();
	d.which_directive = sallyport_login_v1_Directive_prompt_tag;
	d.directive.prompt.id = id;
	d.directive.prompt.echo = sallyport_login_v1_Prompt_Echo_ECHO_VISIBLE;
	d.directive.prompt.empty_allowed = emptyAllowed;
	put(d.directive.prompt.text, text);
	return d;
}

static sallyport_login_v1_Directive waiting(uint32_t ms)
{
	sallyport_login_v1_Directive d = empty();
	d.which_directive = sallyport_login_v1_Directive_waiting_tag;
	d.directive.waiting.number = 42;
	d.directive.waiting.expires_in_ms = ms;
	put(d.directive.waiting.device, "Pixel");
	return d;
}

static sallyport_login_v1_Directive verdict(uint32_t decision, const char *text)
{
	sallyport_login_v1_Directive d = empty();
	d.which_directive = sallyport_login_v1_Directive_verdict_tag;
	memcpy(&d.directive.verdict.decision, &decision, sizeof decision);
	put(d.directive.verdict.text, text);
	return d;
}

static void aPromptIsShownWithoutItsColon()
{
	Dialogue d;

	CHECK(d.stage == Stage::Working && !d.over());
	d.take(prompt(7, "Code from your authenticator app: "), 0);
	CHECK(d.stage == Stage::Asking && d.prompt == 7 && d.visible && !d.emptyAllowed && !d.phone);
	CHECK(strcmp(d.text, "Code from your authenticator app") == 0);
	d.answered();
	CHECK(d.stage == Stage::Working && d.prompt == 0 && d.text[0] == '\0');
}

static void whatTheAgentSaysIsMadeHarmless()
{
	Dialogue d;

	d.take(prompt(1, "a\x1b[2Jb\xff\xe2\x80\xae" "c"), 0);
	CHECK(strcmp(d.text, "a?[2Jb??c") == 0);
}

static void aPhoneIsWaitedForAsLongAsItRings()
{
	Dialogue d;

	d.take(waiting(60000), 1000);
	CHECK(d.stage == Stage::Working);
	d.take(prompt(1, "Type 42", true), 1000);
	CHECK(d.stage == Stage::Asking && d.number == 42 && strcmp(d.device, "Pixel") == 0);
	CHECK(d.phoneMs(1000) == 60000 && d.phoneMs(60999) == 1 && d.phoneMs(61000) == 0 && d.phoneMs(99999) == 0);
	d.answered();
	CHECK(d.phoneMs(1000) == 0);
	d.take(waiting(0xffffffff), 0); // an agent that is wrong about the time
	CHECK(d.phoneMs(0) == Dialogue::phoneMaxMs);
}

static void onlyTheOpenPromptIsClosed()
{
	sallyport_login_v1_Directive close = empty();
	Dialogue d;

	close.which_directive = sallyport_login_v1_Directive_close_prompt_tag;
	d.take(prompt(2, "Code"), 0);
	close.directive.close_prompt.id = 1;
	d.take(close, 0);
	CHECK(d.stage == Stage::Asking);
	close.directive.close_prompt.id = 2;
	d.take(close, 0);
	CHECK(d.stage == Stage::Working);
}

static void onlyAllowAndSkipAllow()
{
	for (uint32_t decision = 0; decision < 300; decision++) {
		Dialogue d;
		d.take(prompt(1, "Code"), 0);
		d.take(verdict(decision, "why"), 0);
		bool allows = decision == sallyport_login_v1_Verdict_Decision_DECISION_ALLOW ||
			      decision == sallyport_login_v1_Verdict_Decision_DECISION_SKIP;
		CHECK(d.over() && (d.stage == Stage::Allowed) == allows && strcmp(d.text, "why") == 0);
	}
	Dialogue d;
	d.take(empty(), 0);
	CHECK(d.stage == Stage::Refused);
}

static void nothingComesAfterAVerdict()
{
	Dialogue d;

	d.take(verdict(sallyport_login_v1_Verdict_Decision_DECISION_DENY, "no"), 0);
	d.take(verdict(sallyport_login_v1_Verdict_Decision_DECISION_ALLOW, "yes"), 0);
	d.take(prompt(1, "Code"), 0);
	d.refuse("other");
	CHECK(d.stage == Stage::Refused && strcmp(d.text, "no") == 0);
}

static void ourOwnRefusalIsBounded()
{
	char text[2 * Dialogue::textMax];
	Dialogue d;

	memset(text, 'x', sizeof text);
	text[sizeof text - 1] = '\0';
	d.refuse(text);
	CHECK(d.stage == Stage::Refused && strlen(d.text) == Dialogue::textMax);
}

// --- the picture ---

static void thePictureIsWholeAndRound()
{
	static uint32_t pixels[logoSize * logoSize + 1];

	pixels[logoSize * logoSize] = 0x12345678;
	drawLogo(pixels);
	CHECK(pixels[logoSize * logoSize] == 0x12345678);
	CHECK(pixels[0] == 0 && pixels[logoSize * logoSize - 1] == 0);                       // corners
	CHECK(pixels[2 * logoSize + logoSize / 2] == 0xff1f4e79);                                          // the top
	CHECK(pixels[(logoSize / 3) * logoSize + logoSize / 3] == 0xffffffff);                // the wall
	CHECK(pixels[(logoSize * 3 / 4) * logoSize + logoSize / 2 - 12] == 0xff1f4e79);       // between the doors
	for (int i = 0; i < logoSize * logoSize; i++)
		for (int shift = 0; shift < 24; shift += 8)
			CHECK((pixels[i] >> shift & 0xff) <= pixels[i] >> 24); // multiplied by alpha
}

int main()
{
	utf8IsWhatTheStandardSays();
	textThatDoesNotFitOrIsNoneLeavesNothing();
	aSecretIsBoundedAndLeavesNothing();
	namesAreTakenApartAsWindowsDoes();
	namesAreBoundedNotCut();
	namesCompareWithoutCase();
	aLogonIsPackedByteByByte();
	aTextTooLongForItsLengthIsNotPacked();
	whatWasPackedIsUnpacked();
	whatIsOutOfBoundsIsRefused();
	aNulInsideANameIsRefused();
	aPromptIsShownWithoutItsColon();
	whatTheAgentSaysIsMadeHarmless();
	aPhoneIsWaitedForAsLongAsItRings();
	onlyTheOpenPromptIsClosed();
	onlyAllowAndSkipAllow();
	nothingComesAfterAVerdict();
	ourOwnRefusalIsBounded();
	thePictureIsWholeAndRound();
	if (failures == 0)
		puts("unit: ok");
	return failures == 0 ? 0 : 1;
}
