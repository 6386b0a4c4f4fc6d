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
#import <Foundation/NSDebug.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "look.h"
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

@interface Host : NSObject
@end

@implementation Host
/* The event has the loop go around: what was autoreleased since the last one goes. */
- (void)views
{
	[NSApp postEvent:[NSEvent otherEventWithType:NSApplicationDefined
					    location:NSZeroPoint
				       modifierFlags:0
					   timestamp:0
					windowNumber:0
					     context:nil
					     subtype:0
					       data1:0
					       data2:0]
		 atStart:NO];
	say([look_json() UTF8String]);
}

- (void)forget
{
	look_forget();
}

- (void)open:(NSData *)screen
{
	closed = false;
	wiped = false;
	last_length = 0;
	[self performSelectorOnMainThread:@selector(forget) withObject:nil waitUntilDone:YES];
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

			(void)snprintf(number, sizeof(number), "%u", look_repeats);
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
	look_start();
	[NSThread detachNewThreadSelector:@selector(run:) toTarget:[[Host alloc] init] withObject:nil];
	[NSApp run];
	[pool drain];
	return 0;
}
