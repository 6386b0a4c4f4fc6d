/*
 * The part of AppKit that the view uses: names, types and values as Apple documents
 * them ("AppKit"). For systems without Apple's SDK.
 */
#ifndef SALLYPORT_SDK_APPKIT_H
#define SALLYPORT_SDK_APPKIT_H

#include <Foundation/Foundation.h>

@class NSColor, NSEvent, NSFont, NSText, NSView, NSWindow;

extern NSString *const NSFontAttributeName;
extern NSString *const NSModalPanelRunLoopMode;
extern NSString *const NSAccessibilityAnnouncementKey;
extern NSString *const NSAccessibilityAnnouncementRequestedNotification;
extern NSString *const NSAccessibilityPriorityKey;
enum { NSAccessibilityPriorityHigh = 90 };

void NSAccessibilityPostNotificationWithUserInfo(id element, NSString *notification, NSDictionary *info);
void NSRectFill(NSRect rect);

typedef NSInteger NSWindowLevel;
static const NSWindowLevel NSScreenSaverWindowLevel = 1000;

typedef NSUInteger NSWindowStyleMask;
enum { NSWindowStyleMaskTitled = 1 << 0 };

typedef NSUInteger NSBackingStoreType;
enum { NSBackingStoreBuffered = 2 };

typedef NSUInteger NSEventType;
enum { NSEventTypeKeyDown = 10 };

typedef NSUInteger NSBezelStyle;
enum { NSBezelStyleRounded = 1 };

typedef NSInteger NSTextAlignment;
enum {
	NSTextAlignmentLeft = 0,
#ifdef __arm64__ /* has the values of iOS */
	NSTextAlignmentCenter = 1,
#else
	NSTextAlignmentCenter = 2,
#endif
};

@interface NSColor : NSObject
@property (class, readonly) NSColor *blackColor, *whiteColor, *controlTextColor;
- (void)set;
@end

@interface NSFont : NSObject
+ (NSFont *)systemFontOfSize:(CGFloat)size;
+ (NSFont *)boldSystemFontOfSize:(CGFloat)size;
@end

@interface NSEvent : NSObject
@property (readonly) NSEventType type;
@property (readonly) NSString *characters;
@property (getter=isARepeat, readonly) BOOL ARepeat;
@end

typedef NSInteger NSStringDrawingOptions;
enum { NSStringDrawingUsesLineFragmentOrigin = 1 << 0 };

@interface NSString (NSExtendedStringDrawing)
- (NSRect)boundingRectWithSize:(NSSize)size options:(NSStringDrawingOptions)options attributes:(NSDictionary *)attributes;
@end

@interface NSScreen : NSObject
@property (class, readonly) NSScreen *mainScreen;
@property (readonly) NSRect visibleFrame;
@end

@interface NSResponder : NSObject
- (void)keyDown:(NSEvent *)event;
- (BOOL)performKeyEquivalent:(NSEvent *)event;
@end

@interface NSApplication : NSResponder
- (void)activateIgnoringOtherApps:(BOOL)ignore;
@end
extern NSApplication *NSApp;

@interface NSWindow : NSResponder
@property (copy) NSString *title;
@property (retain) NSView *contentView;
@property NSWindowLevel level;
@property BOOL canBecomeVisibleWithoutLogin;
@property (getter=isReleasedWhenClosed) BOOL releasedWhenClosed;
@property BOOL hidesOnDeactivate;
@property BOOL autorecalculatesKeyViewLoop;
@property (assign) NSView *initialFirstResponder;
@property (assign) id delegate;
@property (readonly) BOOL canBecomeKeyWindow, canBecomeMainWindow;
- (instancetype)initWithContentRect:(NSRect)rect
			  styleMask:(NSWindowStyleMask)style
			    backing:(NSBackingStoreType)backing
			      defer:(BOOL)defer;
- (void)sendEvent:(NSEvent *)event;
- (BOOL)makeFirstResponder:(NSResponder *)responder;
- (void)makeKeyAndOrderFront:(id)sender;
- (void)orderFrontRegardless;
- (void)orderOut:(id)sender;
- (void)center;
- (void)close;
@end

@interface NSView : NSResponder
@property NSRect frame, bounds;
@property (getter=isFlipped, readonly) BOOL flipped;
@property (assign) NSView *nextKeyView;
@property (readonly, copy) NSArray *subviews;
- (instancetype)initWithFrame:(NSRect)frame;
- (void)setFrameOrigin:(NSPoint)origin;
- (void)setFrameSize:(NSSize)size;
- (void)addSubview:(NSView *)view;
- (void)scrollPoint:(NSPoint)point;
- (void)drawRect:(NSRect)dirty;
/* From the protocol NSAccessibility. */
- (BOOL)isAccessibilityElement;
- (NSString *)accessibilityRole;
- (NSString *)accessibilityLabel;
- (void)setAccessibilityLabel:(NSString *)label;
@end

@interface NSScrollView : NSView
@property BOOL hasVerticalScroller, drawsBackground;
@property (retain) NSView *documentView;
@end

@interface NSCell : NSObject
@property BOOL wraps;
@property (getter=isScrollable) BOOL scrollable;
@property BOOL allowsUndo;
- (NSSize)cellSizeForBounds:(NSRect)bounds;
@end

@interface NSText : NSView
@property (copy) NSString *string;
@property NSRange selectedRange;
@end

@interface NSTextView : NSText
@end

@interface NSControl : NSView
@property (retain) NSCell *cell;
@property (retain) NSFont *font;
@property (copy) NSString *stringValue;
@property NSTextAlignment alignment;
@property (getter=isEnabled) BOOL enabled;
@property (assign) id target;
@property SEL action;
- (NSText *)currentEditor;
- (void)sizeToFit;
@end

@interface NSTextField : NSControl
@property (getter=isBezeled) BOOL bezeled;
@property (getter=isBordered) BOOL bordered;
@property BOOL drawsBackground;
@property (getter=isEditable) BOOL editable;
@property (getter=isSelectable) BOOL selectable;
@property (copy) NSColor *textColor;
@property (assign) id delegate;
@end

@interface NSSecureTextField : NSTextField
@end

@interface NSButton : NSControl
@property (copy) NSString *title;
@property (copy) NSString *keyEquivalent;
@property NSBezelStyle bezelStyle;
@end

#endif
