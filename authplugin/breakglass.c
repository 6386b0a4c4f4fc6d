#define _GNU_SOURCE /* O_DIRECTORY, O_NOFOLLOW, O_CLOEXEC */

#include "breakglass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#ifdef __APPLE__
#include <sys/acl.h>
#endif
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "texts.h"

/* Both are the program's own: nothing at run time can put another list in its place. */
#ifndef SALLYPORT_BREAKGLASS_DIR
#define SALLYPORT_BREAKGLASS_DIR "/Library/Application Support/Sallyport"
#endif
static const char directory[] = SALLYPORT_BREAKGLASS_DIR, name[] = "break-glass";

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* One line without its comment; false when it is none. */
static bool parse_line(const char *s, size_t n, uint32_t uid, bool *listed)
{
	static const char prefix[] = "uid:";
	uint64_t value = 0;

	while (n > 0 && is_space(*s)) {
		s++;
		n--;
	}
	while (n > 0 && is_space(s[n - 1]))
		n--;
	if (n == 0)
		return true;
	if (n >= sizeof(prefix) - 1 && memcmp(s, prefix, sizeof(prefix) - 1) == 0) {
		s += sizeof(prefix) - 1;
		n -= sizeof(prefix) - 1;
	}
	if (n == 0 || n > 10 || (s[0] == '0' && n > 1))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(s[i] - '0');
	}
	if (value >= UINT32_MAX) /* (uid_t)-1 is nobody */
		return false;
	if (value == uid)
		*listed = true;
	return true;
}

bool breakglass_parse(const char *text, size_t length, uint32_t uid, bool *good, unsigned *line)
{
	bool listed = false;

	*good = false;
	*line = 0;
	while (length > 0) {
		const char *end = memchr(text, '\n', length);
		size_t whole = end != NULL ? (size_t)(end - text) : length;
		const char *comment = memchr(text, '#', whole);
		size_t n = comment != NULL ? (size_t)(comment - text) : whole;

		++*line;
		if (!parse_line(text, n, uid, &listed))
			return false;
		if (end == NULL)
			break;
		text += whole + 1;
		length -= whole + 1;
	}
	*good = true;
	return listed;
}

/* Whether its access list, which the mode does not show, gives nobody anything (acl(3);
 * internal/acl has the same rule). */
static bool has_no_acl(int fd)
{
#ifdef __APPLE__
	acl_t acl = acl_get_fd_np(fd, ACL_TYPE_EXTENDED);
	int which = ACL_FIRST_ENTRY;
	bool gives = false;
	acl_entry_t entry;
	acl_tag_t tag;

	if (acl == NULL)
		return errno == ENOENT || errno == ENOTSUP || errno == EOPNOTSUPP;
	for (; !gives && acl_get_entry(acl, which, &entry) == 0; which = ACL_NEXT_ENTRY)
		gives = acl_get_tag_type(entry, &tag) != 0 || tag != ACL_EXTENDED_DENY;
	(void)acl_free(acl);
	return !gives;
#else
	(void)fd; /* what a list gives is within the group's bits of the mode: acl(5) */
	return true;
#endif
}

/* Whether nobody but root may change what fd is; why says what is wrong. */
static bool is_roots(int fd, mode_t type, const char **why)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		*why = strerror(errno);
	else if ((st.st_mode & S_IFMT) != type)
		*why = "it is no regular file, or its place is no directory";
	else if (st.st_uid != 0)
		*why = "it, or its directory, does not belong to root";
	else if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		*why = "others than root may write it, or its directory";
	else if (!has_no_acl(fd))
		*why = "it, or its directory, has an access list that gives rights: ls -led";
	else
		return true;
	return false;
}

/* Reads all of it; -1 when that does not go, or it is too long. */
static ssize_t read_all(int fd, char *buf, size_t size)
{
	size_t n = 0;
	ssize_t got;

	while (n < size) {
		got = read(fd, buf + n, size - n);
		if (got == 0)
			return (ssize_t)n;
		if (got < 0 && errno != EINTR)
			return -1;
		if (got > 0)
			n += (size_t)got;
	}
	return -1;
}

static bool refuse(const char *why)
{
	log_line(LOG_LOUD, TEXT_LOG_LIST_REFUSED, why);
	return false;
}

static bool list_names(int fd, uint32_t uid)
{
	char text[BREAKGLASS_MAX + 1], why[64];
	ssize_t n = read_all(fd, text, sizeof(text));
	bool listed, good;
	unsigned line;

	if (n < 0)
		return refuse("it cannot be read, or it is longer than 64 KiB");
	listed = breakglass_parse(text, (size_t)n, uid, &good, &line);
	if (!good) {
		(void)snprintf(why, sizeof(why), "line %u is no uid", line);
		return refuse(why);
	}
	return listed;
}

bool breakglass_lists(uint32_t uid)
{
	const char *why = "";
	bool listed = false;
	int dir, fd;

	dir = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT ? false : refuse(strerror(errno));
	/* O_NONBLOCK: a FIFO would keep the login waiting. */
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		int error = errno;

		(void)close(dir);
		return error == ENOENT ? false : refuse(strerror(error));
	}
	if (is_roots(dir, S_IFDIR, &why) && is_roots(fd, S_IFREG, &why))
		listed = list_names(fd, uid);
	else
		(void)refuse(why);
	(void)close(fd);
	(void)close(dir);
	return listed;
}
