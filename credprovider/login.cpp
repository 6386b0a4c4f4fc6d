#include "login.h"

#include <sddl.h>
#include <stdio.h>
#include <string.h>

#include "eventlog.h"
#include "texts.h"

namespace {

enum : int {
	connectMs = 3000,
	// The service starts after the login screen, and is away while it is updated. In a
	// program nobody wants to wait for that.
	absentMs = 20 * 1000,
	absentCredUIMs = 3000,
	retryMs = 500,
	// The agent's time for a step. It asks Windows for the password, and that asks a
	// domain, which may be far away: the agent gives it 26 s. To give up before it does
	// would have the same password tried, and counted, again.
	stepMs = 40 * 1000,
	// The agent bounds the person's time (limits.prompt_time, at most 10 min); this is
	// for an agent that forgot.
	promptMs = 11 * 60 * 1000,
	// How long LogonUI may take to come for a verdict.
	redeemMs = 20 * 1000,
	joinMs = 2000,
};

void CALLBACK wakeUp(ULONG_PTR) {}

template <class Bytes> bool put(Bytes &field, const Wide *text, size_t length)
{
	size_t size;
	if (!utf8Of(text, length, field.bytes, sizeof field.bytes, &size))
		return false;
	field.size = static_cast<pb_size_t>(size);
	return true;
}

// Text that no policy looks at, or that is bounded where it comes from.
template <class Bytes> void putText(Bytes &field, const char *text)
{
	size_t size = strlen(text);
	if (size > sizeof field.bytes)
		return;
	memcpy(field.bytes, text, size);
	field.size = static_cast<pb_size_t>(size);
}

sallyport_login_v1_Scenario scenarioOf(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, const Place &place)
{
	if (cpus == CPUS_CREDUI)
		return sallyport_login_v1_Scenario_SCENARIO_ELEVATE;
	if (place.remote)
		return sallyport_login_v1_Scenario_SCENARIO_REMOTE;
	// Windows 10 unlocks with CPUS_LOGON too, if there is nothing to hide behind: no
	// policy may rely on UNLOCK alone.
	return cpus == CPUS_UNLOCK_WORKSTATION ? sallyport_login_v1_Scenario_SCENARIO_UNLOCK : sallyport_login_v1_Scenario_SCENARIO_LOGIN;
}

// Looks up whose name it is, in Windows' spelling of a SID. It may ask a domain.
bool sidOf(const Account &account, wchar_t (&out)[Settings::sidMax + 1])
{
	wchar_t name[accountNameMax + 1], domain[Account::domainMax + 1];
	union {
		SID sid;
		BYTE room[SECURITY_MAX_SID_SIZE];
	} found;
	DWORD size = sizeof found, domainSize = ARRAYSIZE(domain);
	SID_NAME_USE use;
	wchar_t *spelled = nullptr;
	bool ok;

	accountName(account, name);
	ok = LookupAccountNameW(nullptr, name, &found.sid, &size, domain, &domainSize, &use) && use == SidTypeUser &&
	     ConvertSidToStringSidW(&found.sid, &spelled) && wcslen(spelled) <= Settings::sidMax;
	if (ok)
		wcscpy(out, spelled);
	(void)LocalFree(spelled);
	return ok;
}

} // namespace

Ref<Login> Login::begin(const Request &request, Password &password, const Ref<Settings> &settings, const Ref<Notifier> &notifier)
{
	Ref<Login> l = Ref<Login>::adopt(new Login);
	HMODULE module;
	DWORD id;

	if (!l)
		return {};
	l->settings = settings;
	l->notifier = notifier;
	l->request = request;
	l->password.take(password);

	// The thread has a reference to the login, and one to the DLL's code: COM may let
	// the DLL go while the thread is on its last instructions.
	if (!GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, reinterpret_cast<LPCWSTR>(&threadMain), &module))
		return {};
	l->AddRef();
	l->thread = CreateThread(nullptr, 0, threadMain, l.get(), 0, &id);
	if (l->thread == nullptr) {
		l->Release();
		(void)FreeLibrary(module);
		return {};
	}
	return l;
}

Login::~Login()
{
	if (thread != nullptr)
		(void)CloseHandle(thread);
}

DWORD WINAPI Login::threadMain(void *arg)
{
	Login *l = static_cast<Login *>(arg);
	l->run();
	l->Release();
	FreeLibraryAndExitThread(moduleHandle(), 0);
}

void Login::run()
{
	Place place = here();
	bool tell;

	if (!breakGlass(place))
		converse(place);
	{
		Hold hold(lock);
		// What converse leaves open is not allowed.
		dialogue.refuse(texts::refused);
		if (dialogue.stage != Stage::Allowed)
			password.wipe();
		pending.wipe();
		tell = told = left && !stopped;
		changed();
	}
	if (tell)
		notifier->changed();
	awaitRedemption();
}

// The verdict is good for some seconds; then, or when it was taken, nothing is left.
void Login::awaitRedemption()
{
	int64_t until = hc_now_ms() + redeemMs;
	Hold hold(lock);

	while (dialogue.stage == Stage::Allowed && !redeemed && !stopped) {
		int64_t ms = until - hc_now_ms();
		if (ms <= 0) {
			dialogue = Dialogue();
			dialogue.refuse(texts::tooLate);
			changed();
			break;
		}
		(void)SleepConditionVariableSRW(&condition, &lock.srw, static_cast<DWORD>(ms), 0);
	}
	password.wipe();
}

// Whether this account may do without us here: then the agent is not asked at all, so
// that it need not be alive.
bool Login::breakGlass(const Place &place)
{
	wchar_t sid[Settings::sidMax + 1];
	// CredUI only where Windows itself asks (User Account Control): to mend a computer
	// takes an administrator. A program's own dialog has nothing to break.
	bool asked = request.cpus != CPUS_CREDUI || runsAsSystem();

	if (!settings->hasBreakGlass() || !place.console || !asked)
		return false;
	if (request.sid[0] != 0)
		wcscpy(sid, request.sid);
	else if (!sidOf(request.account, sid))
		return false;
	if (!settings->isBreakGlass(sid))
		return false;
	{
		Hold hold(lock);
		if (stopped)
			return false;
		dialogue.stage = Stage::Allowed;
	}
	char spelled[Settings::sidMax + 1] = {};
	(void)WideCharToMultiByte(CP_UTF8, 0, sid, -1, spelled, sizeof spelled, nullptr, nullptr);
	logEvent(LogId::BreakGlass, EVENTLOG_WARNING_TYPE, texts::logBreakGlass, spelled);
	return true;
}

// tick says whether the person or the screen wants something.
bool Login::tick(void *arg)
{
	Login *l = static_cast<Login *>(arg);
	Hold hold(l->lock);
	return l->stopped || l->hasPending;
}

void Login::converse(const Place &place)
{
	const sallyport_login_v1_Directive *directive;
	hc_client *agent = nullptr;
	hc_status status = reach(&agent);

	if (agent == nullptr)
		return fail(texts::noMemory, false);
	if (status == HC_OK && !sendBegin(agent, place))
		status = HC_FAILED;
	while (status == HC_OK) {
		bool asking;
		{
			Hold hold(lock);
			if (dialogue.over())
				break;
			asking = dialogue.stage == Stage::Asking;
		}
		status = hc_next(agent, asking ? promptMs : stepMs, &directive);
		if (status == HC_OK) {
			bool tell;
			{
				Hold hold(lock);
				dialogue.take(*directive, hc_now_ms());
				tell = left && directive->which_directive == sallyport_login_v1_Directive_prompt_tag;
				if (tell) {
					told = true;
					toldUntil = hc_now_ms() + redeemMs;
				}
				changed();
			}
			if (tell)
				notifier->changed();
		} else if (status == HC_CANCELLED && carryOut(agent)) {
			status = HC_OK;
		}
	}
	if (status != HC_OK)
		noVerdict(agent, status);
	hc_free(agent);
}

// Connects to the agent; *agent is nullptr when memory is short.
hc_status Login::reach(hc_client **agent)
{
	int64_t until = hc_now_ms() + (request.cpus == CPUS_CREDUI ? absentCredUIMs : absentMs);

	for (;;) {
		hc_status status;

		*agent = hc_new(tick, this);
		if (*agent == nullptr)
			return HC_FAILED;
		status = hc_connect(*agent, settings->pipe(), connectMs);
		if (status != HC_AGENT_ABSENT || hc_now_ms() >= until) {
			say("");
			return status;
		}
		hc_free(*agent);
		say(texts::starting);
		Hold hold(lock);
		if (!stopped)
			(void)SleepConditionVariableSRW(&condition, &lock.srw, retryMs, 0);
	}
}

// Shows a text of ours while the agent cannot.
void Login::say(const char *notice)
{
	Hold hold(lock);
	if (strcmp(dialogue.notice, notice) == 0)
		return;
	(void)snprintf(dialogue.notice, sizeof dialogue.notice, "%s", notice);
	changed();
}

bool Login::sendBegin(hc_client *agent, const Place &place)
{
	auto *b = static_cast<sallyport_login_v1_Begin *>(calloc(1, sizeof(sallyport_login_v1_Begin)));
	wchar_t name[accountNameMax + 1], locale[LOCALE_NAME_MAX_LENGTH];
	char text[128];
	bool ok;

	if (b == nullptr) {
		fail(texts::noMemory, false);
		return false;
	}
	b->protocol_version = HC_PROTOCOL_VERSION;
	b->hook = sallyport_login_v1_HookKind_HOOK_KIND_CREDENTIAL_PROVIDER;
	b->stage = sallyport_login_v1_Stage_STAGE_AUTHENTICATE;
	b->scenario = scenarioOf(request.cpus, place);
	b->has_capabilities = true;
	b->capabilities.live_notices = true;
	b->capabilities.cancel_prompt = true;
	b->capabilities.choices = true;
	putText(b->service, request.cpus == CPUS_CREDUI ? "credui" : "logonui");
	putText(b->remote_host, place.remoteHost);
	if (request.cpus == CPUS_CREDUI)
		putText(b->caller, place.owner);
	(void)snprintf(text, sizeof text, "%lu", place.session);
	putText(b->session, text);
	if (GetUserDefaultLocaleName(locale, ARRAYSIZE(locale)) > 0)
		(void)put(b->locale, locale, wcslen(locale));

	accountName(request.account, name);
	{
		Hold hold(lock);
		ok = put(b->user, name, wideLength(name));
		if (!ok)
			dialogue.refuse(texts::badUser);
		else if (!(ok = put(b->password, password.text(), password.length())))
			dialogue.refuse(texts::badPassword);
	}
	if (ok)
		ok = hc_begin(agent, b) == HC_OK;
	hc_wipe(b, sizeof *b);
	free(b);
	return ok;
}

// Sends what the person typed. False when the login is to end.
bool Login::carryOut(hc_client *agent)
{
	uint8_t text[HC_ANSWER_MAX];
	size_t length = 0;
	uint32_t prompt;
	bool isPassword, ok;
	{
		Hold hold(lock);
		if (stopped)
			return false;
		// The prompt may have been closed since.
		prompt = dialogue.stage == Stage::Asking ? dialogue.prompt : 0;
		isPassword = !pending.empty() && pending.equals(password);
		ok = utf8Of(pending.text(), pending.length(), text, sizeof text, &length);
		pending.wipe();
		hasPending = false;
		if (prompt == 0)
			return true;
		dialogue.answered();
		changed();
	}
	if (!ok) { // half of a character is in no code, and nor is this
		text[0] = '?';
		length = 1;
	}
	ok = isPassword ? hc_answer_is_password(agent, prompt) == HC_OK
			: hc_answer(agent, prompt, reinterpret_cast<const char *>(text), length) == HC_OK;
	hc_wipe(text, sizeof text);
	return ok;
}

void Login::fail(const char *text, bool withMessage)
{
	char full[Dialogue::textMax + 1];
	const char *message = withMessage ? settings->message() : "";

	(void)snprintf(full, sizeof full, "%s%s%s", text, message[0] != '\0' ? "\n" : "", message);
	Hold hold(lock);
	dialogue.refuse(full);
}

void Login::noVerdict(hc_client *agent, int status)
{
	const char *why = hc_failure(agent);

	switch (status) {
	case HC_CANCELLED:
		hc_cancel(agent);
		return fail("", false); // the person knows
	case HC_AGENT_ABSENT:
		logEvent(LogId::AgentAbsent, EVENTLOG_ERROR_TYPE, texts::logAgentAbsent, why);
		return fail(texts::agentAbsent, true);
	case HC_TIMEOUT:
		logEvent(LogId::AgentFailed, EVENTLOG_ERROR_TYPE, texts::logAgentFailed, why);
		return fail(texts::agentSilent, true);
	default:
		if (why[0] != '\0') // else the reason was ours, and is said
			logEvent(LogId::AgentFailed, EVENTLOG_ERROR_TYPE, texts::logAgentFailed, why);
		return fail(texts::agentBroken, true);
	}
}

// --- for the screen ---

void Login::changed()
{
	changes++;
	WakeAllConditionVariable(&condition);
}

// The thread may be in hc_next, whose wait an APC ends, or asleep with its verdict.
void Login::wake()
{
	WakeAllConditionVariable(&condition);
	(void)QueueUserAPC(wakeUp, thread, 0);
}

void Login::look(Dialogue *out, LONG *seen)
{
	Hold hold(lock);
	*out = dialogue;
	if (hasPending && out->stage == Stage::Asking)
		out->stage = Stage::Working;
	*seen = changes;
}

void Login::wait(LONG seen, DWORD ms)
{
	Hold hold(lock);
	if (changes == seen)
		(void)SleepConditionVariableSRW(&condition, &lock.srw, ms, 0);
}

bool Login::answer(const Code &code)
{
	Hold hold(lock);
	if (dialogue.stage != Stage::Asking || hasPending)
		return true;
	if (!pending.set(code.text(), code.length()))
		return false;
	hasPending = true;
	wake();
	return true;
}

void Login::leave()
{
	Hold hold(lock);
	left = !dialogue.over();
}

void Login::attend()
{
	Hold hold(lock);
	left = false;
}

bool Login::announced()
{
	Hold hold(lock);
	// A verdict has its own end.
	return told && (dialogue.over() || hc_now_ms() < toldUntil);
}

void Login::found()
{
	Hold hold(lock);
	told = told && dialogue.over();
}

bool Login::redeem(Account *account, Password *out)
{
	Hold hold(lock);
	if (dialogue.stage != Stage::Allowed || redeemed || stopped)
		return false;
	*account = request.account;
	out->take(password);
	redeemed = true;
	wake();
	return true;
}

void Login::stop()
{
	{
		Hold hold(lock);
		stopped = true;
		pending.wipe();
		hasPending = false;
		wake();
	}
	(void)WaitForSingleObject(thread, joinMs);
}
