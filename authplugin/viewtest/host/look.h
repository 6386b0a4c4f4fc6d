/*
 * What the stand-ins for SecurityAgent have in common: an application whose windows of
 * ours can be looked at, and which marks the repeats of a key as AppKit does. All of it
 * is for the main thread.
 */
#import <AppKit/AppKit.h>

@interface Application : NSApplication
@end

/* Makes NSApp. */
void look_start(void);
/* What can be seen of the view's windows, as JSON. */
NSString *look_json(void);
/* Forgets what VoiceOver was told of elements that are no more. */
void look_forget(void);

/* How many key presses have come that were repeats. */
extern volatile unsigned look_repeats;
