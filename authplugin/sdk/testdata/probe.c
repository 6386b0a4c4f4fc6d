/* What the tests link in ways that check.go must notice. */
#include <CoreFoundation/CoreFoundation.h>
#include <stdlib.h>

extern int Probe(void);
extern int More(void);

int Probe(void)
{
	CFRelease(kCFBooleanTrue);
	return abs(-1);
}

int More(void)
{
	return 2;
}

#ifdef IMPORT /* how it is imported */
extern int somewhere(void) IMPORT;
extern int Elsewhere(void);

int Elsewhere(void)
{
	return somewhere();
}
#endif

#ifdef PROGRAM
int main(void)
{
	return Probe();
}
#endif
