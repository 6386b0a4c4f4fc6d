// What the files of the stand-in for LogonUI share.
#pragma once

#ifndef UNICODE
#define UNICODE
#endif
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <unknwn.h>
#include <propsys.h>
#include <credentialprovider.h>

#include <string>
#include <vector>

// breach notes that a provider broke the contract of its interfaces. The next
// answer carries it, and the test that reads it fails.
void breach(const char *format, ...) __attribute__((format(printf, 1, 2)));

// emit writes one line of JSON to stdout.
void emit(const std::string &json);

std::string utf8(const wchar_t *wide);
std::string guidText(REFGUID id);
std::string resultText(HRESULT hr); // "0x80004001"

// Json writes one object, member by member.
class Json {
public:
	Json() : out("{") {}

	void text(const char *name, const std::string &value)
	{
		key(name);
		quote(value);
	}
	void number(const char *name, long long value)
	{
		key(name);
		out += std::to_string(value);
	}
	void boolean(const char *name, bool value)
	{
		key(name);
		out += value ? "true" : "false";
	}
	void hex(const char *name, const BYTE *bytes, size_t n)
	{
		static const char digits[] = "0123456789abcdef";
		key(name);
		out += '"';
		for (size_t i = 0; i < n; i++) {
			out += digits[bytes[i] >> 4];
			out += digits[bytes[i] & 15];
		}
		out += '"';
	}
	void texts(const char *name, const std::vector<std::string> &values)
	{
		array(name);
		for (const std::string &v : values) {
			comma();
			quote(v);
		}
		end();
	}

	// array opens an array of objects: open() ... close() each, then end().
	void array(const char *name)
	{
		key(name);
		out += '[';
	}
	void end() { out += ']'; }
	void object(const char *name)
	{
		key(name);
		out += '{';
	}
	void open()
	{
		comma();
		out += '{';
	}
	void close() { out += '}'; }

	const std::string &done()
	{
		out += '}';
		return out;
	}

private:
	std::string out;

	void comma()
	{
		if (out.back() != '{' && out.back() != '[')
			out += ',';
	}
	void key(const char *name)
	{
		comma();
		quote(name);
		out += ':';
	}
	void quote(const std::string &s)
	{
		out += '"';
		for (unsigned char c : s) {
			if (c == '"' || c == '\\') {
				out += '\\';
				out += char(c);
			} else if (c < 0x20) {
				char escaped[8];
				snprintf(escaped, sizeof escaped, "\\u%04x", c);
				out += escaped;
			} else {
				out += char(c);
			}
		}
		out += '"';
	}
};
