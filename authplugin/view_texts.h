/*
 * Every word of the view's own, in UTF-8. What the agent says is shown as it comes.
 * Those with a % are printf formats.
 */
#ifndef SALLYPORT_VIEW_TEXTS_H
#define SALLYPORT_VIEW_TEXTS_H

#define VIEW_TITLE "Sallyport"

/* The question, when the agent's has no words. */
#define VIEW_QUESTION "Type the code from your authenticator app."
#define VIEW_REFUSED "You were not logged in. Please try again."

/* While a phone rings: the number; the phone's name. */
#define VIEW_APPROVE "Type %02u on your phone to approve"
#define VIEW_APPROVE_ON "Type %02u on your phone (%s) to approve"
#define VIEW_TIME "Time left: %u:%02u"
#define VIEW_OR_CODE "Or type a code from your authenticator app:"
#define VIEW_OVER "Nobody answered on the phone."

#define VIEW_LOG_IN "Log In"
#define VIEW_CANCEL "Cancel"
#define VIEW_BACK "Back"
#define VIEW_USE_CODE "Use a code instead"
#define VIEW_AGAIN "Ask again"

/* Below the field. */
#define VIEW_EMPTY "Type the code."
#define VIEW_CHECKING "Checking…"

/* What VoiceOver calls what has no words of its own. */
#define VIEW_FIELD_LABEL "Code"
#define VIEW_QR_LABEL "QR code for your authenticator app"
#define VIEW_NUMBER_LABEL "Number %02u"

#endif
