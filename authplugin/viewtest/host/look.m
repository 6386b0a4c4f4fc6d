/* An application that tells what its windows show; see look.h. */
#include "look.h"

#include <GNUstepGUI/GSDisplayServer.h>

static NSMutableDictionary *labels; /* what was said to VoiceOver, by element */

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

volatile unsigned look_repeats;

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
		look_repeats++;
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

void look_start(void)
{
	labels = [[NSMutableDictionary alloc] init];
	[Application sharedApplication];
}

void look_forget(void)
{
	[labels removeAllObjects];
}

static void describe(NSView *v, NSMutableArray *list)
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
		describe([[v subviews] objectAtIndex:i], list);
}

NSString *look_json(void)
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
			[d setObject:[NSNumber numberWithUnsignedLong:(unsigned long)[GSServerForWindow(w) windowDevice:(int)[w windowNumber]]]
			      forKey:@"window"];
			[list addObject:d];
			describe([w contentView], list);
		}
	json = [NSJSONSerialization dataWithJSONObject:list options:0 error:NULL];
	return [[[NSString alloc] initWithData:json encoding:NSUTF8StringEncoding] autorelease];
}
