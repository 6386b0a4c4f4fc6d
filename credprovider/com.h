// What every COM object here needs: memory that may run short without an exception,
// a count of references, and the DLL's own count, which keeps it loaded.
#pragma once

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <unknwn.h>

#include <stdlib.h>


// {7C4B3E1A-52D8-4F6B-9A0E-3D1F5B8C2E47}, the provider's and the filter's.
extern const CLSID clsidSallyport;

// moduleAdd counts what must keep the DLL loaded (DllCanUnloadNow).
void moduleAdd();
void moduleRemove();
// moduleHandle is the DLL's own.
HMODULE moduleHandle();

// Heap gives zeroed memory, or nullptr: new is then nullptr too, as it is noexcept.
struct Heap {
	static void *operator new(size_t size) noexcept { return calloc(1, size); }
	static void operator delete(void *p) noexcept { free(p); }
};

// Count is one object's references. It begins with the maker's.
class Count {
public:
	Count() { moduleAdd(); }
	~Count() { moduleRemove(); }
	Count(const Count &) = delete;
	Count &operator=(const Count &) = delete;

	ULONG add() { return static_cast<ULONG>(InterlockedIncrement(&value)); }
	ULONG drop() { return static_cast<ULONG>(InterlockedDecrement(&value)); }

private:
	LONG value = 1;
};

// Ref holds one reference.
template <class T> class Ref {
public:
	Ref() = default;
	~Ref() { reset(); }
	Ref(const Ref &other) : p(other.p)
	{
		if (p != nullptr)
			p->AddRef();
	}
	Ref &operator=(const Ref &other)
	{
		Ref copy(other);
		swap(copy);
		return *this;
	}
	// adopt takes over the reference that the caller has.
	static Ref adopt(T *p)
	{
		Ref r;
		r.p = p;
		return r;
	}
	// share takes one of its own.
	static Ref share(T *p)
	{
		if (p != nullptr)
			p->AddRef();
		return adopt(p);
	}

	void reset()
	{
		T *old = p;
		p = nullptr;
		if (old != nullptr)
			old->Release();
	}
	void swap(Ref &other)
	{
		T *mine = p;
		p = other.p;
		other.p = mine;
	}
	// out is for functions that give a reference away.
	T **out()
	{
		reset();
		return &p;
	}
	void **outVoid() { return reinterpret_cast<void **>(out()); }

	T *get() const { return p; }
	T *operator->() const { return p; }
	explicit operator bool() const { return p != nullptr; }

private:
	T *p = nullptr;
};

// Lock is a slim lock; Hold has it for a scope.
class Lock {
public:
	SRWLOCK srw = SRWLOCK_INIT;
};

class Hold {
public:
	explicit Hold(Lock &l) : lock(l) { AcquireSRWLockExclusive(&lock.srw); }
	~Hold() { ReleaseSRWLockExclusive(&lock.srw); }
	Hold(const Hold &) = delete;
	Hold &operator=(const Hold &) = delete;

private:
	Lock &lock;
};

// giveText copies a text (UTF-8 of ours) for the caller to free with CoTaskMemFree.
HRESULT giveText(const char *text, LPWSTR *out);
// giveWide is the same for UTF-16.
HRESULT giveWide(const wchar_t *text, size_t length, LPWSTR *out);
