/*
 * The part of Foundation that the view uses: names, types and values as Apple
 * documents them ("Foundation"). For systems without Apple's SDK.
 */
#ifndef SALLYPORT_SDK_FOUNDATION_H
#define SALLYPORT_SDK_FOUNDATION_H

#include <objc/NSObject.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef MAX
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#endif

typedef double CGFloat;

struct CGPoint {
	CGFloat x;
	CGFloat y;
};
struct CGSize {
	CGFloat width;
	CGFloat height;
};
struct CGRect {
	struct CGPoint origin;
	struct CGSize size;
};
typedef struct CGPoint NSPoint;
typedef struct CGSize NSSize;
typedef struct CGRect NSRect;

typedef struct _NSRange {
	NSUInteger location;
	NSUInteger length;
} NSRange;

static inline NSPoint NSMakePoint(CGFloat x, CGFloat y)
{
	return (NSPoint){x, y};
}
static inline NSSize NSMakeSize(CGFloat width, CGFloat height)
{
	return (NSSize){width, height};
}
static inline NSRect NSMakeRect(CGFloat x, CGFloat y, CGFloat width, CGFloat height)
{
	return (NSRect){{x, y}, {width, height}};
}
static inline CGFloat NSMaxY(NSRect rect)
{
	return rect.origin.y + rect.size.height;
}
static inline NSRange NSMakeRange(NSUInteger location, NSUInteger length)
{
	return (NSRange){location, length};
}

typedef double NSTimeInterval;
typedef unsigned short unichar;

typedef NSUInteger NSStringEncoding;
enum {
	NSUTF8StringEncoding = 4,
	NSISOLatin1StringEncoding = 5,
};

@class NSArray;
@class NSString;
extern NSString *const NSDefaultRunLoopMode;

@interface NSString : NSObject
@property (readonly) NSUInteger length;
+ (instancetype)string;
+ (instancetype)stringWithUTF8String:(const char *)text;
+ (instancetype)stringWithCString:(const char *)text encoding:(NSStringEncoding)encoding;
- (instancetype)initWithBytes:(const void *)bytes length:(NSUInteger)length encoding:(NSStringEncoding)encoding;
- (unichar)characterAtIndex:(NSUInteger)index;
- (BOOL)isEqualToString:(NSString *)other;
- (NSUInteger)lengthOfBytesUsingEncoding:(NSStringEncoding)encoding;
- (BOOL)getCString:(char *)buffer maxLength:(NSUInteger)size encoding:(NSStringEncoding)encoding;
- (const char *)UTF8String;
- (NSString *)substringToIndex:(NSUInteger)index;
- (NSRange)rangeOfComposedCharacterSequenceAtIndex:(NSUInteger)index;
@end

@interface NSEnumerator : NSObject
- (id)nextObject;
@end

@interface NSArray : NSObject
@property (readonly) NSUInteger count;
+ (instancetype)arrayWithObject:(id)object;
+ (instancetype)arrayWithObjects:(id)first, ... __attribute__((sentinel));
- (id)objectAtIndex:(NSUInteger)index;
- (NSEnumerator *)objectEnumerator;
@end

@interface NSDictionary : NSObject
+ (instancetype)dictionaryWithObject:(id)object forKey:(id)key;
+ (instancetype)dictionaryWithObjectsAndKeys:(id)first, ... __attribute__((sentinel));
@end

@interface NSValue : NSObject
@end

@interface NSNumber : NSValue
+ (NSNumber *)numberWithInteger:(NSInteger)value;
@end

@interface NSNotification : NSObject
@property (readonly) id object;
@end

__attribute__((objc_exception))
@interface NSException : NSObject
@end

@interface NSAutoreleasePool : NSObject
- (void)drain;
@end

@interface NSThread : NSObject
@property (class, readonly) BOOL isMainThread;
@end

@interface NSTimer : NSObject
+ (NSTimer *)timerWithTimeInterval:(NSTimeInterval)interval
			    target:(id)target
			  selector:(SEL)selector
			  userInfo:(id)info
			   repeats:(BOOL)repeats;
- (void)invalidate;
@end

@interface NSRunLoop : NSObject
@property (class, readonly) NSRunLoop *currentRunLoop;
@property (class, readonly) NSRunLoop *mainRunLoop;
- (void)addTimer:(NSTimer *)timer forMode:(NSString *)mode;
@end

@interface NSObject (NSThreadPerformAdditions)
- (void)performSelectorOnMainThread:(SEL)selector withObject:(id)object waitUntilDone:(BOOL)wait;
- (void)performSelectorOnMainThread:(SEL)selector withObject:(id)object waitUntilDone:(BOOL)wait modes:(NSArray *)modes;
@end

#endif
