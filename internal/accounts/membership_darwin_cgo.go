//go:build darwin && cgo

package accounts

/*
#include <membership.h>

// sallyport_is_member returns 0 or an errno.
static int sallyport_is_member(uid_t uid, gid_t gid, int *member)
{
	uuid_t user, group;
	int err = mbr_uid_to_uuid(uid, user);

	if (err == 0)
		err = mbr_gid_to_uuid(gid, group);
	if (err == 0)
		err = mbr_check_membership(user, group, member);
	return err;
}
*/
import "C"

import (
	"fmt"
	"syscall"
)

// isMember asks Open Directory. A failure is an error, never a no.
func isMember(uid, gid uint32) (bool, error) {
	var member C.int
	if err := C.sallyport_is_member(C.uid_t(uid), C.gid_t(gid), &member); err != 0 {
		return false, fmt.Errorf("the membership of uid %d in gid %d cannot be told (Open Directory): %w", uid, gid, syscall.Errno(err))
	}
	return member == 1, nil
}
