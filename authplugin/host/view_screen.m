/*
 * SecurityAgent in place of view.c: an application of GNUstep's, on whose main thread
 * the plug-in's own view draws its window. The stand-in runs beside it, on a thread.
 * The person's part is played by X's keys.
 */
#include "../viewtest/host/look.h"

#import <Foundation/NSDebug.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"

_Thread_local struct engine *invoking;

int authd(int argc, char **argv); /* main.c's main */

static int count;
static char **arguments;

@interface Agent : NSObject
- (void)run:(id)nobody;
- (void)look:(NSMutableString *)json;
@end

@implementation Agent
- (void)run:(id)nobody
{
	(void)nobody;
	exit(authd(count, arguments));
}
/* The event has the loop go around: what was autoreleased since the last one goes. */
- (void)look:(NSMutableString *)json
{
	[json setString:look_json()];
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
}
/* The plug-in's path among the arguments is no document. */
- (BOOL)application:(NSApplication *)application openFile:(NSString *)name
{
	(void)application;
	(void)name;
	return YES;
}
@end

static Agent *agent;

/* What the main thread sees now; the lock is given back meanwhile. */
static NSString *look(void)
{
	NSMutableString *json = [NSMutableString string];

	pthread_mutex_unlock(&lock);
	[agent performSelectorOnMainThread:@selector(look:) withObject:json waitUntilDone:YES];
	pthread_mutex_lock(&lock);
	return json;
}

/* How many of the view's windows there are, and how many there have been. */
void view_say(const struct engine *e)
{
	NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
	const char *json = [look() UTF8String];
	char *hex = to_hex(json, strlen(json));
	Class window = NSClassFromString(@"SallyportWindow");

	say(e, "views %d %d %d %s", GSDebugAllocationCount(window), GSDebugAllocationTotal(window),
	    GSDebugAllocationCount(NSClassFromString(@"SallyportView")), hex);
	free(hex);
	[pool drain];
}

/* It is told what will be typed, and types nothing. */
bool view_answer(struct engine *e, enum answer_kind kind, const char *text, size_t length)
{
	(void)e;
	(void)text;
	(void)length;
	return kind == ANSWER_TEXT;
}

/* Any engine's: a screen has one login at a time. */
bool view_wait_closed(struct engine *e)
{
	bool closed = false;

	(void)e;
	for (int i = 0; !closed && i < CLOSE_LATE_S * 50; i++) {
		NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];

		if (i > 0) {
			pthread_mutex_unlock(&lock);
			(void)usleep(20 * 1000);
			pthread_mutex_lock(&lock);
		}
		closed = [look() isEqualToString:@"[]"];
		[pool drain];
	}
	return closed;
}

void views_fail(unsigned number)
{
	(void)number;
	abort();
}

int main(int argc, char **argv)
{
	NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];

	count = argc;
	arguments = argv;
	GSDebugAllocationActive(YES);
	look_start();
	agent = [[Agent alloc] init];
	[NSApp setDelegate:(id)agent];
	[NSThread detachNewThreadSelector:@selector(run:) toTarget:agent withObject:nil];
	[NSApp run];
	[pool drain];
	return 0;
}
