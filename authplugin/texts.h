/*
 * Every word of ours that a person reads at the login window, or a helpdesk in the
 * log, in UTF-8. What the agent says is shown as it comes.
 */
#ifndef SALLYPORT_TEXTS_H
#define SALLYPORT_TEXTS_H

/* How a login ends without the agent's word. */
#define TEXT_AGENT_ABSENT "Sallyport is not running on this computer, so nobody can log in. Call your helpdesk."
#define TEXT_AGENT_SILENT "Sallyport does not answer on this computer, so nobody can log in. Call your helpdesk."
#define TEXT_AGENT_BROKEN "Sallyport cannot check logins on this computer right now. Call your helpdesk."
#define TEXT_NO_MEMORY "This computer is short of memory. Please try again."
#define TEXT_NO_ACCOUNT                                                                            \
	"Your account could not be looked up. Please try again, or call your helpdesk."
#define TEXT_BAD_USER "macOS did not say who is logging in. Please try again, or call your helpdesk."
#define TEXT_REFUSED "You were not logged in. Please try again."
#define TEXT_TOO_LATE "That took too long. Please try again."

/* The log. printf: what went wrong, the user's name, uid, the service. */
#define TEXT_LOG_AGENT_ABSENT                                                                      \
	"The agent is not running, so nobody can log in but the break-glass accounts: %s. "        \
	"Start it: sudo launchctl kickstart system/com.sallyport.agent"
#define TEXT_LOG_AGENT_FAILED                                                                      \
	"A login was refused because the agent gave no verdict: %s. Look at: sallyport doctor"
#define TEXT_LOG_BREAK_GLASS                                                                       \
	"BREAK-GLASS: %s (uid %u) was let through with the password alone (%s)."
#define TEXT_LOG_LIST_REFUSED "The break-glass list counts for nobody: %s"
#define TEXT_LOG_NO_LONGER_LISTED                                                                  \
	"%s was refused: the break-glass list no longer names the account."
#define TEXT_LOG_NO_USER "A login was refused: the context names no user."
#define TEXT_LOG_NO_LOGIN                                                                          \
	"A login was refused: verify knows of no login that begin started. Did begin run in another process?"
#define TEXT_LOG_OTHER_USER                                                                        \
	"A login was refused: user name or uid are others than when it began (%s)."
#define TEXT_LOG_TWO_PEOPLE                                                                        \
	"A login was refused: the name is %s's, and the uid %u another account's. Which "          \
	"mechanism has set them? Look at: sallyport authdb check"
#define TEXT_LOG_NO_ACCOUNT                                                                        \
	"%s was refused: whose name it is could not be looked up: %s. Does the directory answer? " \
	"Try: id %s"
#define TEXT_LOG_NO_VIEW "%s was refused: no window could be shown for the second factor."
#define TEXT_LOG_NOT_SHOWN                                                                         \
	"%s was refused: authd did not invoke begin again, so nothing more could be asked."
#define TEXT_LOG_NO_THREAD "A login was refused: memory or threads are short."

#endif
