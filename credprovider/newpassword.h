// A new password for an account whose old one has expired.
#pragma once

#include "account.h"
#include "secret.h"

// changePassword asks Windows, which checks the old one. It gives nullptr, or why
// it was not changed: a text for the person. It may take as long as a far domain does.
const char *changePassword(const Account &account, const Password &old, const Password &fresh);
