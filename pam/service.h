/* What a PAM service's name tells: what the person is about to get, and where. */
#ifndef SALLYPORT_PAM_SERVICE_H
#define SALLYPORT_PAM_SERVICE_H

#include <stdbool.h>

#include "sallyport/login/v1/login.pb.h"

struct service {
	sallyport_login_v1_Scenario scenario;
	bool live_notices; /* a notice appears when it is sent */
	bool qr;           /* several lines of block characters survive */
};

/* service and tty are never NULL; remote says whether PAM_RHOST is set. */
struct service service_describe(const char *service, const char *tty, bool remote);

#endif
