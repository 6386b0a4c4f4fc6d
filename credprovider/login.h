// One login, from the password to the agent's verdict, on a thread of its own: LogonUI's
// must never wait for the agent, and an approval on the phone must find somebody who
// listens while the person looks at the tile.
#pragma once

#include "account.h"
#include "com.h"
#include "dialogue.h"
#include "notifier.h"
#include "place.h"
#include "secret.h"
#include "settings.h"

class Login final : public Heap {
public:
	// What a login is about does not change once it has begun: the name and the
	// password that the agent checks are the ones that Windows gets.
	struct Request {
		CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus;
		Account account;
		wchar_t sid[Settings::sidMax + 1]; // of the tile's user; empty: the name was typed
	};

	// begin takes the password over. It gives nullptr when memory or threads are short.
	static Ref<Login> begin(const Request &request, Password &password, const Ref<Settings> &settings, const Ref<Notifier> &notifier);

	// look copies how the login stands; *seen is for wait.
	void look(Dialogue *out, LONG *seen);
	// wait returns when something has changed since seen, after ms at the latest.
	void wait(LONG seen, DWORD ms);

	// answer sends what the person typed at the open prompt; false when it is too long.
	bool answer(const Code &code);

	// leave lets the login go on while nobody waits for it: its next question, or its
	// end, is told to LogonUI.
	void leave();
	// attend is the opposite.
	void attend();
	// announced is true when LogonUI was told, and has yet to come.
	bool announced();
	// found notes that it came: a question may then be left like any other.
	void found();

	// redeem hands out name and password after Stage::Allowed, once, and not later than
	// some seconds after it.
	bool redeem(Account *account, Password *password);

	// stop ends the login and wipes it. It returns when the thread has ended, or after
	// a while without it.
	void stop();

	void AddRef() { (void)count.add(); }
	void Release()
	{
		if (count.drop() == 0)
			delete this;
	}

private:
	Login() = default;
	~Login();

	static DWORD WINAPI threadMain(void *arg);
	static bool tick(void *arg);
	void run();
	bool breakGlass(const Place &place);
	void converse(const Place &place);
	hc_status reach(hc_client **agent);
	void say(const char *notice);
	bool sendBegin(hc_client *agent, const Place &place);
	bool carryOut(hc_client *agent);
	void awaitRedemption();
	void fail(const char *text, bool withMessage);
	void noVerdict(hc_client *agent, int status);
	void changed();
	void wake();

	Count count;
	Ref<Settings> settings;
	Ref<Notifier> notifier;
	Request request = {};
	HANDLE thread = nullptr;

	Lock lock; // for all below
	CONDITION_VARIABLE condition = CONDITION_VARIABLE_INIT;
	LONG changes = 0;
	int64_t toldUntil = 0;
	Dialogue dialogue;
	Password password;
	Code pending;
	bool hasPending = false, stopped = false, left = false, told = false, redeemed = false;
};
