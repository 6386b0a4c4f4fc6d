/*
 * The unified log (os_log(3), os/log.h as Apple documents it): the part that is
 * used. The compiler's own __builtin_os_log_format lays a message out; macOS finds
 * its format by the section that it is in. For systems without Apple's SDK.
 */
#ifndef SALLYPORT_SDK_OS_LOG_H
#define SALLYPORT_SDK_OS_LOG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct os_log_s *os_log_t;
typedef uint8_t os_log_type_t;

enum {
	OS_LOG_TYPE_DEFAULT = 0x00,
	OS_LOG_TYPE_INFO = 0x01,
	OS_LOG_TYPE_DEBUG = 0x02,
	OS_LOG_TYPE_ERROR = 0x10,
	OS_LOG_TYPE_FAULT = 0x11,
};

extern struct os_log_s _os_log_default;
#define OS_LOG_DEFAULT (&_os_log_default)

extern const char __dso_handle;

os_log_t os_log_create(const char *subsystem, const char *category);
bool os_log_type_enabled(os_log_t log, os_log_type_t type);
void _os_log_impl(const void *dso, os_log_t log, os_log_type_t type, const char *format, uint8_t *buffer, uint32_t size);

#define os_log_with_type(log, type, format, ...)                                                                    \
	do {                                                                                                        \
		os_log_t sallyport_log = (log);                                                                     \
		os_log_type_t sallyport_type = (type);                                                              \
		static const char sallyport_format[]                                                                \
			__attribute__((section("__TEXT,__oslogstring,cstring_literals"))) = format;                 \
		uint8_t sallyport_buffer[__builtin_os_log_format_buffer_size(format, ##__VA_ARGS__)]                \
			__attribute__((aligned(16)));                                                               \
		if (os_log_type_enabled(sallyport_log, sallyport_type))                                             \
			_os_log_impl(&__dso_handle, sallyport_log, sallyport_type, sallyport_format,                \
				     __builtin_os_log_format(sallyport_buffer, format, ##__VA_ARGS__),              \
				     (uint32_t)sizeof(sallyport_buffer));                                           \
	} while (0)

#define os_log(log, format, ...)       os_log_with_type(log, OS_LOG_TYPE_DEFAULT, format, ##__VA_ARGS__)
#define os_log_info(log, format, ...)  os_log_with_type(log, OS_LOG_TYPE_INFO, format, ##__VA_ARGS__)
#define os_log_error(log, format, ...) os_log_with_type(log, OS_LOG_TYPE_ERROR, format, ##__VA_ARGS__)

#endif
