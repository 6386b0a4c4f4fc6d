// C++ as the provider uses it: own new and delete, virtual functions, no library.
#include "probe.h"

#include <stdlib.h>

void *operator new(size_t size, const char *) noexcept { return malloc(size); }
void operator delete(void *p) noexcept { free(p); }
void operator delete(void *p, size_t) noexcept { free(p); }
extern "C" void __cxa_pure_virtual() { __builtin_trap(); }

namespace {

class Base {
public:
	virtual ~Base() {}
	virtual int sum(int n) = 0;
};

class Derived final : public Base {
public:
	int sum(int n) override { return n == 0 ? 0 : n + sum(n - 1); }
};

Base *volatile made;

} // namespace

int sum_to(int n)
{
	made = new ("may fail") Derived;
	if (made == nullptr)
		return -1;
	int sum = made->sum(n);
	delete made;
	return sum;
}
