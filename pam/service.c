#include "service.h"

#include <stddef.h>
#include <string.h>

enum place {
	TERMINAL = 1,
	SCREEN, /* draws its own window, even when PAM_TTY names a console */
};

#define LOGIN   sallyport_login_v1_Scenario_SCENARIO_LOGIN
#define UNLOCK  sallyport_login_v1_Scenario_SCENARIO_UNLOCK
#define ELEVATE sallyport_login_v1_Scenario_SCENARIO_ELEVATE
#define REMOTE  sallyport_login_v1_Scenario_SCENARIO_REMOTE

/*
 * Services that are something else than a login at a terminal. A service that
 * is not here is LOGIN, or REMOTE when PAM_RHOST is set; so is one whose
 * scenario here is LOGIN.
 */
static const struct known {
	const char *name;
	sallyport_login_v1_Scenario scenario;
	enum place place;
} known[] = {
	{ "sshd", REMOTE, TERMINAL },
	/* The person sits elsewhere, whether or not PAM_RHOST says where. */
	{ "cockpit", REMOTE, SCREEN },
	{ "xrdp-sesman", REMOTE, SCREEN },

	{ "sudo", ELEVATE, TERMINAL },
	{ "sudo-i", ELEVATE, TERMINAL },
	{ "su", ELEVATE, TERMINAL },
	{ "su-l", ELEVATE, TERMINAL },
	{ "runuser", ELEVATE, TERMINAL },
	{ "runuser-l", ELEVATE, TERMINAL },
	{ "doas", ELEVATE, TERMINAL },
	{ "pkexec", ELEVATE, TERMINAL },
	{ "polkit-1", ELEVATE, SCREEN },

	{ "vlock", UNLOCK, TERMINAL },
	{ "physlock", UNLOCK, TERMINAL },
	{ "cinnamon-screensaver", UNLOCK, SCREEN },
	{ "gnome-screensaver", UNLOCK, SCREEN },
	{ "gtklock", UNLOCK, SCREEN },
	{ "hyprlock", UNLOCK, SCREEN },
	{ "i3lock", UNLOCK, SCREEN },
	{ "kcheckpass", UNLOCK, SCREEN },
	{ "kde", UNLOCK, SCREEN },
	{ "kscreenlocker", UNLOCK, SCREEN },
	{ "light-locker", UNLOCK, SCREEN },
	{ "mate-screensaver", UNLOCK, SCREEN },
	{ "swaylock", UNLOCK, SCREEN },
	{ "waylock", UNLOCK, SCREEN },
	{ "xfce4-screensaver", UNLOCK, SCREEN },
	{ "xlock", UNLOCK, SCREEN },
	{ "xscreensaver", UNLOCK, SCREEN },
	{ "xsecurelock", UNLOCK, SCREEN },

	{ "gdm", LOGIN, SCREEN },
	{ "gdm3", LOGIN, SCREEN },
	{ "gdm-password", LOGIN, SCREEN },
	{ "gdm-fingerprint", LOGIN, SCREEN },
	{ "gdm-smartcard", LOGIN, SCREEN },
	{ "greetd", LOGIN, SCREEN },
	{ "lightdm", LOGIN, SCREEN },
	{ "lxdm", LOGIN, SCREEN },
	{ "sddm", LOGIN, SCREEN },
	{ "slim", LOGIN, SCREEN },
	{ "xdm", LOGIN, SCREEN },
};

struct service service_describe(const char *service, const char *tty, bool remote)
{
	enum place place = TERMINAL;
	struct service s = {
		.scenario = LOGIN,
		/* OpenSSH before 10.3 holds a notice back until the next prompt. */
		.live_notices = strcmp(service, "sshd") != 0,
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(service, known[i].name) == 0) {
			s.scenario = known[i].scenario;
			place = known[i].place;
			break;
		}
	}
	if (s.scenario == LOGIN && remote)
		s.scenario = REMOTE;
	/* sshd says "ssh" for any terminal, sudo and login name it. */
	s.qr = place == TERMINAL &&
	       (strncmp(tty, "/dev/", strlen("/dev/")) == 0 || strcmp(tty, "ssh") == 0);
	return s;
}
