// What the agent has said in one login, as far as the tile shows it. Directives go in,
// the time is passed in; it knows no screen, no thread and no pipe.
#pragma once

#include <stdint.h>

#include "hookclient.h"
#include "platform.h"

// Stage is where a login stands. The first denies nobody and lets nobody in.
enum class Stage : uint8_t {
	Working = 0, // the agent's turn
	Asking,      // the person's: a prompt is open
	Allowed,
	Refused,
};

struct Dialogue {
	// textMax: more than the agent may say, and room for the configured message behind
	// ours.
	enum : size_t { textMax = 1024, deviceMax = 64 };
	enum : int64_t { phoneMaxMs = 5 * 60 * 1000 };

	Stage stage = Stage::Working;

	// The open prompt.
	uint32_t prompt = 0;
	bool visible = false;
	bool emptyAllowed = false;

	// A phone is asked beside it, until so much on hc_now_ms's clock.
	bool phone = false;
	uint32_t number = 0;
	int64_t phoneUntil = 0;
	char device[deviceMax + 1] = {};

	// UTF-8, harmless. The prompt's text, or why the login was refused; it may be
	// empty.
	char text[textMax + 1] = {};
	// The last thing that the agent told beside its prompts.
	char notice[textMax + 1] = {};

	Dialogue() = default;
	// A prompt may show a new key, or recovery codes.
	~Dialogue() { hc_wipe(this, sizeof *this); }
	Dialogue(const Dialogue &) = default;
	Dialogue &operator=(const Dialogue &) = default;

	bool over() const { return stage == Stage::Allowed || stage == Stage::Refused; }
	// phoneMs is how long the phone may still be answered; 0 when none is asked.
	int64_t phoneMs(int64_t now) const { return phone && phoneUntil > now ? phoneUntil - now : 0; }

	// take applies what the agent said. After a verdict nothing changes any more.
	void take(const sallyport_login_v1_Directive &directive, int64_t now);
	// answered notes that the person's answer is on its way.
	void answered();
	// refuse ends the login without the agent's word; text is UTF-8 and ours.
	void refuse(const char *text);
};
