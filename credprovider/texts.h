// Every word that a person reads in the tile or in the Event Log, in UTF-8. What the
// agent says is shown as it comes.
#pragma once

namespace texts {

// The fields' labels: Narrator reads them, and an empty field shows them.
constexpr char product[] = "Sallyport";
constexpr char logo[] = "Sallyport picture";
constexpr char heading[] = "Account";
constexpr char otherUser[] = "Other user";
constexpr char userName[] = "User name";
constexpr char password[] = "Password";
constexpr char status[] = "What to do";
constexpr char code[] = "Code";
constexpr char newPassword[] = "New password";
constexpr char repeat[] = "New password again";
constexpr char submit[] = "Log in";

// While the agent works.
constexpr char checking[] = "Checking…";
constexpr char starting[] = "Sallyport is starting…";
// printf: number, the phone's name in brackets or nothing, the time of day
constexpr char typeNumber[] = "Type %02u on your phone%s to approve, until %s. Or type a code here.\nPress Enter without a code to ask again.";
constexpr char notYet[] = "Not approved yet. ";
constexpr char phoneOver[] = "Nobody answered on the phone. Type a code from your authenticator app, or press Enter without one to ask the phone again.";

// What stops a login before the agent is asked.
constexpr char noUser[] = "Type your user name.";
constexpr char badUser[] = "That is no user name. Type it as name, DOMAIN\\name or name@domain.";
constexpr char longPassword[] = "That password is longer than Windows takes.";
constexpr char badPassword[] = "That password has a character that is none.";
constexpr char noCode[] = "Type the code.";
constexpr char longCode[] = "That is too long for a code.";
constexpr char noMemory[] = "This computer is short of memory. Please try again.";

// How a login ends without the agent's word. The configured message follows the first
// three: whom to call.
constexpr char agentAbsent[] = "Sallyport is not running on this computer, so nobody can log in. Call your helpdesk.";
constexpr char agentSilent[] = "Sallyport does not answer on this computer, so nobody can log in. Call your helpdesk.";
constexpr char agentBroken[] = "Sallyport cannot check logins on this computer right now. Call your helpdesk.";
constexpr char refused[] = "You were not logged in. Please try again.";
constexpr char tooLate[] = "That took too long. Please try again.";

// What Windows said when it refused (ReportResult).
constexpr char wrongPassword[] = "The user name or password is not right.";
constexpr char mustChange[] = "Your password must be changed before you log in.";
constexpr char expired[] = "Your password has expired and must be changed.";
constexpr char disabled[] = "This account is switched off. Call your helpdesk.";
constexpr char accountExpired[] = "This account has expired. Call your helpdesk.";
constexpr char lockedOut[] = "This account is locked after too many wrong passwords. Wait, or call your helpdesk.";
constexpr char wrongTime[] = "You may not log in at this time.";
constexpr char wrongComputer[] = "You may not log in at this computer.";
constexpr char notGranted[] = "You may not log in here in this way.";
constexpr char noDomain[] = "No server of your domain can be reached, and you have not logged in here before.";

// A new password, after one of the two above.
constexpr char chooseNew[] = "Type your password, and a new one twice.";
constexpr char changing[] = "Changing your password…";
constexpr char changed[] = "Your password was changed. Sign in with the new one.";
constexpr char noOld[] = "Type your present password too.";
constexpr char noNew[] = "Type a new password.";
constexpr char notTwice[] = "The two new passwords are not the same.";
constexpr char wrongOld[] = "Your present password is not right.";
constexpr char badNew[] = "That new password is not allowed: it is too short or too simple, was used before, or the old one is too young.";
constexpr char mayNotChange[] = "You may not change this password yourself. Call your helpdesk.";
constexpr char noDomainForChange[] = "Your password cannot be changed now, as no server of your domain answers. Call your helpdesk.";
constexpr char notChanged[] = "Your password was not changed. Call your helpdesk.";

// Event Log. printf: what went wrong; the account's SID
constexpr char logAgentAbsent[] = "The agent is not running, so nobody can log in but the break-glass accounts: %s. Start it: sc start sallyport";
constexpr char logAgentFailed[] = "A login was refused because the agent gave no verdict: %s. Look at: sallyport doctor";
constexpr char logBreakGlass[] = "The break-glass account %s was let through to Windows with its password alone.";
constexpr char logSwitchedOff[] = "The emergency switch is on (CredentialProvider, enabled = 0): logins need no second factor.";
constexpr char logNotListed[] = "The credential provider is not among those that Windows offers here (is it excluded by policy?), so the others are not hidden and logins need no second factor. Look at: sallyport doctor";

} // namespace texts
