package statefile

import (
	"strings"
	"testing"
)

func TestWhoMayChangeAFileOnWindows(t *testing.T) {
	const (
		self         = "S-1-5-21-1-2-3-1001"
		other        = "S-1-5-21-1-2-3-1002"
		everyone     = "S-1-1-0"
		users        = "S-1-5-32-545"
		creatorOwner = "S-1-3-0"

		full   rights = 0x001F01FF // FILE_ALL_ACCESS
		read   rights = 0x00120089 // FILE_GENERIC_READ
		run    rights = 0x001200A9 // FILE_GENERIC_READ | FILE_GENERIC_EXECUTE
		change rights = 0x001301BF // what icacls calls M
	)
	allow := func(sid string, mask rights) ace { return ace{aceAllowed, 0, mask, sid} }
	ours := []ace{allow(sidSystem, full), allow(sidAdministrators, full)}
	with := func(more ...ace) security {
		return security{owner: sidAdministrators, entries: append(append([]ace{}, ours...), more...)}
	}
	for name, c := range map[string]struct {
		s                security
		private, guarded bool // accepted
	}{
		"as we make it":                           {with(), true, true},
		"owned by the system":                     {security{owner: sidSystem, entries: ours}, true, true},
		"owned by this process's user":            {security{owner: self, entries: append(ours, allow(self, full))}, true, true},
		"the owner named as such":                 {with(allow(sidOwnerRights, full)), true, true},
		"empty: nobody may do anything":           {security{owner: sidSystem}, true, true},
		"owned by another user":                   {security{owner: other, entries: ours}, false, false},
		"owned by the users":                      {security{owner: users, entries: ours}, false, false},
		"owner unknown":                           {security{entries: ours}, false, false},
		"no DACL":                                 {security{owner: sidSystem, everyone: true}, false, false},
		"users read":                              {with(allow(users, read)), false, true},
		"users read and execute, as below C:\\":   {with(allow(users, run)), false, true},
		"everyone reads, in generic terms":        {with(allow(everyone, genericRead|genericExecute)), false, true},
		"everyone sees attributes only":           {with(allow(everyone, harmless)), true, true},
		"everyone may run it":                     {with(allow(everyone, mayExecute)), false, true},
		"another user may do everything":          {with(allow(other, full)), false, false},
		"users may change it":                     {with(allow(users, change)), false, false},
		"everyone, in generic terms":              {with(allow(everyone, 0x10000000)), false, false},
		"everyone writes, in generic terms":       {with(allow(everyone, 0x40000000)), false, false},
		"users may write":                         {with(allow(users, 0x2)), false, false},
		"users may append":                        {with(allow(users, 0x4)), false, false},
		"users may write extended attributes":     {with(allow(users, 0x10)), false, false},
		"users may delete what is in it":          {with(allow(users, 0x40)), false, false},
		"users may write attributes":              {with(allow(users, 0x100)), false, false},
		"users may delete it":                     {with(allow(users, 0x10000)), false, false},
		"users may change its DACL":               {with(allow(users, 0x40000)), false, false},
		"users may take it":                       {with(allow(users, 0x80000)), false, false},
		"a right nobody has heard of":             {with(allow(users, 0x00800000)), false, false},
		"denied to users only":                    {with(ace{aceDenied, 0, full, users}), true, true},
		"denied first, then given":                {security{owner: sidSystem, entries: []ace{{aceDenied, 0, full, users}, allow(users, full)}}, false, false},
		"given on a condition":                    {with(ace{aceAllowedCallback, 0, full, users}), false, false},
		"given for what is made below only":       {with(ace{aceAllowed, 0x0B, full, creatorOwner}), true, true},
		"given here and for what is made below":   {with(ace{aceAllowed, 0x03, full, creatorOwner}), false, false},
		"inherited from above":                    {with(ace{aceAllowed, 0x10, change, users}), false, false},
		"an object entry, which files never have": {with(ace{0x05, 0, full, ""}), false, false},
		"an entry of no known kind":               {with(ace{0x77, 0, 0, ""}), false, false},
		"an entry without a name":                 {with(allow("", full)), false, false},
	} {
		for what, access := range map[string]struct {
			others rights
			ok     bool
		}{"private": {harmless, c.private}, "guarded": {reading, c.guarded}} {
			err := c.s.check(self, access.others)
			if (err == nil) != access.ok {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			if err != nil && !strings.Contains(err.Error(), "icacls") {
				t.Errorf("%s, %s: no remedy in %q", name, what, err)
			}
		}
	}
	// A process whose user is not known trusts nobody's file for that.
	if err := (security{entries: ours}).check("", harmless); err == nil {
		t.Error("nobody's file is ours")
	}
}

func TestOnlyAFileOfOneNameAndADirectoryAreTaken(t *testing.T) {
	const archive, directory, reparse = 0x20, 0x10, 0x400
	for name, c := range map[string]struct {
		attributes, links uint32
		dir, ok           bool
	}{
		"file":                    {archive, 1, false, true},
		"file, wanted directory":  {archive, 1, true, false},
		"file of two names":       {archive, 2, false, false},
		"file already removed":    {archive, 0, false, false},
		"symbolic link":           {archive | reparse, 1, false, false},
		"directory":               {directory, 1, true, true},
		"directory, wanted file":  {directory, 1, false, false},
		"junction":                {directory | reparse, 1, true, false},
		"junction, wanted a file": {directory | reparse, 1, false, false},
	} {
		if err := checkType(c.attributes, c.links, c.dir); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
