/*
 * The view, for AppKit and for GNUstep, which the tests use. See view.h.
 *
 * It lives in SecurityAgent, beside other plug-ins' code: every class has our prefix,
 * there is no category, and nothing that belongs to the application is changed.
 * No ARC and no blocks, as gcc has neither.
 *
 * All of AppKit is used on the main thread alone. A view is one SallyportView, which
 * its opener holds, and each message that is on its way to the main thread.
 *
 * The typed text is wiped where we can: the field is emptied and our own copy is
 * overwritten. AppKit's field editor and NSString make copies that nobody but they can
 * reach; the few that we cause are gone with the pool they are in, not overwritten.
 */
#import <AppKit/AppKit.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "platform.h"
#include "view.h"
#include "view_plain.h"
#include "view_texts.h"

#ifdef GNUSTEP /* 0.29 has the older names alone */
#define NSEventTypeKeyDown NSKeyDown
#define NSBezelStyleRounded NSRoundedBezelStyle
#endif

/* In points. */
static const CGFloat width = 400;  /* of what is inside the window */
static const CGFloat margin = 28;  /* around it */
static const CGFloat qr_size = 264; /* about; a module is a whole number */
static const CGFloat qr_module_min = 4;

static const NSTimeInterval tick = 0.25; /* so that no second is left out */

/* What is no UTF-8 is shown as Latin-1 rather than not at all. */
static NSString *words(const char *text)
{
	NSString *s = [NSString stringWithUTF8String:text];

	return s != nil ? s : [NSString stringWithCString:text encoding:NSISOLatin1StringEncoding];
}

/* The informal accessibility of NSView, macOS 10.10; GNUstep has none. */
static void set_label(id element, NSString *label)
{
	if ([element respondsToSelector:@selector(setAccessibilityLabel:)])
		[element performSelector:@selector(setAccessibilityLabel:) withObject:label];
}

/* Has VoiceOver speak (NSAccessibilityAnnouncementRequestedNotification). */
static void announce(id window, NSString *text)
{
#ifdef __APPLE__
	NSDictionary *info = [NSDictionary dictionaryWithObjectsAndKeys:
		text, NSAccessibilityAnnouncementKey,
		[NSNumber numberWithInteger:NSAccessibilityPriorityHigh], NSAccessibilityPriorityKey, nil];

	NSAccessibilityPostNotificationWithUserInfo(window, NSAccessibilityAnnouncementRequestedNotification, info);
#else
	(void)window;
	(void)text;
#endif
}

@class SallyportContent;

@interface SallyportView : NSObject
{
	struct screen screen;
	view_done done;
	void *arg;

	pthread_mutex_t lock; /* of these three */
	pthread_cond_t idle;  /* running became NO */
	BOOL closed;          /* view_close was called */
	BOOL answered;        /* done was, or is being, called */
	BOOL running;         /* done is being called */

	/* The main thread's alone, nil before the window is made and after it is gone. */
	NSWindow *window;
	SallyportContent *content; /* this and the rest are the window's */
	NSTextField *field, *hint, *number, *approve, *countdown;
	NSButton *useCode, *again, *cancel, *logIn;
	NSTimer *timer;
	CGFloat bottom; /* of what is in content so far */
	BOOL showing;   /* show is on the stack */
	BOOL dropped;   /* drop was called */
}
- (id)initWithScreen:(const struct screen *)s done:(view_done)d arg:(void *)a;
- (void)close;
- (void)cancel:(id)sender;
/* On the main thread. */
- (void)show;
- (void)hide;
- (void)drop;
@end

/* A key that is held down since the password was typed must answer nothing here. */
@interface SallyportWindow : NSWindow
@end

@implementation SallyportWindow
- (BOOL)canBecomeKeyWindow
{
	return YES;
}
- (BOOL)canBecomeMainWindow
{
	return YES;
}
- (BOOL)isHeld:(NSEvent *)event
{
	unichar c;

	if ([event type] != NSEventTypeKeyDown || ![event isARepeat] || [[event characters] length] != 1)
		return NO;
	c = [[event characters] characterAtIndex:0];
	return c == '\r' || c == 3 /* Enter */ || c == 27 /* Escape */;
}
- (void)sendEvent:(NSEvent *)event
{
	/* A button that a key presses may run the run loop, and drop in it. */
	[self retain];
	if (![self isHeld:event])
		[super sendEvent:event];
	[self release];
}
- (BOOL)performKeyEquivalent:(NSEvent *)event
{
	BOOL taken;

	[self retain];
	taken = [self isHeld:event] || [super performKeyEquivalent:event];
	[self release];
	return taken;
}
/* What nobody else has taken, such as a button. */
- (void)keyDown:(NSEvent *)event
{
	if ([[event characters] isEqualToString:@"\033"])
		[(SallyportView *)[self delegate] cancel:nil];
	else
		[super keyDown:event];
}
@end

/* From the top down. */
@interface SallyportContent : NSView
@end

@implementation SallyportContent
- (BOOL)isFlipped
{
	return YES;
}
@end

/* Black on white in either appearance: cameras want it so. */
@interface SallyportQR : NSView
{
	struct view_qr qr;
}
- (id)initWithCode:(const struct view_qr *)code module:(CGFloat)module;
@end

@implementation SallyportQR
- (id)initWithCode:(const struct view_qr *)code module:(CGFloat)module
{
	CGFloat size = (CGFloat)code->side * module;

	if ((self = [super initWithFrame:NSMakeRect(0, 0, size, size)]) != nil)
		qr = *code;
	return self;
}
- (void)dealloc
{
	hc_wipe(&qr, sizeof(qr));
	[super dealloc];
}
- (BOOL)isFlipped
{
	return YES;
}
- (BOOL)isAccessibilityElement
{
	return YES;
}
- (NSString *)accessibilityRole
{
	return @"AXImage"; /* NSAccessibilityImageRole */
}
- (NSString *)accessibilityLabel
{
	return words(VIEW_QR_LABEL);
}
- (void)drawRect:(NSRect)dirty
{
	CGFloat module = [self bounds].size.width / (CGFloat)qr.side;
	unsigned x, y;

	(void)dirty;
	[[NSColor whiteColor] set];
	NSRectFill([self bounds]);
	[[NSColor blackColor] set];
	for (y = 0; y < qr.side; y++)
		for (x = 0; x < qr.side; x++)
			if (qr.dark[y][x])
				NSRectFill(NSMakeRect((CGFloat)x * module, (CGFloat)y * module, module, module));
}
@end

@implementation SallyportView

- (id)initWithScreen:(const struct screen *)s done:(view_done)d arg:(void *)a
{
	if ((self = [super init]) == nil)
		return nil;
	screen = *s;
	screen.phone[SCREEN_PHONE_MAX] = screen.user[SCREEN_USER_MAX] = screen.text[SCREEN_TEXT_MAX] =
		screen.notice[SCREEN_TEXT_MAX] = screen.qr[SCREEN_QR_MAX] = '\0';
	done = d;
	arg = a;
	(void)pthread_mutex_init(&lock, NULL);
	(void)pthread_cond_init(&idle, NULL);
	return self;
}

/* On whatever thread is the last; the window is gone by then. */
- (void)dealloc
{
	(void)pthread_cond_destroy(&idle);
	(void)pthread_mutex_destroy(&lock);
	hc_wipe(&screen, sizeof(screen));
	[super dealloc];
}

/* --- from any thread --- */

/* In every mode the main thread may wait in, but while a mouse button is held: AppKit
 * then has our buttons on its stack. */
- (void)onMain:(SEL)what
{
	[self performSelectorOnMainThread:what
			       withObject:nil
			    waitUntilDone:NO
				    modes:[NSArray arrayWithObjects:NSDefaultRunLoopMode, NSModalPanelRunLoopMode, nil]];
}

- (void)close
{
	(void)pthread_mutex_lock(&lock);
	closed = YES;
	while (running)
		(void)pthread_cond_wait(&idle, &lock);
	(void)pthread_mutex_unlock(&lock);
	if ([NSThread isMainThread])
		[self hide];
	[self onMain:@selector(drop)];
}

/* --- the answer, on the main thread --- */

- (BOOL)isOver
{
	BOOL over;

	(void)pthread_mutex_lock(&lock);
	over = closed || answered;
	(void)pthread_mutex_unlock(&lock);
	return over;
}

/* Wipes the text before view_close can return. This object can't be gone meanwhile:
 * drop, which holds it, is yet to be done on this thread. */
- (void)answer:(enum answer_kind)kind text:(char *)text length:(size_t)length
{
	(void)pthread_mutex_lock(&lock);
	if (closed || answered) {
		(void)pthread_mutex_unlock(&lock);
		return;
	}
	answered = running = YES;
	(void)pthread_mutex_unlock(&lock);
	done(arg, kind, text, length);
	hc_wipe(text, length);
	(void)pthread_mutex_lock(&lock);
	running = NO;
	(void)pthread_cond_broadcast(&idle);
	(void)pthread_mutex_unlock(&lock);
}

- (void)rest
{
	[timer invalidate];
	timer = nil;
	[field setEnabled:NO];
	[useCode setEnabled:NO];
	[again setEnabled:NO];
	[cancel setEnabled:NO];
	[logIn setEnabled:NO];
}

/* Empties the field, and the editor that is in it. */
- (void)wipe
{
	[[field currentEditor] setString:@""];
	[field setStringValue:@""];
}

- (void)answer:(enum answer_kind)kind
{
	[self wipe];
	[self rest];
	[self answer:kind text:(char[]){""} length:0];
}

- (void)cancel:(id)sender
{
	(void)sender;
	if (![self isOver])
		[self answer:ANSWER_CANCEL];
}

- (void)again:(id)sender
{
	(void)sender;
	if (![self isOver] && screen.may_be_empty)
		[self answer:ANSWER_TEXT];
}

- (void)useCode:(id)sender
{
	(void)sender;
	[window makeFirstResponder:field];
}

- (void)logIn:(id)sender
{
	NSAutoreleasePool *pool;
	char text[ANSWER_TEXT_MAX + 1] = "";
	NSString *typed;

	(void)sender;
	if ([self isOver] || field == nil)
		return;
	pool = [[NSAutoreleasePool alloc] init];
	typed = [field stringValue];
	if (![typed getCString:text maxLength:sizeof(text) encoding:NSUTF8StringEncoding] ||
	    (text[0] == '\0' && !screen.may_be_empty)) {
		[hint setStringValue:words(VIEW_EMPTY)];
		announce(window, words(VIEW_EMPTY));
		[window makeFirstResponder:field];
	} else {
		[self wipe];
		[self rest];
		[hint setStringValue:words(VIEW_CHECKING)];
		[self answer:ANSWER_TEXT text:text length:strlen(text)];
	}
	hc_wipe(text, sizeof(text));
	[pool drain];
}

/* --- what is typed --- */

/* What does not fit is not taken. A unit of UTF-16 is a byte of UTF-8 at least. */
- (void)controlTextDidChange:(NSNotification *)change
{
	NSAutoreleasePool *pool;
	NSText *editor = [field currentEditor];
	NSString *typed;

	if ([change object] != field)
		return;
	pool = [[NSAutoreleasePool alloc] init];
	[hint setStringValue:@""];
	typed = [editor string];
	if ([typed length] > ANSWER_TEXT_MAX)
		typed = [typed substringToIndex:[typed rangeOfComposedCharacterSequenceAtIndex:ANSWER_TEXT_MAX].location];
	while ([typed lengthOfBytesUsingEncoding:NSUTF8StringEncoding] > ANSWER_TEXT_MAX)
		typed = [typed substringToIndex:[typed rangeOfComposedCharacterSequenceAtIndex:[typed length] - 1].location];
	if ([typed length] < [[editor string] length]) {
		[editor setString:typed];
		[editor setSelectedRange:NSMakeRange([typed length], 0)];
	}
	[pool drain];
}

- (BOOL)control:(NSControl *)control textView:(NSTextView *)editor doCommandBySelector:(SEL)command
{
	(void)control;
	(void)editor;
	if (command == @selector(insertNewline:)) {
		if (logIn != nil)
			[self logIn:nil];
		else
			[self cancel:nil];
		return YES;
	}
	if (command == @selector(cancelOperation:)) {
		[self cancel:nil];
		return YES;
	}
	return NO;
}

/* --- the countdown --- */

- (void)count:(NSTimer *)t
{
	unsigned left = view_seconds(screen.until_ms, hc_now_ms());
	char line[VIEW_WORDS_MAX];
	NSString *text;

	(void)t;
	view_say_time(line, left);
	text = words(left > 0 ? line : VIEW_OVER);
	if (![[countdown stringValue] isEqualToString:text])
		[countdown setStringValue:text];
	if (left > 0)
		return;
	/* The number is good for nothing any more. */
	[timer invalidate];
	timer = nil;
	[number setStringValue:@"–"];
	set_label(number, text);
	[approve setStringValue:@""];
	announce(window, text);
}

/* --- the window --- */

- (void)add:(NSView *)view height:(CGFloat)height gap:(CGFloat)gap
{
	NSSize size = [view frame].size;

	[view setFrame:NSMakeRect(margin + (CGFloat)(long)((width - size.width) / 2), bottom, size.width, height)];
	[content addSubview:view];
	bottom += height + gap;
}

/* Words that can be selected and not changed; never markup or links. */
- (NSTextField *)label:(NSString *)text font:(NSFont *)font centred:(BOOL)centred
{
	NSTextField *label = [[[NSTextField alloc] initWithFrame:NSMakeRect(0, 0, width, 20)] autorelease];
	/* The cell pads a line by two points at each end; GNUstep's asks for more. */
	NSSize size = [text boundingRectWithSize:NSMakeSize(width - 10, 100000)
					 options:NSStringDrawingUsesLineFragmentOrigin
				      attributes:[NSDictionary dictionaryWithObject:font forKey:NSFontAttributeName]].size;

	[label setBezeled:NO];
	[label setBordered:NO];
	[label setDrawsBackground:NO];
	[label setEditable:NO];
	[label setSelectable:YES];
	[label setDelegate:(id)self];
	[label setFont:font];
	[label setTextColor:[NSColor controlTextColor]];
	[label setAlignment:centred ? NSTextAlignmentCenter : NSTextAlignmentLeft];
	[[label cell] setWraps:YES];
	[label setStringValue:text];
	[label setFrameSize:NSMakeSize(width, (CGFloat)(long)(size.height + 4))];
	return label;
}

/* Adds words that may be many: what is higher than most gets a scroller. */
- (void)addText:(NSTextField *)label most:(CGFloat)most gap:(CGFloat)gap
{
	CGFloat height = [label frame].size.height;
	NSScrollView *scroll;

	if (height <= most) {
		[self add:label height:height gap:gap];
		return;
	}
	scroll = [[[NSScrollView alloc] initWithFrame:NSMakeRect(0, 0, width, most)] autorelease];
	[scroll setHasVerticalScroller:YES];
	[scroll setDrawsBackground:NO];
	[label setDelegate:nil]; /* drop would not find it there */
	/* A scroller takes some of the width. */
	[label setFrameSize:NSMakeSize(width - 24, height + height / 8)];
	[scroll setDocumentView:label];
	[self add:scroll height:most gap:gap];
	[label scrollPoint:NSMakePoint(0, [label isFlipped] ? 0 : NSMaxY([label bounds]))];
}

- (NSButton *)button:(const char *)title action:(SEL)action key:(NSString *)key
{
	NSButton *button = [[[NSButton alloc] initWithFrame:NSMakeRect(0, 0, 100, 32)] autorelease];

	[button setBezelStyle:NSBezelStyleRounded];
	[button setTitle:words(title)];
	[button setTarget:self];
	[button setAction:action];
	[button setKeyEquivalent:key];
	[button sizeToFit];
	[button setFrameSize:NSMakeSize(MAX([button frame].size.width + 12, 96), 32)];
	[content addSubview:button];
	return button;
}

/* Puts buttons beside each other; in the middle, or at the right. */
- (void)row:(NSArray *)buttons right:(BOOL)right gap:(CGFloat)gap
{
	CGFloat x = 12 * ((CGFloat)[buttons count] - 1);
	NSUInteger i;

	for (i = 0; i < [buttons count]; i++)
		x += [[buttons objectAtIndex:i] frame].size.width;
	x = margin + (right ? width - x : (CGFloat)(long)((width - x) / 2));
	for (i = 0; i < [buttons count]; i++) {
		NSView *button = [buttons objectAtIndex:i];

		[button setFrameOrigin:NSMakePoint(x, bottom)];
		x += [button frame].size.width + 12;
	}
	bottom += 32 + gap;
}

- (void)addQR
{
	struct view_qr code;
	SallyportQR *qr;
	CGFloat module;

	if (!view_qr_read(&code, screen.qr))
		return; /* the text has the key */
	module = (CGFloat)(long)(qr_size / (CGFloat)code.side);
	qr = [[[SallyportQR alloc] initWithCode:&code module:MAX(module, qr_module_min)] autorelease];
	hc_wipe(&code, sizeof(code));
	[self add:qr height:[qr frame].size.height gap:14];
}

- (void)addPhone
{
	char line[VIEW_WORDS_MAX];

	(void)snprintf(line, sizeof(line), "%02u", (unsigned)screen.number);
	number = [self label:words(line) font:[NSFont boldSystemFontOfSize:56] centred:YES];
	(void)snprintf(line, sizeof(line), VIEW_NUMBER_LABEL, (unsigned)screen.number);
	set_label(number, words(line));
	[self add:number height:[number frame].size.height gap:4];

	view_say_approve(line, &screen);
	approve = [self label:words(line) font:[NSFont systemFontOfSize:15] centred:YES];
	[self add:approve height:[approve frame].size.height gap:6];

	countdown = [self label:words(VIEW_OVER) font:[NSFont systemFontOfSize:13] centred:YES];
	[self add:countdown height:[countdown frame].size.height gap:12];

	useCode = [self button:VIEW_USE_CODE action:@selector(useCode:) key:@""];
	if (screen.may_be_empty) {
		again = [self button:VIEW_AGAIN action:@selector(again:) key:@""];
		[self row:[NSArray arrayWithObjects:again, useCode, nil] right:NO gap:20];
	} else {
		[self row:[NSArray arrayWithObject:useCode] right:NO gap:20];
	}
}

- (void)addField
{
	Class kind = screen.visible == 1 ? [NSTextField class] : [NSSecureTextField class];

	field = [[[kind alloc] initWithFrame:NSMakeRect(0, 0, width, 26)] autorelease];
	[field setFont:[NSFont systemFontOfSize:15]];
	[field setDelegate:(id)self];
	[[field cell] setAllowsUndo:NO]; /* undo keeps what was typed */
	[[field cell] setScrollable:YES];
	set_label(field, words(VIEW_FIELD_LABEL));
	[self add:field height:26 gap:4];
	hint = [self label:@"" font:[NSFont systemFontOfSize:12] centred:NO];
	[self add:hint height:18 gap:14];
}

/* The order of the Tab key. */
- (void)tie
{
	NSView *all[] = {field, again, useCode, cancel, logIn}, *first = nil, *last = nil;
	size_t i;

	[window setAutorecalculatesKeyViewLoop:NO];
	for (i = 0; i < sizeof(all) / sizeof(*all); i++) {
		if (all[i] == nil)
			continue;
		if (first == nil)
			first = all[i];
		[last setNextKeyView:all[i]];
		last = all[i];
	}
	[last setNextKeyView:first];
	[window setInitialFirstResponder:first];
}

- (void)build
{
	BOOL ask = screen.kind == SCREEN_ASK, ringing = ask && screen.ringing;
	CGFloat room = [NSScreen mainScreen] != nil ? [[NSScreen mainScreen] visibleFrame].size.height : 600;
	NSFont *plain = [NSFont systemFontOfSize:13];
	NSTextField *notice = nil, *text;
	const char *question = screen.text;

	content = [[[SallyportContent alloc] initWithFrame:NSMakeRect(0, 0, width + 2 * margin, 100)] autorelease];
	bottom = margin - 6;
	text = [self label:words(screen.user) font:[NSFont boldSystemFontOfSize:18] centred:YES];
	if (screen.user[0] != '\0')
		[self add:text height:[text frame].size.height gap:14];

	if (question[0] == '\0')
		question = ask ? VIEW_QUESTION : VIEW_REFUSED;
	if (ringing)
		question = VIEW_OR_CODE; /* the agent's words say what addPhone does, without a clock */
	text = [self label:words(question) font:plain centred:NO];
	if (screen.notice[0] != '\0')
		notice = [self label:words(screen.notice) font:[NSFont boldSystemFontOfSize:13] centred:NO];

	/* What is left for the texts above and below the rest. */
	room = (room - bottom - 220 - (screen.qr[0] != '\0' ? qr_size + 40 : 0) - (ringing ? 190 : 0));
	if ([notice frame].size.height + [text frame].size.height > room)
		room = MAX(room / (notice != nil ? 2 : 1), 48);
	if (notice != nil)
		[self addText:notice most:room gap:14];
	if (screen.qr[0] != '\0')
		[self addQR];
	if (ringing)
		[self addPhone];
	[self addText:text most:room gap:ask ? 8 : 20];
	if (ask) {
		[self addField];
		cancel = [self button:VIEW_CANCEL action:@selector(cancel:) key:@"\033"];
		logIn = [self button:VIEW_LOG_IN action:@selector(logIn:) key:@"\r"];
		[self row:[NSArray arrayWithObjects:cancel, logIn, nil] right:YES gap:margin - 8];
	} else {
		cancel = [self button:VIEW_BACK action:@selector(cancel:) key:@"\r"];
		[self row:[NSArray arrayWithObject:cancel] right:YES gap:margin - 8];
	}
	[content setFrameSize:NSMakeSize(width + 2 * margin, bottom)];

	window = [[SallyportWindow alloc] initWithContentRect:[content frame]
						    styleMask:NSWindowStyleMaskTitled
						      backing:NSBackingStoreBuffered
							defer:NO];
	[window setReleasedWhenClosed:NO];
	[window setDelegate:(id)self];
	[window setTitle:words(VIEW_TITLE)];
	[window setContentView:content];
	[self tie];
	/* Above the login window, and there before anybody is logged in (Apple: Technical
	 * Note TN2062, and NSWindow canBecomeVisibleWithoutLogin). */
	[window setLevel:NSScreenSaverWindowLevel];
#ifdef __APPLE__
	[window setCanBecomeVisibleWithoutLogin:YES];
#endif
	[window setHidesOnDeactivate:NO];
	[window center];
}

/*
 * On the main thread, once, some time after view_open. Making a window may run the run
 * loop, and hide and drop in it (GNUstep's does): they wait until it is whole.
 */
- (void)show
{
	if (dropped || [self isOver])
		return;
	showing = YES;
	@try {
		[self build];
		[NSApp activateIgnoringOtherApps:YES];
		[window makeKeyAndOrderFront:nil];
		[window orderFrontRegardless];
		[window makeFirstResponder:field != nil ? (NSView *)field : (NSView *)cancel];
		if (countdown != nil) {
			timer = [NSTimer timerWithTimeInterval:tick target:self selector:@selector(count:) userInfo:nil repeats:YES];
			[[NSRunLoop currentRunLoop] addTimer:timer forMode:NSDefaultRunLoopMode];
			[[NSRunLoop currentRunLoop] addTimer:timer forMode:NSModalPanelRunLoopMode];
			announce(window, [approve stringValue]);
			[self count:timer];
		} else {
			announce(window, words(screen.notice[0] != '\0' ? screen.notice : screen.text));
		}
	} @catch (NSException *broken) {
		(void)broken;
		[self answer:ANSWER_NONE];
	}
	showing = NO;
	if (dropped)
		[self drop];
}

/* Leaves nothing to see and nothing to press. */
- (void)hide
{
	if (showing)
		return;
	[self wipe];
	[self rest];
	[window makeFirstResponder:nil]; /* secure input ends with the field's editor */
	[window orderOut:nil];
}

/* Others may hold the window for longer than this object is there. */
- (void)drop
{
	NSArray *all = [content subviews];
	NSUInteger i;

	dropped = YES;
	if (showing)
		return;
	[self hide];
	for (i = 0; i < [all count]; i++) {
		id view = [all objectAtIndex:i];

		if ([view isKindOfClass:[NSTextField class]])
			[(NSTextField *)view setDelegate:nil];
		if ([view isKindOfClass:[NSButton class]])
			[(NSButton *)view setTarget:nil];
	}
	[window setDelegate:nil];
	[window close];
	[window release];
	window = nil;
	content = nil;
	field = hint = number = approve = countdown = nil;
	useCode = again = cancel = logIn = nil;
}

@end

struct view *view_open(const struct screen *screen, view_done done, void *arg)
{
	NSAutoreleasePool *pool;
	SallyportView *view;

	if (NSApp == nil || (screen->kind != SCREEN_ASK && screen->kind != SCREEN_TELL))
		return NULL;
	pool = [[NSAutoreleasePool alloc] init];
	view = [[SallyportView alloc] initWithScreen:screen done:done arg:arg];
	[view onMain:@selector(show)];
	[pool drain];
	return (struct view *)view;
}

void view_close(struct view *view)
{
	NSAutoreleasePool *pool;

	if (view == NULL)
		return;
	pool = [[NSAutoreleasePool alloc] init];
	[(SallyportView *)view close];
	[(SallyportView *)view release];
	[pool drain];
}
