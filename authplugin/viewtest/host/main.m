/*
 * A stand-in for SecurityAgent, for tests: an application that shows the view as a
 * thread of its own is told to, line by line on stdin, and says on stdout what came of
 * it. The clock and the wiping are its own, so that a test can see and turn them.
 *
 *	open HEX      view_open with these bytes of a struct screen, from that thread
 *	openmain HEX  the same from the main thread
 *	close         view_close from that thread; closemain from the main one
 *	clock MS      so much is the time on hc_now_ms's clock from now on
 *	views         what can be seen, as JSON
 *	race N US     N times open and close, the close after up to so many microseconds
 *	count         how many objects of the view's classes there are
 *	slow MS       done takes so long
 *	late          Log In is pressed when view_close has returned, on another thread,
 *	              and the main one has not got to know yet
 *	repeats       how many key presses have come that were repeats
 *	quit
 *
 * Each is answered by one line; "done KIND HEX" comes when done is called.
 */
#import <AppKit/AppKit.h>
#import <Foundation/NSDebug.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "platform.h"
#include "view.h"

/* Each is written by one thread at a time; gcc's Objective-C has no _Atomic. */
static volatile int64_t clock_ms = 1000000;
static volatile unsigned slow_ms, dones, running, late;
static volatile bool closed; /* view_close has returned */
static char last[ANSWER_TEXT_MAX]; /* of done */
static size_t last_length;
static volatile bool wiped; /* a copy of last was */
static struct view *view;
static NSMutableDictionary *labels; /* what was said to VoiceOver, by element */

int64_t hc_now_ms(void)
{
	return clock_ms;
}

void hc_wipe(void *p, size_t n)
{
	if (last_length > 0 && n >= last_length && memcmp(p, last, last_length) == 0)
		wiped = true;
	explicit_bzero(p, n);
}

static void say(const char *line)
{
	flockfile(stdout);
	puts(line);
	fflush(stdout);
	funlockfile(stdout);
}

static void on_done(void *arg, enum answer_kind kind, const char *text, size_t length)
{
	char line[64 + 2 * ANSWER_TEXT_MAX];
	int n;

	(void)arg;
	if (__atomic_fetch_add(&running, 1, __ATOMIC_SEQ_CST) != 0 || closed)
		late++;
	dones++;
	if (slow_ms > 0)
		(void)usleep(slow_ms * 1000);
	if (length > ANSWER_TEXT_MAX)
		abort();
	memcpy(last, text, length);
	last_length = length;
	n = snprintf(line, sizeof(line), "done %d ", (int)kind);
	for (size_t i = 0; i < length; i++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "%02x", (unsigned char)text[i]);
	if (closed)
		late++;
	__atomic_fetch_sub(&running, 1, __ATOMIC_SEQ_CST);
	say(line);
}

/* What macOS has and GNUstep has not. */
@interface NSView (Accessibility)
- (void)setAccessibilityLabel:(NSString *)label;
@end
@implementation NSView (Accessibility)
- (void)setAccessibilityLabel:(NSString *)label
{
	[labels setObject:label forKey:[NSValue valueWithPointer:self]];
}
@end

@interface Application : NSApplication
@end

static volatile unsigned repeats;

/* Marks repeats as AppKit does: a key that is pressed again and was not let go, or in
 * the same millisecond, as X has it; GNUstep passes that on now so, now so. */
@implementation Application
- (void)sendEvent:(NSEvent *)event
{
	static int held = -1;
	static NSTimeInterval up = -1; /* when held was let go; -1 is not yet */

	if ([event type] == NSKeyUp && [event keyCode] == held) {
		up = [event timestamp];
	} else if ([event type] == NSKeyDown && ([event keyCode] != held || (up >= 0 && [event timestamp] > up))) {
		held = [event keyCode];
		up = -1;
	} else if ([event type] == NSKeyDown) {
		up = -1;
		repeats++;
		event = [NSEvent keyEventWithType:NSKeyDown
					 location:[event locationInWindow]
				    modifierFlags:[event modifierFlags]
					timestamp:[event timestamp]
				     windowNumber:[event windowNumber]
					  context:[event context]
				       characters:[event characters]
		      charactersIgnoringModifiers:[event charactersIgnoringModifiers]
					isARepeat:YES
					  keyCode:[event keyCode]];
	}
	[super sendEvent:event];
}
@end

@interface Host : NSObject
@end

@implementation Host
- (void)describe:(NSView *)v to:(NSMutableArray *)list
{
	NSMutableDictionary *d = [NSMutableDictionary dictionary];
	NSRect r = [v convertRect:[v bounds] toView:nil];
	NSWindow *w = [v window];
	id first = [w firstResponder], label = [labels objectForKey:[NSValue valueWithPointer:v]];
	NSUInteger i;

	if ([v isHidden])
		return;
	r.origin = [w convertBaseToScreen:r.origin];
	[d setObject:NSStringFromClass([v class]) forKey:@"class"];
	[d setObject:[NSNumber numberWithInt:(int)r.origin.x] forKey:@"x"];
	/* X counts from the top. */
	[d setObject:[NSNumber numberWithInt:(int)([[NSScreen mainScreen] frame].size.height - NSMaxY(r))] forKey:@"y"];
	[d setObject:[NSNumber numberWithInt:(int)r.size.width] forKey:@"w"];
	[d setObject:[NSNumber numberWithInt:(int)r.size.height] forKey:@"h"];
	if ([v isKindOfClass:[NSTextField class]])
		[d setObject:[(NSTextField *)v stringValue] forKey:@"text"];
	if ([v isKindOfClass:[NSTextField class]])
		[d setObject:[NSNumber numberWithBool:[(NSTextField *)v isEditable]] forKey:@"editable"];
	if ([v isKindOfClass:[NSTextField class]])
		[d setObject:[NSNumber numberWithBool:[(NSTextField *)v isSelectable]] forKey:@"selectable"];
	if ([v isKindOfClass:[NSButton class]])
		[d setObject:[(NSButton *)v title] forKey:@"text"];
	if ([v isKindOfClass:[NSControl class]])
		[d setObject:[NSNumber numberWithBool:[(NSControl *)v isEnabled]] forKey:@"enabled"];
	if (label != nil)
		[d setObject:label forKey:@"label"];
	if (first == v || ([first isKindOfClass:[NSView class]] && [(NSView *)first isDescendantOf:v] && [v isKindOfClass:[NSControl class]]))
		[d setObject:[NSNumber numberWithBool:YES] forKey:@"focus"];
	[list addObject:d];
	for (i = 0; i < [[v subviews] count]; i++)
		[self describe:[[v subviews] objectAtIndex:i] to:list];
}

- (void)views
{
	NSMutableArray *list = [NSMutableArray array];
	NSEnumerator *e = [[NSApp windows] objectEnumerator];
	NSWindow *w;
	NSData *json;

	while ((w = [e nextObject]) != nil)
		if ([w isVisible] && [NSStringFromClass([w class]) hasPrefix:@"Sallyport"]) {
			NSMutableDictionary *d = [NSMutableDictionary dictionary];

			[d setObject:@"window" forKey:@"class"];
			[d setObject:[NSNumber numberWithBool:[w isKeyWindow]] forKey:@"focus"];
			[d setObject:[NSNumber numberWithInt:(int)[w level]] forKey:@"level"];
			[list addObject:d];
			[self describe:[w contentView] to:list];
		}
	json = [NSJSONSerialization dataWithJSONObject:list options:0 error:NULL];
	say([[[[NSString alloc] initWithData:json encoding:NSUTF8StringEncoding] autorelease] UTF8String]);
}

- (void)open:(NSData *)screen
{
	closed = false;
	wiped = false;
	last_length = 0;
	[labels performSelectorOnMainThread:@selector(removeAllObjects) withObject:nil waitUntilDone:YES];
	view = [screen length] == sizeof(struct screen) ? view_open([screen bytes], on_done, NULL) : NULL;
	say(view != NULL ? "ok" : "no");
}

- (void)shut
{
	view_close(view);
	view = NULL;
	closed = true;
	say(wiped ? "ok wiped" : "ok");
}

static void *close_it(void *arg)
{
	NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];

	(void)arg;
	view_close(view);
	view = NULL;
	closed = true;
	[pool drain];
	return NULL;
}

- (void)late
{
	NSEnumerator *windows = [[NSApp windows] objectEnumerator];
	NSWindow *w;
	pthread_t thread;

	if (pthread_create(&thread, NULL, close_it, NULL) != 0)
		abort();
	(void)pthread_join(thread, NULL);
	while ((w = [windows nextObject]) != nil) {
		NSEnumerator *all = [[[w contentView] subviews] objectEnumerator];
		NSButton *b;

		while ((b = [all nextObject]) != nil)
			if ([b isKindOfClass:[NSButton class]] && [[b title] isEqualToString:@"Log In"] &&
			    [NSApp sendAction:[b action] to:[b target] from:b]) {
				say("ok");
				return;
			}
	}
	say("no such button");
}

- (void)nothing
{
}

- (void)race:(int)n most:(unsigned)us screen:(const struct screen *)screen
{
	unsigned seed = 1;

	while (n-- > 0) {
		NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
		struct view *v;

		closed = false;
		v = view_open(screen, on_done, NULL);
		if (us > 0)
			(void)usleep((useconds_t)rand_r(&seed) % us);
		view_close(v);
		closed = true;
		/* The main thread's queue must not grow without end. */
		if (n % 8 == 0)
			[self performSelectorOnMainThread:@selector(nothing) withObject:nil waitUntilDone:YES];
		[pool drain];
	}
	say("ok");
}

- (void)count
{
	char line[128];

	(void)snprintf(line, sizeof(line), "%d %d %d %u %u",
		       GSDebugAllocationCount(NSClassFromString(@"SallyportView")),
		       GSDebugAllocationCount(NSClassFromString(@"SallyportWindow")),
		       GSDebugAllocationCount(NSClassFromString(@"SallyportContent")), dones, late);
	say(line);
}

static NSData *unhex(const char *hex)
{
	NSMutableData *data = [NSMutableData data];
	unsigned byte;

	for (; sscanf(hex, "%2x", &byte) == 1; hex += 2) {
		unsigned char b = (unsigned char)byte;

		[data appendBytes:&b length:1];
	}
	return data;
}

- (void)run:(id)nobody
{
	static char line[4 * sizeof(struct screen)];
	static struct screen screen;

	(void)nobody;
	say("ready");
	while (fgets(line, sizeof(line), stdin) != NULL) {
		NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
		char *arg = strchr(line, ' ');
		SEL act = NULL;
		id with = nil;

		line[strcspn(line, "\n")] = '\0';
		if (arg != NULL)
			*arg++ = '\0';
		if (strcmp(line, "open") == 0 || strcmp(line, "openmain") == 0) {
			with = unhex(arg);
			if ([with length] == sizeof(screen))
				memcpy(&screen, [with bytes], sizeof(screen));
			if (strcmp(line, "open") == 0)
				[self open:with];
			else
				act = @selector(open:);
		} else if (strcmp(line, "close") == 0) {
			[self shut];
		} else if (strcmp(line, "closemain") == 0) {
			act = @selector(shut);
		} else if (strcmp(line, "views") == 0) {
			act = @selector(views);
		} else if (strcmp(line, "late") == 0) {
			act = @selector(late);
		} else if (strcmp(line, "count") == 0) {
			act = @selector(count);
		} else if (strcmp(line, "clock") == 0) {
			clock_ms = atoll(arg);
			say("ok");
		} else if (strcmp(line, "slow") == 0) {
			slow_ms = (unsigned)atoi(arg);
			say("ok");
		} else if (strcmp(line, "repeats") == 0) {
			char number[16];

			(void)snprintf(number, sizeof(number), "%u", repeats);
			say(number);
		} else if (strcmp(line, "race") == 0) {
			int n = 0;
			unsigned us = 0;

			if (sscanf(arg, "%d %u", &n, &us) == 2)
				[self race:n most:us screen:&screen];
		} else {
			break;
		}
		if (act != NULL)
			[self performSelectorOnMainThread:act withObject:with waitUntilDone:YES];
		[pool drain];
	}
	exit(0);
}
@end

int main(void)
{
	NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];

	GSDebugAllocationActive(YES);
	labels = [[NSMutableDictionary alloc] init];
	[Application sharedApplication];
	[NSThread detachNewThreadSelector:@selector(run:) toTarget:[[Host alloc] init] withObject:nil];
	[NSApp run];
	[pool drain];
	return 0;
}
