//go:build darwin && cgo

package acl

/*
#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/acl.h>

// sallyport_acl_gives says whether a file's access list gives anybody anything: 1, 0,
// or -1 and errno. A file without a list is ENOENT.
static int sallyport_acl_gives(const char *path)
{
	acl_t acl = acl_get_file(path, ACL_TYPE_EXTENDED);
	int which = ACL_FIRST_ENTRY, gives = 0;
	acl_entry_t entry;
	acl_tag_t tag;

	if (acl == NULL)
		return errno == ENOENT || errno == ENOTSUP || errno == EOPNOTSUPP ? 0 : -1;
	for (; gives == 0 && acl_get_entry(acl, which, &entry) == 0; which = ACL_NEXT_ENTRY)
		gives = acl_get_tag_type(entry, &tag) != 0 || tag != ACL_EXTENDED_DENY;
	acl_free(acl);
	return gives;
}
*/
import "C"

import "unsafe"

// gives says whether the access list of a file gives anybody anything.
func gives(path string) (bool, error) {
	c := C.CString(path)
	defer C.free(unsafe.Pointer(c))
	r, err := C.sallyport_acl_gives(c)
	if r >= 0 {
		return r > 0, nil
	}
	return true, err
}
