/*
 * Who is in which group, as Open Directory says (mbr_check_membership(3),
 * mbr_uid_to_uuid(3)). For systems without Apple's SDK.
 */
#ifndef SALLYPORT_SDK_MEMBERSHIP_H
#define SALLYPORT_SDK_MEMBERSHIP_H

#include <sys/types.h>
#include <sys/_types/_uuid_t.h>

int mbr_uid_to_uuid(uid_t id, uuid_t uuid);
int mbr_gid_to_uuid(gid_t id, uuid_t uuid);
int mbr_uuid_to_id(const uuid_t uuid, uid_t *id, int *type);
int mbr_check_membership(const uuid_t user, const uuid_t group, int *is_member);

enum {
	ID_TYPE_UID = 0,
	ID_TYPE_GID = 1,
};

#endif
